import type { NodeInfo } from '../snapshot.ts'
import type { Filter } from './filter.ts'

/** Requests must fit in what is allocatable, and the node must have room for one more Pod. */
export const resources: Filter = {
  name: 'NodeResourcesFit',
  prepare(cls) {
    const { cpuMilli, memoryBytes, extended } = cls.request
    const lacking = (node: NodeInfo, name: string, amount: number) =>
      amount > (node.extended.get(name) ?? 0) - (node.usedExtended.get(name) ?? 0)
    return {
      preemptible: true,
      // A Pod that asks for nothing fits a node that is over-committed already.
      check(node) {
        if (node.usedPods >= node.maxPods) return false
        if (cpuMilli > 0 && node.usedCpuMilli + cpuMilli > node.cpuMilli) return false
        if (memoryBytes > 0 && node.usedMemoryBytes + memoryBytes > node.memoryBytes) return false
        if (extended !== undefined) for (const [name, amount] of extended) if (lacking(node, name, amount)) return false
        return true
      },
      explain(node) {
        const out: string[] = []
        if (node.usedPods >= node.maxPods) out.push('Too many pods')
        if (cpuMilli > 0 && node.usedCpuMilli + cpuMilli > node.cpuMilli) out.push('Insufficient cpu')
        if (memoryBytes > 0 && node.usedMemoryBytes + memoryBytes > node.memoryBytes) out.push('Insufficient memory')
        for (const [name, amount] of extended ?? []) if (lacking(node, name, amount)) out.push(`Insufficient ${name}`)
        return out
      },
    }
  },
}
