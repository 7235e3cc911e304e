/** The three patch types that edit an object; server-side apply is in apply.ts. */
import { clone, isRecord } from '../clone.ts'
import { ApiError, badRequest } from '../errors.ts'
import type { Kind } from '../kinds.ts'
import { typeOf } from '../schema/registry.ts'
import type { ApiObject } from '../types/index.ts'
import { jsonPatch } from './json-patch.ts'
import { mergePatch } from './merge-patch.ts'
import { strategicMerge } from './strategic.ts'

/** By a request's Content-Type, without parameters. */
export const PATCH_TYPES: Readonly<Record<string, 'json' | 'merge' | 'strategic' | 'apply'>> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
}

/**
 * The patched object, sharing nothing with `current`; it must still pass validateShape and prepareUpdate. Throws BadRequest for a
 * malformed patch, Invalid where a JSON patch does not fit, UnsupportedMediaType for a strategic one on a kind without a table.
 */
export function applyPatch<T extends ApiObject>(
  kind: Kind<T>, type: 'json' | 'merge' | 'strategic', current: T, body: unknown,
): T {
  const result = patched(kind, type, current, body)
  if (!isRecord(result) || !isRecord(result['metadata'])) throw badRequest('the patch does not leave an object with metadata')
  return result as unknown as T
}

function patched(kind: Kind, type: 'json' | 'merge' | 'strategic', current: ApiObject, body: unknown): unknown {
  if (type === 'json') return jsonPatch(current, body)
  if (!isRecord(body)) throw badRequest('the patch must be an object')
  if (type === 'merge') return mergePatch(clone(current), body)
  const message = typeOf(kind.apiVersion, kind.kind)
  if (!message) {
    throw new ApiError('UnsupportedMediaType',
      `the body of the request was in an unknown format - strategic merge patch is not supported for ${kind.kind}; `
      + 'accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml')
  }
  return strategicMerge(current as unknown as Record<string, unknown>, body, message)
}
