import { labelSelectorOf } from '../../core/selectors.ts'
import type { TopologySpreadConstraint } from '../../core/types/index.ts'
import type { NodeInfo, Snapshot } from '../snapshot.ts'
import type { Counter } from '../topology.ts'
import type { Filter } from './filter.ts'
import { nodePredicate } from './node-affinity.ts'

interface Rule { constraint: TopologySpreadConstraint; counter: Counter; self: number; least: number }

/** The least crowded domain among the nodes this class may use; 0 when there are fewer domains than `minDomains`. */
function leastCrowded(rule: Rule, snapshot: Snapshot, eligible: ((node: NodeInfo) => boolean) | undefined): number {
  const { counter, constraint } = rule
  const seen = new Uint8Array(counter.key.domains)
  let least = Infinity
  let domains = 0
  for (const node of snapshot.nodes()) {
    const domain = counter.key.domainOfNode[node.index] ?? -1
    if (domain < 0 || seen[domain] === 1 || eligible !== undefined && !eligible(node)) continue
    seen[domain] = 1
    domains++
    least = Math.min(least, counter.counts[domain] ?? 0)
  }
  return domains === 0 || domains < (constraint.minDomains ?? 1) ? 0 : least
}

/** Topology spread constraints with DoNotSchedule: a domain may hold at most `maxSkew` more Pods than the least crowded one. */
export const topologySpread: Filter = {
  name: 'PodTopologySpread',
  prepare(cls, snapshot) {
    const constraints = cls.spread.filter((c) => c.whenUnsatisfiable === 'DoNotSchedule')
    if (constraints.length === 0) return undefined
    const eligible = nodePredicate(cls)
    const rules: Rule[] = constraints.map((constraint) => ({
      constraint,
      counter: snapshot.topology.selecting(cls, constraint.topologyKey, constraint.labelSelector),
      self: Number(labelSelectorOf(constraint.labelSelector)(cls.labels)),
      least: 0,
    }))
    const broken = (node: NodeInfo) => rules.find((r) => {
      const n = r.counter.at(node.index)
      return n < 0 || n + r.self - r.least > r.constraint.maxSkew
    })
    return {
      preemptible: true,
      begin() { for (const r of rules) r.least = leastCrowded(r, snapshot, eligible) },
      check: (node) => broken(node) === undefined,
      explain: (node) => [broken(node)!.counter.at(node.index) < 0
        ? "node(s) didn't match pod topology spread constraints (missing required label)"
        : "node(s) didn't match pod topology spread constraints"],
      release() { for (const r of rules) snapshot.topology.release(r.counter) },
    }
  },
}
