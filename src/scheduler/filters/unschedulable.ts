import type { Filter } from './filter.ts'
import { tolerates } from './taints.ts'

/** Cordoned nodes take only Pods that tolerate the cordon's taint. */
export const unschedulable: Filter = {
  name: 'NodeUnschedulable',
  prepare(cls) {
    const cordon = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' } as const
    if (cls.tolerations.some((t) => tolerates(t, cordon))) return undefined
    return { check: (node) => !node.unschedulable, explain: () => ['node(s) were unschedulable'], preemptible: false }
  },
}
