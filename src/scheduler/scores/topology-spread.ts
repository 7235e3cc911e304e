import type { Score } from './score.ts'

/** Topology spread constraints with ScheduleAnyway: crowded domains score lower, those without the label lowest. */
export const softTopologySpread: Score = {
  name: 'PodTopologySpread',
  prepare(cls, snapshot) {
    const rules = cls.spread.filter((c) => c.whenUnsatisfiable === 'ScheduleAnyway').map((c) => ({
      maxSkew: c.maxSkew,
      counter: snapshot.topology.selecting(cls, c.topologyKey, c.labelSelector),
    }))
    if (rules.length === 0) return undefined
    return {
      score(node) {
        let sum = 0
        for (const { counter, maxSkew } of rules) {
          const n = counter.at(node.index)
          if (n >= 0) sum += 100 / (1 + n / maxSkew)
        }
        return sum / rules.length
      },
      guides: () => true,
      release() { for (const r of rules) snapshot.topology.release(r.counter) },
    }
  },
}
