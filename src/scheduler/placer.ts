/**
 * Chooses a node for a Pod: filters, then scores, over a snapshot. Pure but for caches. Instead of looking at every node (or a
 * blind sample, as Kubernetes does) it walks nodes in order of load and stops after enough candidates that can run the Pod.
 */
import { filters, type PreparedFilter } from './filters/index.ts'
import type { PodClass } from './pod-class.ts'
import type { Profile } from './profile.ts'
import type { PreparedScore } from './scores/score.ts'
import type { NodeInfo, Snapshot } from './snapshot.ts'

/** Candidates scored per Pod. In order of load the best are among the first; more gain nothing measurable. */
const CANDIDATES = 24
/** Candidates looked at further for what a Pod prefers, beyond the first. */
const PREFERRED_CANDIDATES = 32
/** Classes whose prepared filters and scores are kept. */
const PREPARED_CLASSES = 2048

interface Prepared {
  filters: PreparedFilter[]
  scores: { prepared: PreparedScore; weight: number }[]
  /** The last refusal and the state it holds for. */
  refusal: { releases: number; message: string } | undefined
}

export type Placement = { node: NodeInfo } | { node: undefined; message: string }

/** Room promised to Pods that wait for their victims to go: node name → Pods. */
export interface Nominations { at(node: NodeInfo): readonly PodClass[] | undefined; readonly size: number }

export class Placer {
  readonly #snapshot: Snapshot
  readonly #profile: Profile
  readonly #random: () => number
  readonly #prepared = new Map<PodClass, Prepared>()

  /** `random` gives numbers in 0…1 (Math.random's contract). */
  constructor(snapshot: Snapshot, profile: Profile, random: () => number = Math.random) {
    this.#snapshot = snapshot
    this.#profile = profile
    this.#random = random
  }

  place(cls: PodClass, nominations?: Nominations): Placement {
    const prepared = this.#prepare(cls)
    const { refusal } = prepared
    // Nothing that could help has happened since the last Pod of this class was refused.
    if (refusal !== undefined && refusal.releases === this.#snapshot.releases && !dependsOnPods(cls)) {
      return { node: undefined, message: refusal.message }
    }
    for (const f of prepared.filters) f.begin?.()
    for (const s of prepared.scores) s.prepared.begin?.()
    const node = this.#profile.order === 'random' ? this.#anyOf(prepared, cls, nominations) : this.#bestOf(prepared, cls, nominations)
    if (node !== undefined) return { node }
    const message = this.#explain(prepared)
    prepared.refusal = { releases: this.#snapshot.releases, message }
    return { node: undefined, message }
  }

  /** Whether all filters let the class onto the node; `only` narrows the filters. */
  fits(cls: PodClass, node: NodeInfo, only: (f: PreparedFilter) => boolean = () => true): boolean {
    const { filters } = this.#prepare(cls)
    for (const f of filters) {
      if (!only(f)) continue
      f.begin?.()
      if (!f.check(node)) return false
    }
    return true
  }

  #check(prepared: Prepared, cls: PodClass, node: NodeInfo, nominations: Nominations | undefined): boolean {
    for (const f of prepared.filters) if (!f.check(node)) return false
    if (nominations === undefined || nominations.size === 0) return true
    return leavesRoomFor(nominations.at(node), cls, node)
  }

