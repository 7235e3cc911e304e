import { isTolerated } from '../filters/taints.ts'
import type { Score } from './score.ts'

/** Avoids nodes with PreferNoSchedule taints that are not tolerated. */
export const avoidTaints: Score = {
  name: 'TaintToleration',
  prepare: (cls, snapshot) => ({
    score(node) {
      if (snapshot.discouragedNodes === 0 || node.taints.length === 0) return 100
      return 100 / (1 + node.taints.filter((t) => t.effect === 'PreferNoSchedule' && !isTolerated(cls, t)).length)
    },
    guides: () => snapshot.discouragedNodes > 0,
  }),
}
