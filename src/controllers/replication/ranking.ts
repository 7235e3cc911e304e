/** Which Pods go first when there are too many: Kubernetes' order, cheapest loss first. */
import type { Pod } from '../../core/types/index.ts'
import { isReady, readySinceMs } from '../pod-state.ts'

const COST = 'controller.kubernetes.io/pod-deletion-cost'
const PHASES: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 }

/** `colocated` says how many Pods of the same application run on the Pod's node. */
export function byLossOrder(colocated: (pod: Pod) => number, nowMs: number): (a: Pod, b: Pod) => number {
  return (a, b) =>
    assigned(a) - assigned(b)
    || phase(a) - phase(b)
    || Number(isReady(a)) - Number(isReady(b))
    || cost(a) - cost(b)
    || colocated(b) - colocated(a)
    || readyBucket(a, nowMs) - readyBucket(b, nowMs)
    || restarts(b) - restarts(a)
    || Date.parse(b.metadata.creationTimestamp ?? '') - Date.parse(a.metadata.creationTimestamp ?? '')
    || (a.metadata.name < b.metadata.name ? -1 : 1)
}

function assigned(p: Pod): number { return p.spec.nodeName === undefined ? 0 : 1 }
function phase(p: Pod): number { return PHASES[p.status?.phase ?? 'Pending'] ?? 0 }
function cost(p: Pod): number { return Number(p.metadata.annotations?.[COST] ?? 0) || 0 }
function restarts(p: Pod): number { return (p.status?.containerStatuses ?? []).reduce((m, c) => Math.max(m, c.restartCount), 0) }

/** Powers of two of the seconds it has been ready: small differences of age do not matter. */
function readyBucket(p: Pod, nowMs: number): number {
  const since = readySinceMs(p)
  return since === undefined ? 0 : Math.floor(Math.log2(Math.max(1, (nowMs - since) / 1000))) + 1
}
