import { termHolds } from '../filters/node-affinity.ts'
import type { NodeInfo } from '../snapshot.ts'
import type { Score } from './score.ts'

/** The weight of the preferred node affinity terms that hold, as a share of all of it. */
export const preferredNodeAffinity: Score = {
  name: 'NodeAffinity',
  prepare(cls) {
    const terms = cls.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []
    const all = terms.reduce((sum, t) => sum + t.weight, 0)
    if (all <= 0) return undefined
    const cache: { version: number; score: number }[] = []
    const score = (node: NodeInfo): number => {
      const known = cache[node.index]
      if (known?.version === node.staticVersion) return known.score
      // A preferred term without requirements holds everywhere, unlike a required one.
      const holds = (t: (typeof terms)[number]) =>
        (t.preference.matchExpressions?.length ?? 0) + (t.preference.matchFields?.length ?? 0) === 0 || termHolds(t.preference, node)
      const value = 100 * terms.reduce((sum, t) => sum + (holds(t) ? t.weight : 0), 0) / all
      cache[node.index] = { version: node.staticVersion, score: value }
      return value
    }
    return { score, guides: () => true }
  },
}
