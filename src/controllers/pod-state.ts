/** Questions about a Pod that several controllers ask. */
import type { Pod } from '../core/types/index.ts'

/** Neither finished nor on its way out. */
export function isActive(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp === undefined && !isFinished(pod)
}

export function isFinished(pod: Pod): boolean { return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed' }

function readyCondition(pod: Pod) { return pod.status?.conditions?.find((c) => c.type === 'Ready') }

export function isReady(pod: Pod): boolean { return readyCondition(pod)?.status === 'True' }

/** When the Pod became ready, in ms; undefined if it is not. */
export function readySinceMs(pod: Pod): number | undefined {
  const c = readyCondition(pod)
  if (c?.status !== 'True') return undefined
  return Date.parse(c.lastTransitionTime ?? pod.metadata.creationTimestamp ?? '') || 0
}

/** Milliseconds until the Pod counts as available (0: it does); undefined while it is not ready. */
export function untilAvailableMs(pod: Pod, minReadySeconds: number, nowMs: number): number | undefined {
  const since = readySinceMs(pod)
  if (since === undefined) return undefined
  return minReadySeconds === 0 ? 0 : Math.max(0, since + minReadySeconds * 1000 - nowMs)
}
