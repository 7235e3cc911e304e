import type { PodAffinityTerm } from '../../core/types/index.ts'
import type { PodClass } from '../pod-class.ts'
import type { Snapshot } from '../snapshot.ts'
import type { Counter } from '../topology.ts'
import type { Score } from './score.ts'

interface Preference { weight: number; counter: Counter }

function preferences(cls: PodClass, snapshot: Snapshot): Preference[] {
  const make = (sign: 1 | -1) => ({ weight, podAffinityTerm: t }: { weight: number; podAffinityTerm: PodAffinityTerm }): Preference =>
    ({ weight: sign * weight, counter: snapshot.topology.selecting(cls, t.topologyKey, t.labelSelector, t) })
  return [
    ...(cls.affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(make(1)),
    ...(cls.affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(make(-1)),
  ]
}

/** Preferred pod affinity and anti-affinity: terms count by weight, and more Pods of a domain count more, with less and less effect. */
export const preferredPodAffinity: Score = {
  name: 'InterPodAffinity',
  prepare(cls, snapshot) {
    const terms = preferences(cls, snapshot)
    if (terms.length === 0) return undefined
    const all = terms.reduce((sum, t) => sum + Math.abs(t.weight), 0) || 1
    return {
      score(node) {
        let sum = 0
        for (const { weight, counter } of terms) {
          const n = counter.at(node.index)
          if (n > 0) sum += weight * (n / (n + 0.5))
        }
        return 50 + 50 * sum / all
      },
      guides: () => true,
      release() { for (const t of terms) snapshot.topology.release(t.counter) },
    }
  },
}
