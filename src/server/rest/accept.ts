/** Which form of an object the client asked for. */
import { ApiError } from '../../core/errors.ts'

export interface Form {
  as: 'object' | 'table' | 'partial'
  /** `meta.k8s.io/v1` or `…/v1beta1`: apiVersion of tables and partial objects. */
  metaVersion: string
}

const OBJECT: Form = { as: 'object', metaVersion: 'meta.k8s.io/v1' }
const known = new Map<string, Form>()

/** The first form in the header that can be served. Throws NotAcceptable (406). */
export function formOf(accept: string | undefined): Form {
  if (accept === undefined || accept === '' || accept === 'application/json') return OBJECT
  const before = known.get(accept)
  if (before !== undefined) return before
  const form = parse(accept)
  if (form === undefined) {
    throw new ApiError('NotAcceptable', 'only the following media types are accepted: application/json, application/json;as=Table;g=meta.k8s.io;v=v1, '
      + 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1')
  }
  // Clients use a handful of headers; the bound is against those that do not.
  if (known.size < 500) known.set(accept, form)
  return form
}

function parse(accept: string): Form | undefined {
  for (const part of accept.split(',')) {
    const [type, ...parameters] = part.split(';').map(p => p.trim())
    if (type !== 'application/json' && type !== '*/*' && type !== 'application/*') continue
    const values = new Map(parameters.map(p => p.split('=', 2) as [string, string]))
    const as = values.get('as')
    if (as === undefined) return OBJECT
    const metaVersion = `${values.get('g') ?? 'meta.k8s.io'}/${values.get('v') ?? 'v1'}`
    if (metaVersion !== 'meta.k8s.io/v1' && metaVersion !== 'meta.k8s.io/v1beta1') continue
    if (as === 'Table') return { as: 'table', metaVersion }
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return { as: 'partial', metaVersion }
  }
  return undefined
}
