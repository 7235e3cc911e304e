/** ReplicaSets as revisions of a Deployment: which one is current, what it is called, which revision it bears. */
import { clone, equal, isRecord } from '../../core/clone.ts'
import { replicaSets, deployments } from '../../core/kinds.ts'
import type { Deployment, PodTemplateSpec, ReplicaSet } from '../../core/types/index.ts'
import { controllerReference } from '../context.ts'

export const HASH_LABEL = 'pod-template-hash'
export const REVISION = 'deployment.kubernetes.io/revision'
export const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history'
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas'
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas'

/** Annotations that belong to one object and are not passed on. */
const OWN = new Set([
  REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS,
  'kubectl.kubernetes.io/last-applied-configuration', 'deprecated.deployment.rollback.to',
])

export function revisionOf(rs: ReplicaSet): number { return Number(rs.metadata.annotations?.[REVISION] ?? 0) || 0 }

export function byAge(a: ReplicaSet, b: ReplicaSet): number {
  const [x, y] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? '']
  return x !== y ? (x < y ? -1 : 1) : revisionOf(a) - revisionOf(b) || (a.metadata.name < b.metadata.name ? -1 : 1)
}

/** The ReplicaSet that holds the Deployment's template; the oldest if there are several. */
export function currentOf(d: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  return [...sets].sort(byAge).find((rs) => equal(withoutHash(rs.spec.template), withoutHash(d.spec.template)))
}

function withoutHash(t: PodTemplateSpec): PodTemplateSpec {
  const { [HASH_LABEL]: _, ...labels } = t.metadata?.labels ?? {}
  const { name: __, ...metadata } = t.metadata ?? {}
  return { ...t, metadata: { ...metadata, labels } }
}

/** The revision a current ReplicaSet must bear: above all others. */
export function nextRevision(current: ReplicaSet | undefined, sets: readonly ReplicaSet[]): number {
  const highest = Math.max(0, ...sets.filter((rs) => rs !== current).map(revisionOf))
  return Math.max(highest + 1, current === undefined ? 0 : revisionOf(current))
}

export function newReplicaSet(d: Deployment, replicas: number, maxReplicas: number, revision: number): ReplicaSet {
  const hash = templateHash(d.spec.template, d.status?.collisionCount ?? 0)
  const template = clone(d.spec.template)
  template.metadata = { ...template.metadata, labels: { ...template.metadata?.labels, [HASH_LABEL]: hash } }
  const selector = clone(d.spec.selector)
  selector.matchLabels = { ...selector.matchLabels, [HASH_LABEL]: hash }
  return {
    apiVersion: replicaSets.apiVersion, kind: replicaSets.kind,
    metadata: {
      name: `${d.metadata.name}-${hash}`, namespace: d.metadata.namespace!, labels: template.metadata.labels!,
      annotations: annotationsFor(d, undefined, revision, maxReplicas),
      ownerReferences: [controllerReference(deployments, d)],
    },
    spec: { replicas, ...(d.spec.minReadySeconds !== undefined && { minReadySeconds: d.spec.minReadySeconds }), selector, template },
  }
}

/** The annotations a ReplicaSet must bear; a revision that it loses is kept as history. */
export function annotationsFor(
  d: Deployment, rs: ReplicaSet | undefined, revision: number, maxReplicas: number,
): Record<string, string> {
  const out = { ...rs?.metadata.annotations }
  for (const [k, v] of Object.entries(d.metadata.annotations ?? {})) if (!OWN.has(k)) out[k] = v
  const before = out[REVISION]
  if (before !== undefined && before !== String(revision)) {
    out[REVISION_HISTORY] = out[REVISION_HISTORY] === undefined ? before : `${out[REVISION_HISTORY]},${before}`
  }
  out[REVISION] = String(revision)
  out[DESIRED_REPLICAS] = String(replicasOf(d))
  out[MAX_REPLICAS] = String(maxReplicas)
  return out
}

export function replicasOf(o: Deployment | ReplicaSet): number { return o.spec.replicas ?? 1 }

/** Ten characters at most, of an alphabet that spells no words. Equal templates give equal hashes. */
export function templateHash(template: PodTemplateSpec, collisions: number): string {
  let h = fnv1a(canonicalJson(template))
  if (collisions > 0) h = fnv1a(`${h}/${collisions}`)
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789'
  return [...String(h)].map((c) => alphabet[c.charCodeAt(0) % alphabet.length]).join('')
}

function fnv1a(text: string): number {
  let h = 0x811c9dc5
  for (const byte of Buffer.from(text)) h = Math.imul(h ^ byte, 0x01000193) >>> 0
  return h
}

/** Members in order of their names, so that the order they were written in does not matter. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null'
  const members = Object.keys(value).filter((k) => value[k] !== undefined).sort()
  return `{${members.map((k) => `${JSON.stringify(k)}:${canonicalJson(value[k])}`).join(',')}}`
}
