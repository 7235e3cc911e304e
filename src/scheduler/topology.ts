/**
 * Counts of Pods by topology domain, kept up to date as Pods come and go, so that affinity and spread rules are array reads.
 * A counter exists as long as a class of Pods asks for it.
 */
import { labelSelectorOf } from '../core/selectors.ts'
import type { LabelSelector, PodAffinityTerm } from '../core/types/index.ts'
import { requiredTerms, type PodClass } from './pod-class.ts'
import type { NodeInfo } from './snapshot.ts'

/** One topology key (`kubernetes.io/hostname`, …) and the domain of each node under it. */
export class TopologyKey {
  readonly name: string
  readonly #ids = new Map<string, number>()
  /** Node index → domain id; undefined or -1: the node lacks the label. */
  readonly domainOfNode: number[] = []

  constructor(name: string) { this.name = name }

  get domains(): number { return this.#ids.size }

  setNode(node: NodeInfo): void {
    const value = node.labels[this.name]
    if (value === undefined) {
      this.domainOfNode[node.index] = -1
      return
    }
    let id = this.#ids.get(value)
    if (id === undefined) this.#ids.set(value, id = this.#ids.size)
    this.domainOfNode[node.index] = id
  }
}

export class Counter {
  readonly id: string
  readonly key: TopologyKey
  /** Domain id → Pods counted. */
  readonly counts: number[] = []
  total = 0
  refs = 0
  readonly counted: (cls: PodClass) => boolean

  constructor(id: string, key: TopologyKey, counted: (cls: PodClass) => boolean) {
    this.id = id
    this.key = key
    this.counted = counted
  }

  add(nodeIndex: number, n: number): void {
    const d = this.key.domainOfNode[nodeIndex] ?? -1
    if (d < 0) return
    this.counts[d] = (this.counts[d] ?? 0) + n
    this.total += n
  }

  /** Pods counted in the node's domain; -1 when the node is in none. */
  at(nodeIndex: number): number {
    const d = this.key.domainOfNode[nodeIndex] ?? -1
    return d < 0 ? -1 : this.counts[d] ?? 0
  }
}

interface Carried { counter: Counter; repels: (cls: PodClass) => boolean }

export interface NamespaceLabels { get(namespace: string): Record<string, string> | undefined }

/** All counters of a snapshot. */
export class Topology {
  readonly #keys = new Map<string, TopologyKey>()
  readonly #counters = new Map<string, Counter>()
  readonly #carried = new Map<string, Carried>()
  /** Changes whenever the set of counters does: what classes have cached about it is then out of date. */
  version = 0
  readonly #nodes: () => Iterable<NodeInfo>
  readonly #namespaces: NamespaceLabels
  readonly #ofClass = new WeakMap<PodClass, { version: number; counters: Counter[] }>()

  constructor(nodes: () => Iterable<NodeInfo>, namespaces: NamespaceLabels) {
    this.#nodes = nodes
    this.#namespaces = namespaces
  }

  key(name: string): TopologyKey {
    let key = this.#keys.get(name)
    if (key === undefined) {
      this.#keys.set(name, key = new TopologyKey(name))
      for (const node of this.#nodes()) key.setNode(node)
    }
    return key
  }

  /** Counts the Pods a term or spread constraint of `cls` selects. The caller gives it back with {@link release}. */
  selecting(cls: PodClass, topologyKey: string, selector: LabelSelector | undefined, term?: PodAffinityTerm): Counter {
    const id = `s ${cls.namespace} ${JSON.stringify([topologyKey, selector, term?.namespaces, term?.namespaceSelector])}`
    return this.#acquire(id, topologyKey, this.#matcher(cls, selector, term))
  }

  release(counter: Counter): void {
    if (--counter.refs > 0) return
    this.#counters.delete(counter.id)
    this.version++
  }

  /** Makes the required anti-affinity of `cls` known, so that it also keeps others away. Called when its first Pod is placed. */
  carry(cls: PodClass): void {
    for (const term of requiredTerms(cls, 'podAntiAffinity')) {
      const id = `c ${cls.key} ${JSON.stringify(term)}`
      if (this.#carried.has(id)) continue
      const counter = this.#acquire(id, term.topologyKey, (other) => other === cls)
      this.#carried.set(id, { counter, repels: this.#matcher(cls, term.labelSelector, term) })
    }
  }

  uncarry(cls: PodClass): void {
    for (const term of requiredTerms(cls, 'podAntiAffinity')) {
      const id = `c ${cls.key} ${JSON.stringify(term)}`
      const carried = this.#carried.get(id)
      if (carried === undefined) continue
      this.#carried.delete(id)
      this.release(carried.counter)
    }
  }

  /** Counters of the placed Pods whose anti-affinity refuses `cls`. */
  repelling(cls: PodClass): Counter[] {
    return [...this.#carried.values()].filter((c) => c.repels(cls)).map((c) => c.counter)
  }

  podAdded(cls: PodClass, nodeIndex: number): void { for (const c of this.#countersOf(cls)) c.add(nodeIndex, 1) }
  podRemoved(cls: PodClass, nodeIndex: number): void { for (const c of this.#countersOf(cls)) c.add(nodeIndex, -1) }

  /** `change` alters the node's labels: its Pods leave their domains before and enter the new ones after. */
  relabel(node: NodeInfo, change: () => void): void {
    for (const p of node.pods.values()) this.podRemoved(p.cls, node.index)
    change()
    for (const key of this.#keys.values()) key.setNode(node)
    for (const p of node.pods.values()) this.podAdded(p.cls, node.index)
  }

  #countersOf(cls: PodClass): Counter[] {
    if (this.#counters.size === 0) return NONE
    const cached = this.#ofClass.get(cls)
    if (cached !== undefined && cached.version === this.version) return cached.counters
    const counters = [...this.#counters.values()].filter((c) => c.counted(cls))
    this.#ofClass.set(cls, { version: this.version, counters })
    return counters
  }

  #acquire(id: string, topologyKey: string, counted: (cls: PodClass) => boolean): Counter {
    let counter = this.#counters.get(id)
    if (counter === undefined) {
      counter = new Counter(id, this.key(topologyKey), counted)
      this.#counters.set(id, counter)
      this.version++
      const verdicts = new Map<PodClass, boolean>()
      for (const node of this.#nodes()) {
        for (const { cls } of node.pods.values()) {
          let yes = verdicts.get(cls)
          if (yes === undefined) verdicts.set(cls, yes = counted(cls))
          if (yes) counter.add(node.index, 1)
        }
      }
    }
    counter.refs++
    return counter
  }

  #matcher(cls: PodClass, selector: LabelSelector | undefined, term: PodAffinityTerm | undefined): (other: PodClass) => boolean {
    const own = term?.namespaces === undefined && term?.namespaceSelector === undefined
    const namespaces = new Set(own ? [cls.namespace] : term?.namespaces)
    const inSelected = labelSelectorOf(term?.namespaceSelector)
    const matches = labelSelectorOf(selector)
    return (other) =>
      (namespaces.has(other.namespace) || inSelected(this.#namespaces.get(other.namespace))) && matches(other.labels)
  }
}

const NONE: Counter[] = []
