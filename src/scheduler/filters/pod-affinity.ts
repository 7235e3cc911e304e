import { labelSelectorOf } from '../../core/selectors.ts'
import type { PodAffinityTerm } from '../../core/types/index.ts'
import { requiredTerms, type PodClass } from '../pod-class.ts'
import type { NodeInfo } from '../snapshot.ts'
import type { Filter } from './filter.ts'

/** Whether a Pod of this class satisfies the term itself: the first Pod of a group that wants to be together may go anywhere. */
function selectsItself(cls: PodClass, term: PodAffinityTerm): boolean {
  const own = term.namespaces === undefined && term.namespaceSelector === undefined || term.namespaces?.includes(cls.namespace)
  return own === true && labelSelectorOf(term.labelSelector)(cls.labels)
}

/** Required pod affinity and anti-affinity, and the required anti-affinity of the Pods already placed. */
export const podAffinity: Filter = {
  name: 'InterPodAffinity',
  prepare(cls, snapshot) {
    const { topology } = snapshot
    const together = requiredTerms(cls, 'podAffinity')
      .map((t) => ({ counter: topology.selecting(cls, t.topologyKey, t.labelSelector, t), self: selectsItself(cls, t) }))
    const apart = requiredTerms(cls, 'podAntiAffinity').map((t) => topology.selecting(cls, t.topologyKey, t.labelSelector, t))
    let version = -1
    let repelling = topology.repelling(cls)

    const missesCompany = (node: NodeInfo) => together.some(({ counter, self }) => {
      const n = counter.at(node.index)
      return n < 0 || n === 0 && !(self && counter.total === 0)
    })
    const meetsForbidden = (node: NodeInfo) => apart.some((c) => c.at(node.index) > 0)
    const isRepelled = (node: NodeInfo) => repelling.some((c) => c.at(node.index) > 0)
    return {
      preemptible: true,
      begin() {
        if (version === topology.version) return
        version = topology.version
        repelling = topology.repelling(cls)
      },
      check: (node) => !(missesCompany(node) || meetsForbidden(node) || isRepelled(node)),
      explain(node) {
        if (missesCompany(node)) return ["node(s) didn't match pod affinity rules"]
        if (meetsForbidden(node)) return ["node(s) didn't match pod anti-affinity rules"]
        return ["node(s) didn't satisfy existing pods anti-affinity rules"]
      },
      release() {
        for (const { counter } of together) topology.release(counter)
        for (const counter of apart) topology.release(counter)
      },
    }
  },
}
