import type { PodClass } from '../pod-class.ts'
import type { NodeInfo } from '../snapshot.ts'
import { never, type Score } from './score.ts'

function cpuFraction(cls: PodClass, n: NodeInfo): number {
  return n.cpuMilli > 0 ? Math.min(1, (n.scoreCpuMilli + cls.scoreCpuMilli) / n.cpuMilli) : 1
}

function memoryFraction(cls: PodClass, n: NodeInfo): number {
  return n.memoryBytes > 0 ? Math.min(1, (n.scoreMemoryBytes + cls.scoreMemoryBytes) / n.memoryBytes) : 1
}

/** Favours nodes with much room: spreads load. */
export const leastAllocated: Score = {
  name: 'LeastAllocated',
  prepare: (cls) => ({ score: (n) => (2 - cpuFraction(cls, n) - memoryFraction(cls, n)) * 50, guides: never }),
}

/** Favours nodes with little room: packs bins, and leaves other nodes empty. */
export const mostAllocated: Score = {
  name: 'MostAllocated',
  prepare: (cls) => ({ score: (n) => (cpuFraction(cls, n) + memoryFraction(cls, n)) * 50, guides: never }),
}

/** Favours nodes whose cpu and memory fill up evenly, so that neither is left over without the other. */
export const balancedAllocation: Score = {
  name: 'BalancedAllocation',
  prepare: (cls) => ({ score: (n) => (1 - Math.abs(cpuFraction(cls, n) - memoryFraction(cls, n)) / 2) * 100, guides: never }),
}
