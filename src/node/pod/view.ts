/** What the agent knows of one Pod on this machine: the input of planning and of the status. Plain data. */
import type { Container, ContainerStateTerminated, PodSpec } from '../../core/types/index.ts'

/** `init` runs to success before the next; `sidecar` is an init container with restartPolicy Always. */
export type Role = 'init' | 'sidecar' | 'main'

export interface ContainerView {
  name: string
  role: Role
  spec: Container
  /** Of the current attempt; `none` before the first. */
  state: 'none' | 'running' | 'exited'
  /** Engine id of the current attempt. */
  id?: string
  /** Number of the current attempt from 0: the restart count. */
  attempt: number
  /** Level of {@link restartDelayMs} the current attempt was started at. */
  backoffLevel: number
  /** Reference the current attempt was made from. */
  image?: string
  imageId?: string
  startedAtMs?: number
  finishedAtMs?: number
  exitCode?: number
  oomKilled?: boolean
  /** Why the current attempt could not be started. */
  startError?: string
  terminationMessage?: string
  /** The attempt before. */
  last?: ContainerStateTerminated
  /** The image is known to be on this machine. */
  imagePresent: boolean
  /** The startup probe has passed and postStart is done. */
  started: boolean
  /** The readiness probe's word. */
  ready: boolean
  /** What is being done to it now. */
  op?: 'pull' | 'start' | 'stop'
  /** While stopping: when SIGKILL is due. */
  stopDeadlineMs?: number
  /** Somebody wants it stopped although the Pod goes on: a failed probe or hook, a changed image. */
  stopWanted?: { message: string; graceMs?: number }
  /** Set-up failed (image, configuration, creation): no new try before. */
  retryAtMs?: number
  waiting?: { reason: string; message?: string }
}

export interface PodView {
  uid: string
  spec: PodSpec
  /** Set while the Pod is being deleted; `deadlineMs` is when the last grace ends. */
  deleting?: { deadlineMs: number }
  /** It is no longer in the API: clean up without a last delete. */
  gone: boolean
  /** The Pod as a whole has ended for a reason of its own, or was ended by others. */
  failed?: { reason?: string; message?: string; phase: 'Failed' | 'Succeeded' }
  startTimeMs?: number
  sandbox: 'none' | 'ready'
  volumes: 'none' | 'ready'
  /** Everything on this machine that was made for it has been removed. */
  clean: boolean
  /** The API was asked to remove the object. */
  deleted: boolean
  podIP?: string
  /** Work on the Pod as a whole in progress. */
  ops: Set<'sandbox' | 'volumes' | 'release' | 'teardown' | 'delete'>
  sandboxRetryAtMs?: number
  volumesRetryAtMs?: number
  /** In the order of the spec: init containers first. */
  containers: ContainerView[]
}

export function containerViews(spec: PodSpec): ContainerView[] {
  const make = (c: Container, role: Role): ContainerView => ({
    name: c.name, role, spec: c, state: 'none', attempt: 0, backoffLevel: 0, imagePresent: false, started: false, ready: false,
  })
  return [
    ...(spec.initContainers ?? []).map(c => make(c, c.restartPolicy === 'Always' ? 'sidecar' : 'init')),
    ...spec.containers.map(c => make(c, 'main')),
  ]
}

/** All init containers have done their part: the main ones may run. */
export function initialized(view: PodView): boolean {
  return view.containers.some(c => c.role === 'main' && c.state !== 'none')
    || view.containers.every(c => c.role === 'main' || initDone(c))
}

export function initDone(c: ContainerView): boolean {
  return c.role === 'sidecar' ? c.state === 'running' && c.started : c.state === 'exited' && c.exitCode === 0
}

/** Whether the container, having exited, is to run again. */
export function restarts(c: ContainerView, policy: PodSpec['restartPolicy']): boolean {
  if (c.role === 'sidecar') return true
  if (c.role === 'init') return policy !== 'Never' && c.exitCode !== 0
  return policy === 'Never' ? false : policy === 'OnFailure' ? c.exitCode !== 0 : true
}

/** The Pod has come to its end by itself: every main container has exited for good, or an init container has failed for good. */
export function ended(view: PodView): 'Succeeded' | 'Failed' | undefined {
  const policy = view.spec.restartPolicy ?? 'Always'
  if (view.failed !== undefined) return view.failed.phase
  const mains = view.containers.filter(c => c.role === 'main')
  if (!initialized(view)) {
    const broken = view.containers.some(c => c.role === 'init' && c.state === 'exited' && c.exitCode !== 0 && !restarts(c, policy))
    return broken ? 'Failed' : undefined
  }
  if (mains.some(c => c.state !== 'exited' || restarts(c, policy) || c.op === 'start')) return undefined
  return mains.every(c => c.exitCode === 0) ? 'Succeeded' : 'Failed'
}
