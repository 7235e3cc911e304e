/**
 * What is to be done next for one Pod. A pure function of its view and the clock: it can be asked again at any time, and
 * work that is in progress (`op`, `ops`) is never planned twice.
 */
import { BACKOFF_RESET_MS, restartDelayMs } from './backoff.ts'
import { ended, initDone, initialized, restarts } from './view.ts'
import type { ContainerView, PodView } from './view.ts'

export type Step =
  | { do: 'sandbox' }
  | { do: 'volumes' }
  | { do: 'pull'; container: string }
  /** Makes and starts attempt number `attempt`. */
  | { do: 'start'; container: string; attempt: number; backoffLevel: number }
  /** preStop and the stop signal, SIGKILL at `deadlineMs`. */
  | { do: 'stop'; container: string; deadlineMs: number; message: string }
  /** The Pod has ended by its deadline. */
  | { do: 'fail'; reason: string; message: string }
  /** Gives the network back; containers and their logs stay. */
  | { do: 'release' }
  /** Removes containers, network, volumes and files. */
  | { do: 'teardown' }
  /** The last delete in the API. */
  | { do: 'delete' }

export interface Plan {
  steps: Step[]
  /** Plan again then, if nothing happens before. */
  wakeAtMs?: number
}

/** Level at which the attempt after this one is started: one more, from 0 again after a long run. */
export function nextBackoffLevel(c: ContainerView): number {
  const ranMs = c.startedAtMs === undefined ? 0 : (c.finishedAtMs ?? c.startedAtMs) - c.startedAtMs
  return ranMs >= BACKOFF_RESET_MS ? 0 : c.attempt === 0 ? 0 : c.backoffLevel + 1
}

/** When an exited container may start again. */
export function restartAtMs(c: ContainerView): number { return (c.finishedAtMs ?? 0) + restartDelayMs(nextBackoffLevel(c)) }

export function plan(view: PodView, nowMs: number): Plan {
  if (view.deleting !== undefined || view.gone) return planEnd(view, view.deleting?.deadlineMs ?? nowMs, true)
  if (ended(view) !== undefined) return planEnd(view, nowMs + graceMs(view), false)
  const out: Plan = { steps: [] }
  const deadlineS = view.spec.activeDeadlineSeconds
  if (deadlineS !== undefined && view.startTimeMs !== undefined) {
    const atMs = view.startTimeMs + deadlineS * 1000
    if (nowMs >= atMs) {
      return { steps: [{ do: 'fail', reason: 'DeadlineExceeded', message: 'Pod was active on the node longer than the specified deadline' }] }
    }
    wake(out, atMs)
  }
  for (const c of view.containers) {
    if (c.state === 'running' && c.stopWanted !== undefined && c.op === undefined) {
      out.steps.push({ do: 'stop', container: c.name, deadlineMs: nowMs + (c.stopWanted.graceMs ?? graceMs(view)), message: c.stopWanted.message })
    }
  }
  due(view.sandbox === 'none' && !view.ops.has('sandbox'), view.sandboxRetryAtMs, { do: 'sandbox' }, nowMs, out)
  due(view.volumes === 'none' && !view.ops.has('volumes'), view.volumesRetryAtMs, { do: 'volumes' }, nowMs, out)
  planStarts(view, nowMs, out)
  return out
}

function planStarts(view: PodView, nowMs: number, out: Plan): void {
  const policy = view.spec.restartPolicy ?? 'Always'
  const prepared = view.sandbox === 'ready' && view.volumes === 'ready'
  const initsDone = initialized(view)
  // Containers start one after another, in order; one that waits for its time does not hold up those behind it.
  let starting = view.containers.some(c => c.op === 'start')
  for (const c of view.containers) {
    if (initsDone && c.role === 'init') continue
    const wanted = c.state === 'none' || (c.state === 'exited' && restarts(c, policy))
    if (wanted && c.op === undefined) {
      const atMs = Math.max(c.retryAtMs ?? 0, c.state === 'exited' ? restartAtMs(c) : 0)
      if (atMs > nowMs) wake(out, atMs)
      else if (!c.imagePresent) out.steps.push({ do: 'pull', container: c.name })
      else if (prepared && !starting) {
        starting = true
        out.steps.push(c.state === 'none'
          ? { do: 'start', container: c.name, attempt: 0, backoffLevel: 0 }
          : { do: 'start', container: c.name, attempt: c.attempt + 1, backoffLevel: nextBackoffLevel(c) })
      }
    }
    if (!initsDone && c.role !== 'main' && !initDone(c)) return
  }
}

/** Main containers stop together, then sidecars in reverse order; then what the Pod holds is given back. */
function planEnd(view: PodView, deadlineMs: number, remove: boolean): Plan {
  const steps: Step[] = []
  const alive = (c: ContainerView): boolean => c.state === 'running' || c.op === 'start'
  const mains = view.containers.filter(c => c.role !== 'sidecar' && alive(c))
  const lastSidecar = view.containers.findLast(c => c.role === 'sidecar' && alive(c))
  const stopping = mains.length > 0 ? mains : lastSidecar === undefined ? [] : [lastSidecar]
  for (const c of stopping) {
    if (c.op === 'start') continue
    if (c.op === 'stop' && c.stopDeadlineMs !== undefined && c.stopDeadlineMs <= deadlineMs) continue
    steps.push({ do: 'stop', container: c.name, deadlineMs, message: `Stopping container ${c.name}` })
  }
  if (stopping.length > 0 || view.containers.some(c => c.op !== undefined) || view.ops.size > 0) return { steps }
  if (!remove) {
    if (view.sandbox === 'ready') steps.push({ do: 'release' })
  } else if (!view.clean) steps.push({ do: 'teardown' })
  else if (!view.gone && !view.deleted) steps.push({ do: 'delete' })
  return { steps }
}

function graceMs(view: PodView): number { return (view.spec.terminationGracePeriodSeconds ?? 30) * 1000 }

function due(wanted: boolean, atMs: number | undefined, step: Step, nowMs: number, out: Plan): void {
  if (!wanted) return
  if (atMs !== undefined && atMs > nowMs) wake(out, atMs)
  else out.steps.push(step)
}

function wake(out: Plan, atMs: number): void { out.wakeAtMs = Math.min(out.wakeAtMs ?? Infinity, atMs) }
