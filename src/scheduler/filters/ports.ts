import type { Filter } from './filter.ts'

/** A host port can be taken once per protocol and address; `0.0.0.0` takes all addresses. */
export const ports: Filter = {
  name: 'NodePorts',
  prepare(cls) {
    if (cls.hostPorts.length === 0) return undefined
    return {
      preemptible: true,
      check(node) {
        for (const p of cls.hostPorts) {
          const taken = node.ports.get(p.id)
          if (taken !== undefined && (p.ip === '0.0.0.0' || taken.includes(p.ip) || taken.includes('0.0.0.0'))) return false
        }
        return true
      },
      explain: () => ["node(s) didn't have free ports for the requested pod ports"],
    }
  },
}
