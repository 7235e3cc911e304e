/** Objects as tables and as bare metadata. */
import type { Kind } from '../../core/kinds.ts'
import { tableCells, tableColumns } from '../../core/table.ts'
import { badRequest } from '../../core/errors.ts'
import type { ApiObject } from '../../core/types/index.ts'
import type { Cached } from '../cached.ts'
import type { Form } from './accept.ts'

export type IncludeObject = 'None' | 'Metadata' | 'Object'

export function includeObjectOf(query: URLSearchParams): IncludeObject {
  const asked = query.get('includeObject') ?? 'Metadata'
  if (asked !== 'None' && asked !== 'Metadata' && asked !== 'Object') throw badRequest(`includeObject: ${asked} is none of None, Metadata, Object`)
  return asked
}

export function partialOf(object: ApiObject, form: Form): object {
  return { kind: 'PartialObjectMetadata', apiVersion: form.metaVersion, metadata: object.metadata }
}

/** A Table of the objects. Columns are left out of a watch's later events. */
export function tableOf(
  kind: Kind, items: readonly Cached[], form: Form, include: IncludeObject, metadata: object, withColumns = true,
): object {
  const now = new Date()
  return {
    kind: 'Table', apiVersion: form.metaVersion, metadata,
    columnDefinitions: withColumns ? tableColumns(kind) : null,
    rows: items.map(({ object }) => ({
      cells: tableCells(kind, object, now),
      ...(include === 'None' ? {} : { object: include === 'Object' ? object : partialOf(object, form) }),
    })),
  }
}
