/** The arithmetic of rolling updates and of scaling in the middle of one: pure functions from counts to counts. */

export interface Bounds {
  replicas: number
  maxSurge: number
  maxUnavailable: number
}

export interface SetCounts {
  /** `spec.replicas`. */
  replicas: number
  /** `status.availableReplicas`. */
  available: number
}

export interface Plan { fresh: number; old: number[] }

/**
 * The next step from `old` ReplicaSets (oldest first) to the fresh one. Never more Pods wanted than replicas + maxSurge, and no
 * Pod given up that is needed for replicas − maxUnavailable available ones. Old Pods that are not available go first.
 */
export function rollingStep({ replicas, maxSurge, maxUnavailable }: Bounds, fresh: SetCounts, old: readonly SetCounts[]): Plan {
  const oldWanted = sum(old.map((o) => o.replicas))
  let freshWanted = fresh.replicas
  if (freshWanted > replicas) freshWanted = replicas
  else freshWanted += Math.max(0, Math.min(replicas + maxSurge - freshWanted - oldWanted, replicas - freshWanted))

  const after = old.map((o) => o.replicas)
  const minAvailable = Math.max(0, replicas - maxUnavailable)
  // A status may still count Pods that the set has been told to give up: they are no reserve.
  const available = (s: SetCounts, wanted: number) => Math.min(s.available, wanted)
  let spare = oldWanted + freshWanted - minAvailable - (freshWanted - available(fresh, freshWanted))
  for (let i = 0; i < after.length && spare > 0; i++) {
    const broken = Math.min(spare, after[i]! - available(old[i]!, after[i]!))
    after[i]! -= broken
    spare -= broken
  }
  const nowAvailable = available(fresh, freshWanted) + sum(old.map((o, i) => available(o, after[i]!)))
  spare = Math.min(spare, nowAvailable - minAvailable)
  for (let i = 0; i < after.length && spare > 0; i++) {
    const down = Math.min(spare, after[i]!)
    after[i]! -= down
    spare -= down
  }
  return { fresh: freshWanted, old: after }
}

/**
 * `replicas` changed while several ReplicaSets have Pods: each grows or shrinks by its share, so that the risk stays as it is.
 * `sets` newest first; `maxReplicas` is what the total might have been when the set was last scaled.
 */
export function proportionalStep({ replicas, maxSurge }: Bounds, sets: readonly { replicas: number; maxReplicas: number }[]): number[] {
  const allowed = replicas > 0 ? replicas + maxSurge : 0
  const toAdd = allowed - sum(sets.map((s) => s.replicas))
  const out = sets.map((s) => s.replicas)
  let added = 0
  // Largest first; among equals the newer grows, and the older shrinks.
  const order = sets.map((_, i) => i).sort((a, b) => sets[b]!.replicas - sets[a]!.replicas || (toAdd > 0 ? a - b : b - a))
  for (const i of order) {
    const s = sets[i]!
    if (s.replicas === 0 || toAdd === 0) continue
    const share = Math.round(s.replicas * allowed / Math.max(1, s.maxReplicas)) - s.replicas
    const left = toAdd - added
    const change = toAdd > 0 ? Math.max(0, Math.min(share, left)) : Math.min(0, Math.max(share, left))
    out[i] = Math.max(0, s.replicas + change)
    added += out[i]! - s.replicas
  }
  const first = order[0]
  if (first !== undefined) out[first] = Math.max(0, out[first]! + toAdd - added)
  return out
}

function sum(numbers: readonly number[]): number { return numbers.reduce((a, b) => a + b, 0) }
