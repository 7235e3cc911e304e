/** A Deployment's status and conditions, as kubectl rollout and helm read them. Pure. */
import type { Condition, Deployment, ReplicaSet } from '../../core/types/index.ts'
import { replicasOf } from './revisions.ts'

export type DeploymentStatus = NonNullable<Deployment['status']>

export interface StatusInput {
  deployment: Deployment
  fresh: ReplicaSet | undefined
  /** All, the fresh one too. */
  sets: readonly ReplicaSet[]
  maxUnavailable: number
  /** RFC 3339. */
  now: string
  /** What happened in this pass, if it tells of progress: `NewReplicaSetCreated`, … */
  news?: Pick<Condition, 'reason' | 'message'> | undefined
  collisionCount?: number | undefined
}

const FINISHED = 'NewReplicaSetAvailable'

export function statusOf(input: StatusInput): DeploymentStatus {
  const { deployment: d, fresh, sets, now } = input
  const old = d.status ?? {}
  const of = (pick: (s: NonNullable<ReplicaSet['status']>) => number | undefined) => sets.reduce((n, rs) => n + ((rs.status && pick(rs.status)) ?? 0), 0)
  const available = of((s) => s.availableReplicas)
  const collisionCount = input.collisionCount ?? old.collisionCount
  const status: DeploymentStatus = {
    observedGeneration: d.metadata.generation ?? 0,
    replicas: of((s) => s.replicas),
    updatedReplicas: fresh?.status?.replicas ?? 0,
    readyReplicas: of((s) => s.readyReplicas),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, sets.reduce((n, rs) => n + replicasOf(rs), 0) - available),
    ...(collisionCount !== undefined && { collisionCount }),
  }
  let conditions = old.conditions ?? []
  const enough = available >= replicasOf(d) - input.maxUnavailable
  conditions = withCondition(conditions, enough
    ? { type: 'Available', status: 'True', reason: 'MinimumReplicasAvailable', message: 'Deployment has minimum availability.' }
    : { type: 'Available', status: 'False', reason: 'MinimumReplicasUnavailable', message: 'Deployment does not have minimum availability.' }, now)
  const progress = progressOf(input, status)
  if (progress !== undefined) conditions = withCondition(conditions, progress, now, progress.reason === 'ReplicaSetUpdated')
  const failure = [fresh, ...sets].flatMap((rs) => rs?.status?.conditions ?? []).find((c) => c.type === 'ReplicaFailure')
  conditions = failure === undefined
    ? conditions.filter((c) => c.type !== 'ReplicaFailure')
    : withCondition(conditions, { type: 'ReplicaFailure', status: failure.status, ...pickWhy(failure) }, now)
  status.conditions = conditions
  return status
}

/** All replicas are of the current template and available, and no old Pod is left. */
export function isComplete(d: Deployment, s: DeploymentStatus): boolean {
  const n = replicasOf(d)
  return s.updatedReplicas === n && s.replicas === n && s.availableReplicas === n && (s.observedGeneration ?? 0) >= (d.metadata.generation ?? 0)
}

/** When the rollout will have taken too long, in ms since the epoch; undefined if it is not being waited for. */
export function deadlineMs(d: Deployment, s: DeploymentStatus): number | undefined {
  const c = s.conditions?.find((x) => x.type === 'Progressing')
  if (d.spec.progressDeadlineSeconds === undefined || d.spec.paused === true || c?.status !== 'True' || c.reason === FINISHED) return undefined
  return Date.parse(c.lastUpdateTime ?? '') + d.spec.progressDeadlineSeconds * 1000
}

function progressOf({ deployment: d, fresh, news, now }: StatusInput, s: DeploymentStatus): Condition | undefined {
  const old = d.status ?? {}
  const current = old.conditions?.find((c) => c.type === 'Progressing')
  if (d.spec.progressDeadlineSeconds === undefined) return undefined
  if (d.spec.paused === true) {
    if (current?.reason === 'DeploymentPaused') return undefined
    return { type: 'Progressing', status: 'Unknown', reason: 'DeploymentPaused', message: 'Deployment is paused' }
  }
  const subject = fresh === undefined ? `Deployment "${d.metadata.name}"` : `ReplicaSet "${fresh.metadata.name}"`
  if (isComplete(d, s)) return { type: 'Progressing', status: 'True', reason: FINISHED, message: `${subject} has successfully progressed.` }
  if (news !== undefined) return { type: 'Progressing', status: 'True', ...pickWhy(news) }
  if (current?.reason === 'DeploymentPaused') {
    return { type: 'Progressing', status: 'Unknown', reason: 'DeploymentResumed', message: 'Deployment is resumed' }
  }
  // A finished rollout that lost a Pod is not a rollout.
  if (current?.reason === FINISHED && s.replicas === s.updatedReplicas) return undefined
  const oldPods = (x: DeploymentStatus) => (x.replicas ?? 0) - (x.updatedReplicas ?? 0)
  const forward = (s.updatedReplicas ?? 0) > (old.updatedReplicas ?? 0) || oldPods(s) < oldPods(old)
    || (s.readyReplicas ?? 0) > (old.readyReplicas ?? 0) || (s.availableReplicas ?? 0) > (old.availableReplicas ?? 0)
  if (forward || current === undefined || current.reason === FINISHED || current.reason === 'DeploymentResumed') {
    return { type: 'Progressing', status: 'True', reason: 'ReplicaSetUpdated', message: `${subject} is progressing.` }
  }
  const sinceMs = Date.parse(current.lastUpdateTime ?? '')
  if (current.status === 'True' && Date.parse(now) >= sinceMs + d.spec.progressDeadlineSeconds * 1000) {
    return { type: 'Progressing', status: 'False', reason: 'ProgressDeadlineExceeded', message: `${subject} has timed out progressing.` }
  }
  return undefined
}

function pickWhy(c: Pick<Condition, 'reason' | 'message'>): Pick<Condition, 'reason' | 'message'> {
  return { ...(c.reason !== undefined && { reason: c.reason }), ...(c.message !== undefined && { message: c.message }) }
}

/** `touch`: the condition says again what it said, and that is news (the rollout goes on). */
function withCondition(list: readonly Condition[], c: Condition, now: string, touch = false): Condition[] {
  const old = list.find((x) => x.type === c.type)
  if (old !== undefined && old.status === c.status && old.reason === c.reason && (!touch || old.lastUpdateTime === now)) {
    return [...list]
  }
  const lastTransitionTime = old?.status === c.status ? old.lastTransitionTime ?? now : now
  const next = { ...c, lastUpdateTime: now, lastTransitionTime }
  return old === undefined ? [...list, next] : list.map((x) => x === old ? next : x)
}
