/** A Pod's status from its view, by Kubernetes' rules. Pure. */
import { formatTime } from '../../core/time.ts'
import type {
  Condition, ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus,
} from '../../core/types/index.ts'
import { restartDelayMs } from './backoff.ts'
import { nextBackoffLevel } from './plan.ts'
import { qosClass } from './qos.ts'
import { ended, initDone, initialized, restarts } from './view.ts'
import type { ContainerView, PodView } from './view.ts'

/** What Kubernetes says of a container that had not run when its Pod ended. */
const NEVER_STARTED: ContainerStateTerminated = {
  exitCode: 137, reason: 'ContainerStatusUnknown', message: 'The container could not be located when the pod was terminated',
}

/** `old` is the status the API holds: transition times and conditions of others are kept from it. */
export function podStatus(view: PodView, old: PodStatus | undefined, hostIP: string, nowMs: number): PodStatus {
  const phase = podPhase(view)
  const inits = view.containers.filter(c => c.role !== 'main')
  const mains = view.containers.filter(c => c.role === 'main')
  const initOk = initialized(view)
  const finished = phase === 'Succeeded' || phase === 'Failed'
  const notReady = view.containers.filter(c => c.role !== 'init' && !isReady(c)).map(c => c.name)
  const notInit = inits.filter(c => !initDone(c)).map(c => c.name)
  const containersReady = !finished && notReady.length === 0
  const why = finished
    ? { reason: phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed' }
    : { reason: 'ContainersNotReady', message: `containers with unready status: [${notReady.join(' ')}]` }
  const gates = (view.spec.readinessGates ?? []).map(g => g.conditionType)
    .filter(t => old?.conditions?.find(c => c.type === t)?.status !== 'True')
  const ready = containersReady && gates.length === 0
  const conditions = [
    condition('PodScheduled', true, {}, old, nowMs),
    condition('PodReadyToStartContainers', view.sandbox === 'ready', {}, old, nowMs),
    condition('Initialized', initOk, initOk && phase === 'Succeeded' ? { reason: 'PodCompleted' } : initOk ? {} : {
      reason: 'ContainersNotInitialized', message: `containers with incomplete status: [${notInit.join(' ')}]`,
    }, old, nowMs),
    condition('ContainersReady', containersReady, containersReady ? {} : why, old, nowMs),
    condition('Ready', ready, ready ? {} : containersReady ? {
      reason: 'ReadinessGatesNotReady', message: `corresponding condition of pod readiness gate "${gates[0]}" is not True.`,
    } : why, old, nowMs),
  ]
  const own = new Set(conditions.map(c => c.type))
  const status: PodStatus = {
    phase,
    conditions: [...conditions, ...(old?.conditions ?? []).filter(c => !own.has(c.type))],
    hostIP, hostIPs: [{ ip: hostIP }],
    qosClass: qosClass(view.spec),
  }
  if (view.podIP !== undefined) Object.assign(status, { podIP: view.podIP, podIPs: [{ ip: view.podIP }] })
  if (view.startTimeMs !== undefined) status.startTime = formatTime(view.startTimeMs)
  // Of a Pod that was turned away before anything of it ran there is nothing to say; an empty list replaces what was said of waiting.
  const began = view.failed === undefined || view.containers.some(c => c.state !== 'none')
  const statuses = (of: ContainerView[]): ContainerStatus[] => began ? of.map(c => containerStatus(c, view, initOk)) : []
  if (inits.length > 0) status.initContainerStatuses = statuses(inits)
  status.containerStatuses = statuses(mains)
  if (view.failed?.reason !== undefined) status.reason = view.failed.reason
  if (view.failed?.message !== undefined) status.message = view.failed.message
  return status
}

export function podPhase(view: PodView): NonNullable<PodStatus['phase']> {
  const alive = view.containers.some(c => c.state === 'running' || c.op === 'start')
  const end = ended(view)
  if (end !== undefined && (view.failed !== undefined ? !alive : true)) return end
  const mains = view.containers.filter(c => c.role === 'main')
  if (view.deleting !== undefined && !alive && mains.some(c => c.state === 'exited')) {
    return mains.every(c => c.state === 'exited' && c.exitCode === 0) ? 'Succeeded' : 'Failed'
  }
  if (!initialized(view)) return 'Pending'
  if (mains.some(c => c.state === 'none')) return 'Pending'
  return 'Running'
}

function isReady(c: ContainerView): boolean { return c.state === 'running' && c.started && c.ready }

function containerStatus(c: ContainerView, view: PodView, initOk: boolean): ContainerStatus {
  const terminated = c.state === 'exited' ? terminatedState(c) : undefined
  const restarting = c.state === 'exited' && view.deleting === undefined && ended(view) === undefined
    && (c.role === 'main' || !initOk || c.role === 'sidecar') && restarts(c, view.spec.restartPolicy ?? 'Always')
  let state: ContainerState
  let last: ContainerStateTerminated | undefined = c.last
  if (c.state === 'running') state = { running: c.startedAtMs === undefined ? {} : { startedAt: formatTime(c.startedAtMs) } }
  else if (restarting && c.waiting !== undefined) {
    state = { waiting: c.waiting }
    last = terminated
  } else if (restarting && restartDelayMs(nextBackoffLevel(c)) > 0 && c.op !== 'start') {
    const s = restartDelayMs(nextBackoffLevel(c)) / 1000
    const delay = s >= 60 ? `${Math.floor(s / 60)}m${s % 60}s` : `${s}s`
    state = { waiting: { reason: 'CrashLoopBackOff', message: `back-off ${delay} restarting failed container=${c.name}` } }
    last = terminated
  } else if (terminated !== undefined) state = { terminated }
  else if (view.failed !== undefined && initOk) state = { terminated: NEVER_STARTED }
  else if (c.waiting !== undefined) state = { waiting: c.waiting }
  else state = { waiting: { reason: c.role === 'main' && !initOk ? 'PodInitializing' : waitingReason(view) } }
  const ready = c.role === 'init' ? initDone(c) : isReady(c)
  return {
    name: c.name, state, ...(last !== undefined && { lastState: { terminated: last } }),
    ready, started: c.state === 'running' && c.started,
    restartCount: c.attempt, image: c.spec.image ?? '', imageID: c.imageId ?? '',
    ...(c.id !== undefined && { containerID: `containerd://${c.id}` }),
  }
}

function waitingReason(view: PodView): string {
  return view.containers.some(c => c.role !== 'main') && view.sandbox === 'ready' ? 'PodInitializing' : 'ContainerCreating'
}

export function terminatedState(c: Pick<
  ContainerView, 'exitCode' | 'oomKilled' | 'startError' | 'terminationMessage' | 'startedAtMs' | 'finishedAtMs' | 'id'
>): ContainerStateTerminated {
  const exitCode = c.exitCode ?? 137
  const message = c.startError ?? c.terminationMessage
  return {
    exitCode,
    reason: c.startError !== undefined ? 'ContainerCannotRun' : c.oomKilled === true ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error',
    ...(message !== undefined && message !== '' && { message }),
    ...(c.startedAtMs !== undefined && { startedAt: formatTime(c.startedAtMs) }),
    ...(c.finishedAtMs !== undefined && { finishedAt: formatTime(c.finishedAtMs) }),
    ...(c.id !== undefined && { containerID: `containerd://${c.id}` }),
  }
}

function condition(
  type: string, yes: boolean, why: { reason?: string; message?: string }, old: PodStatus | undefined, nowMs: number,
): Condition {
  const before = old?.conditions?.find(c => c.type === type)
  const status = yes ? 'True' : 'False'
  const changed = before?.status !== status
  return { type, status, lastTransitionTime: changed ? formatTime(nowMs) : before.lastTransitionTime ?? formatTime(nowMs), ...why }
}
