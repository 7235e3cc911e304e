/** What a DELETE does to an object: Kubernetes' rules of finalizers, grace and propagation. Pure. */
import { ApiError, conflict, qualifiedName } from '../core/errors.ts'
import type { DeleteOptions } from '../core/client.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject, Namespace, Pod } from '../core/types/index.ts'

const DEFAULT_GRACE_S = 30
const KEPT_NAMESPACES = new Set(['default', 'kube-system', 'kube-public'])

/** `remove`: it goes now. Otherwise the object to store instead; undefined if nothing changes. */
export type Deletion = { remove: true } | { remove: false; object: ApiObject | undefined }

const time = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`

/** True if nothing holds the object back: it goes with the next write. */
export function isFinished(kind: Kind, object: ApiObject): boolean {
  const { deletionTimestamp, finalizers = [], deletionGracePeriodSeconds = 0 } = object.metadata
  if (deletionTimestamp === undefined || finalizers.length > 0 || deletionGracePeriodSeconds > 0) return false
  return !isNamespace(kind) || ((object as Namespace).spec?.finalizers ?? []).length === 0
}

const isNamespace = (kind: Kind): boolean => kind.group === '' && kind.plural === 'namespaces'
const isPod = (kind: Kind): boolean => kind.group === '' && kind.plural === 'pods'

/** Throws Conflict if a precondition does not hold, Forbidden for namespaces that must stay. */
export function planDeletion(kind: Kind, old: ApiObject, options: DeleteOptions, nowMs: number): Deletion {
  const { metadata } = old
  const { uid, resourceVersion } = options.preconditions ?? {}
  if (uid !== undefined && uid !== metadata.uid) {
    throw conflict(kind, metadata.name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${metadata.uid}`)
  }
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion) {
    throw conflict(kind, metadata.name, `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${metadata.resourceVersion}`)
  }
  if (isNamespace(kind) && KEPT_NAMESPACES.has(metadata.name)) {
    throw new ApiError('Forbidden', `${qualifiedName(kind)} "${metadata.name}" is forbidden: this namespace may not be deleted`, { name: metadata.name, kind: kind.plural })
  }
  const finalizers = withPolicy(kind, metadata.finalizers ?? [], options)
  const graceS = isPod(kind) ? podGrace(old as Pod, options.gracePeriodSeconds) : 0
  const held = finalizers.length > 0 || (isNamespace(kind) && ((old as Namespace).spec?.finalizers ?? []).length > 0)
  if (graceS === 0 && !held) return { remove: true }

  const deleting = metadata.deletionTimestamp !== undefined
  const sameFinalizers = finalizers.join() === (metadata.finalizers ?? []).join()
  if (deleting && sameFinalizers && graceS >= (metadata.deletionGracePeriodSeconds ?? 0)) return { remove: false, object: undefined }
  const startMs = deleting ? Date.parse(metadata.deletionTimestamp!) - (metadata.deletionGracePeriodSeconds ?? 0) * 1000 : nowMs
  const object: ApiObject = {
    ...old,
    metadata: {
      ...metadata, finalizers: finalizers.length > 0 ? finalizers : undefined, deletionTimestamp: time(startMs + graceS * 1000),
      deletionGracePeriodSeconds: graceS, ...(!deleting && metadata.generation !== undefined && { generation: metadata.generation + 1 }),
    } as ApiObject['metadata'],
  }
  if (isNamespace(kind)) (object as Namespace).status = { ...(old as Namespace).status, phase: 'Terminating' }
  return { remove: false, object }
}

function withPolicy(kind: Kind, finalizers: string[], options: DeleteOptions): string[] {
  // Kubernetes' first controllers orphan what they own unless told otherwise.
  const orphansByDefault = (kind.group === '' && kind.plural === 'replicationcontrollers') || (kind.group === 'batch' && kind.plural === 'jobs')
  const policy = options.propagationPolicy
  if (policy === undefined) {
    if (finalizers.includes('orphan') || finalizers.includes('foregroundDeletion') || !orphansByDefault) return finalizers
    return [...finalizers, 'orphan']
  }
  const others = finalizers.filter(f => f !== 'orphan' && f !== 'foregroundDeletion')
  if (policy === 'Orphan') return [...others, 'orphan']
  return policy === 'Foreground' ? [...others, 'foregroundDeletion'] : others
}

/** Seconds until the node must be done with it. A second request can only shorten it. */
function podGrace(pod: Pod, asked: number | undefined): number {
  const phase = pod.status?.phase
  if (!pod.spec.nodeName || phase === 'Succeeded' || phase === 'Failed') return 0
  if (pod.metadata.deletionTimestamp !== undefined) {
    const current = pod.metadata.deletionGracePeriodSeconds ?? 0
    return asked === undefined ? current : Math.min(current, Math.max(0, asked))
  }
  return Math.max(0, asked ?? pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_S)
}
