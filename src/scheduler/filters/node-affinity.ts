import type { NodeSelectorRequirement, NodeSelectorTerm } from '../../core/types/index.ts'
import type { NodeInfo } from '../snapshot.ts'
import type { PodClass } from '../pod-class.ts'
import { cachedByStatic, type Filter } from './filter.ts'

function requirementHolds(r: NodeSelectorRequirement, value: string | undefined): boolean {
  const values = r.values ?? []
  switch (r.operator) {
    case 'In': return value !== undefined && values.includes(value)
    case 'NotIn': return value === undefined || !values.includes(value)
    case 'Exists': return value !== undefined
    case 'DoesNotExist': return value === undefined
    case 'Gt':
    case 'Lt': {
      if (value === undefined || !/^-?\d+$/.test(value) || !/^-?\d+$/.test(values[0] ?? '')) return false
      return r.operator === 'Gt' ? BigInt(value) > BigInt(values[0]!) : BigInt(value) < BigInt(values[0]!)
    }
  }
}

/** All requirements of a term hold. A term without any holds nowhere. */
export function termHolds(term: NodeSelectorTerm, node: NodeInfo): boolean {
  const labels = term.matchExpressions ?? []
  const fields = term.matchFields ?? []
  if (labels.length + fields.length === 0) return false
  return labels.every((r) => requirementHolds(r, node.labels[r.key]))
    && fields.every((r) => requirementHolds(r, r.key === 'metadata.name' ? node.name : undefined))
}

/** `nodeSelector` and the required node affinity of a class, as one predicate; undefined when it has neither. */
export function nodePredicate(cls: PodClass): ((node: NodeInfo) => boolean) | undefined {
  const selector = Object.entries(cls.nodeSelector ?? {})
  const terms = cls.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms
  if (selector.length === 0 && terms === undefined) return undefined
  return cachedByStatic((node) =>
    selector.every(([k, v]) => node.labels[k] === v) && (terms === undefined || terms.some((t) => termHolds(t, node))))
}

export const nodeAffinity: Filter = {
  name: 'NodeAffinity',
  prepare(cls) {
    const check = nodePredicate(cls)
    return check && { check, explain: () => ["node(s) didn't match Pod's node affinity/selector"], preemptible: false }
  },
}
