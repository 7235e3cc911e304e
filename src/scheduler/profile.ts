/** Profiles: which scores count how much, and from which end nodes are looked at. Data only. */
import { balancedAllocation, leastAllocated, mostAllocated } from './scores/allocation.ts'
import { imageLocality } from './scores/image-locality.ts'
import { preferredNodeAffinity } from './scores/node-affinity.ts'
import { ownerSpread } from './scores/owner-spread.ts'
import { preferredPodAffinity } from './scores/pod-affinity.ts'
import type { Score } from './scores/score.ts'
import { avoidTaints } from './scores/taints.ts'
import { softTopologySpread } from './scores/topology-spread.ts'

export type ProfileName = 'spread' | 'binpack' | 'random'

export interface Profile {
  order: 'emptiest' | 'fullest' | 'random'
  scores: readonly { score: Score; weight: number }[]
}

/** What a Pod itself asks for counts the same under every profile; weights are Kubernetes' defaults. */
const wishes = [
  { score: avoidTaints, weight: 3 },
  { score: preferredNodeAffinity, weight: 2 },
  { score: preferredPodAffinity, weight: 2 },
  { score: softTopologySpread, weight: 2 },
]

export const profiles: Record<ProfileName, Profile> = {
  spread: {
    order: 'emptiest',
    scores: [
      ...wishes,
      { score: leastAllocated, weight: 1 }, { score: balancedAllocation, weight: 1 },
      { score: ownerSpread, weight: 2 }, { score: imageLocality, weight: 1 },
    ],
  },
  binpack: {
    order: 'fullest',
    scores: [...wishes, { score: mostAllocated, weight: 4 }, { score: balancedAllocation, weight: 1 }, { score: imageLocality, weight: 1 }],
  },
  random: { order: 'random', scores: wishes },
}
