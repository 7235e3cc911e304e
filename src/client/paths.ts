/** The URL of an object or collection, as Kubernetes lays out its API. */
import type { Key, ListOptions, PatchType, WriteOptions } from '../core/client.ts'
import type { Kind } from '../core/kinds.ts'

/** `/api/v1/namespaces/NS/pods`; without a namespace the collection over all of them. */
export function collectionPath(kind: Kind, namespace?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`
  return kind.namespaced && namespace !== undefined
    ? `${root}/namespaces/${encodeURIComponent(namespace)}/${kind.plural}`
    : `${root}/${kind.plural}`
}

/** Throws TypeError for a namespaced kind without a namespace: the URL would name something else. */
export function objectPath(kind: Kind, key: Key, subresource?: string): string {
  if (kind.namespaced && key.namespace === undefined) throw new TypeError(`${kind.plural} "${key.name}": the namespace is missing`)
  const path = `${collectionPath(kind, key.namespace)}/${encodeURIComponent(key.name)}`
  return subresource === undefined ? path : `${path}/${subresource}`
}

export function listQuery(options: Omit<ListOptions, 'namespace'>): URLSearchParams {
  const query = new URLSearchParams()
  if (options.labelSelector) query.set('labelSelector', options.labelSelector)
  if (options.fieldSelector) query.set('fieldSelector', options.fieldSelector)
  if (options.limit !== undefined) query.set('limit', String(options.limit))
  if (options.continue) query.set('continue', options.continue)
  return query
}

export function writeQuery(options: WriteOptions): URLSearchParams {
  const query = new URLSearchParams()
  if (options.fieldManager !== undefined) query.set('fieldManager', options.fieldManager)
  if (options.dryRun) query.set('dryRun', 'All')
  if (options.force) query.set('force', 'true')
  return query
}

/** A path with its query, if there is any. */
export function withQuery(path: string, query: URLSearchParams): string {
  return query.size === 0 ? path : `${path}?${query}`
}

export const PATCH_CONTENT_TYPE: Record<PatchType, string> = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
}
