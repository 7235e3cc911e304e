/** Names of all that one instance has in the kernel. Everything is found again, and removed, by these alone. */
import { NetworkError } from './network.ts'

export interface Names {
  bridge: string
  vxlan: string
  table: string
  /** Host end of the veth pair of the pod with this offset into the pod range; at most 15 characters. */
  veth(offset: number): string
  /** Offset of a host end's name; undefined if the interface is not of this instance. */
  offsetOf(interfaceName: string): number | undefined
}

export function namesOf(instance: string): Names {
  if (!/^[a-z0-9]{1,6}$/.test(instance)) {
    throw new NetworkError('invalid', `instance "${instance}" must be 1 to 6 lower-case letters and digits`)
  }
  const prefix = `gv${instance}-`
  return {
    bridge: `gantry-${instance}`,
    vxlan: `gvx-${instance}`,
    table: `gantry-${instance}`,
    veth: (offset) => prefix + offset.toString(16),
    offsetOf(interfaceName) {
      if (!interfaceName.startsWith(prefix)) return undefined
      const digits = interfaceName.slice(prefix.length)
      return /^[0-9a-f]{1,6}$/.test(digits) ? Number.parseInt(digits, 16) : undefined
    },
  }
}
