import type { Taint, Toleration } from '../../core/types/index.ts'
import type { PodClass } from '../pod-class.ts'
import { cachedByStatic, type Filter } from './filter.ts'

/** Kubernetes' rule: an empty key with Exists tolerates everything; an empty effect every effect. */
export function tolerates(t: Toleration, taint: Taint): boolean {
  if (t.effect !== undefined && t.effect !== taint.effect) return false
  if (t.key !== undefined && t.key !== '' && t.key !== taint.key) return false
  if (t.operator === 'Exists') return true
  return t.key !== undefined && t.key !== '' && (t.value ?? '') === (taint.value ?? '')
}

export function isTolerated(cls: PodClass, taint: Taint): boolean { return cls.tolerations.some((t) => tolerates(t, taint)) }

export const taints: Filter = {
  name: 'TaintToleration',
  prepare(cls) {
    const obstacle = (taint: Taint) => taint.effect !== 'PreferNoSchedule' && !isTolerated(cls, taint)
    const verdict = cachedByStatic((node) => !node.taints.some(obstacle))
    return {
      check: (node) => node.taints.length === 0 || verdict(node),
      explain(node) {
        const t = node.taints.find(obstacle)!
        return [`node(s) had untolerated taint {${t.key}: ${t.value ?? ''}}`]
      },
      preemptible: false,
    }
  },
}
