/** What an earlier agent left: a Pod's containers are found again by their labels. */
import type { ContainerInfo } from '../../engine/engine.ts'
import type { Pod } from '../../core/types/index.ts'
import { LABEL } from './container-spec.ts'
import { terminatedState } from './status.ts'
import type { ContainerView, PodView } from './view.ts'

/** An exit code for a container of which nobody knows how it ended. */
export const UNKNOWN_EXIT = 137

/** Fills the views from the engine's records and the last written status. Returns the ids of all containers found. */
export function adopt(view: PodView, pod: Pod, found: readonly ContainerInfo[]): Set<string> {
  const ids = new Set(found.map(i => i.id))
  for (const c of view.containers) {
    const attempts = found.filter(i => i.labels[LABEL.container] === c.name && (i.state !== 'created' || i.error !== undefined))
      .sort((a, b) => attemptOf(b) - attemptOf(a))
    const [current, previous] = attempts
    if (current === undefined) continue
    c.attempt = attemptOf(current)
    c.backoffLevel = Number(current.labels[LABEL.backoff] ?? 0)
    c.id = current.id
    c.image = current.image
    c.imageId = current.imageId
    if (previous !== undefined) c.last = terminatedState(ending(previous))
    if (current.state === 'running' || current.state === 'paused') {
      c.state = 'running'
      c.imagePresent = true
      if (current.startedAtMs !== undefined) c.startedAtMs = current.startedAtMs
      const said = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])]
        .find(s => s.containerID === `containerd://${current.id}`)
      c.started = said?.started === true
      c.ready = said?.ready === true
    } else {
      Object.assign(c, ending(current), { state: 'exited' })
    }
  }
  return ids
}

/** How a container ended, in the view's terms. */
export function ending(i: ContainerInfo): Pick<ContainerView, 'exitCode' | 'oomKilled' | 'startError' | 'startedAtMs' | 'finishedAtMs' | 'id'> {
  return {
    id: i.id, exitCode: i.exitCode ?? (i.error !== undefined ? 128 : UNKNOWN_EXIT), finishedAtMs: i.finishedAtMs ?? i.createdAtMs,
    ...(i.startedAtMs !== undefined && { startedAtMs: i.startedAtMs }),
    ...(i.oomKilled === true && { oomKilled: true }),
    ...(i.error !== undefined && { startError: i.error }),
  }
}

function attemptOf(i: ContainerInfo): number { return Number(i.labels[LABEL.attempt] ?? 0) }