  #bestOf(prepared: Prepared, cls: PodClass, nominations: Nominations | undefined): NodeInfo | undefined {
    const { scores } = prepared
    const guides = scores.filter((s) => s.prepared.guides())
    let best: NodeInfo | undefined
    let bestScore = -Infinity
    let ties = 0
    let seen = 0
    let preferredSeen = 0
    let bestGuide = -Infinity
    this.#snapshot.load.walk(this.#profile.order === 'fullest' ? 'fullest' : 'emptiest', (node) => {
      const further = seen >= CANDIDATES
      let guide = 0
      if (further) {
        for (const { prepared: p, weight } of guides) guide += weight * p.score(node)
        if (guide < bestGuide || preferredSeen === 0 && guide === bestGuide) return true
      }
      if (!this.#check(prepared, cls, node, nominations)) return true
      let score = 0
      for (const { prepared: p, weight } of scores) score += weight * p.score(node)
      if (!further && guides.length > 0) {
        for (const { prepared: p, weight } of guides) guide += weight * p.score(node)
        if (guide > bestGuide) bestGuide = guide
      } else if (further && guide > bestGuide) {
        bestGuide = guide
        preferredSeen = 0
      }
      if (score > bestScore) {
        best = node
        bestScore = score
        ties = 1
      } else if (score === bestScore && this.#random() * ++ties < 1) {
        best = node
      }
      if (further) return ++preferredSeen < PREFERRED_CANDIDATES
      return ++seen < CANDIDATES || guides.length > 0
    })
    return best
  }

  #anyOf(prepared: Prepared, cls: PodClass, nominations: Nominations | undefined): NodeInfo | undefined {
    const n = this.#snapshot.indexes
    const start = Math.floor(this.#random() * n)
    let best: NodeInfo | undefined
    let bestScore = -Infinity
    let seen = 0
    // From a random start each time; the few nodes after it are weighed only by what the Pod asks for.
    const wanted = prepared.scores.some((s) => s.prepared.guides()) ? n : 1
    for (let i = 0; i < n && seen < wanted; i++) {
      const node = this.#snapshot.nodeAt((start + i) % n)
      if (node === undefined || !this.#check(prepared, cls, node, nominations)) continue
      seen++
      let score = 0
      for (const { prepared: p, weight } of prepared.scores) score += weight * p.score(node)
      if (score > bestScore) {
        best = node
        bestScore = score
      }
    }
    return best
  }

  #prepare(cls: PodClass): Prepared {
    let p = this.#prepared.get(cls)
    if (p !== undefined) return p
    p = {
      filters: filters.map((f) => f.prepare(cls, this.#snapshot)).filter((f) => f !== undefined),
      scores: [],
      refusal: undefined,
    }
    for (const { score, weight } of this.#profile.scores) {
      const prepared = score.prepare(cls, this.#snapshot)
      if (prepared !== undefined) p.scores.push({ prepared, weight })
    }
    this.#prepared.set(cls, p)
    if (this.#prepared.size > PREPARED_CLASSES) {
      const [oldest, old] = this.#prepared.entries().next().value!
      this.#prepared.delete(oldest)
      for (const f of old.filters) f.release?.()
      for (const s of old.scores) s.prepared.release?.()
    }
    return p
  }

  /** `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}.` */
  #explain(prepared: Prepared): string {
    const total = this.#snapshot.nodeCount
    if (total === 0) return 'no nodes available to schedule pods'
    const reasons = new Map<string, number>()
    for (const node of this.#snapshot.nodes()) {
      const refused = prepared.filters.find((f) => !f.check(node))
      const why = refused === undefined ? ['node(s) are promised to pods of higher priority'] : refused.explain(node)
      for (const text of why) reasons.set(text, (reasons.get(text) ?? 0) + 1)
    }
    const list = [...reasons].map(([text, n]) => `${n} ${text}`).sort()
    return `0/${total} nodes are available: ${list.join(', ')}.`
  }
}

/** A Pod that arrives elsewhere can make a refused Pod of such a class fit. */
export function dependsOnPods(cls: PodClass): boolean {
  return cls.affinity?.podAffinity !== undefined || cls.spread.length > 0
}

function leavesRoomFor(promised: readonly PodClass[] | undefined, cls: PodClass, node: NodeInfo): boolean {
  if (promised === undefined) return true
  let cpu = node.usedCpuMilli + cls.request.cpuMilli
  let memory = node.usedMemoryBytes + cls.request.memoryBytes
  let pods = node.usedPods + 1
  let any = false
  for (const p of promised) {
    if (p === cls || p.priority < cls.priority) continue
    any = true
    cpu += p.request.cpuMilli
    memory += p.request.memoryBytes
    pods++
  }
  return !any || cpu <= node.cpuMilli && memory <= node.memoryBytes && pods <= node.maxPods
}
