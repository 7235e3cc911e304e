/** Names of all that one instance has in the kernel, and how its links are known again: by the group they are in. */
import { createHash, randomBytes } from 'node:crypto'
import { CnmError } from './cnm.ts'

export interface CnmNames {
  /** nftables table, family inet. */
  table: string
  /** Link group of this instance's bridges and veth ends. */
  group: number
  /** Links about to be removed: the kernel removes a group in one step, many times faster than one by one. */
  doomedGroup: number
  /** Bit set in the packet mark of what the rules let through, for firewalls beside ours that refuse by default. */
  passMark: number
}

export function namesOf(instance: string): CnmNames {
  if (!/^[a-z0-9]{1,6}$/.test(instance)) throw new CnmError('invalid', `instance "${instance}" must be 1 to 6 lower-case letters and digits`)
  const hash = createHash('sha256').update(`gantry-cnm ${instance}`).digest()
  // Groups of people's own are small numbers; the last bit tells the two apart.
  const group = ((hash.readUInt32BE(0) & 0x3fff_fffe) | 0x2000_0000) >>> 0
  return { table: `gantry-cnm-${instance}`, group, doomedGroup: group + 1, passMark: 0x0400_0000 }
}

export function randomId(): string {
  return randomBytes(32).toString('hex')
}

export function vethName(): string {
  return `veth${randomBytes(4).toString('hex').slice(0, 7)}`
}

/**
 * Locally administered, unicast; looks random, but is a function of the network and the address: an address that is given again comes
 * back with the same MAC, so that what neighbours remember stays true.
 */
export function macFor(networkId: string, address: string): string {
  const bytes = address === '' ? randomBytes(6) : createHash('sha256').update(`${networkId} ${address}`).digest().subarray(0, 6)
  bytes[0] = (bytes[0]! & 0xfc) | 0x02
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}

export function isMac(text: string): boolean {
  return /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)
}

/** What the kernel takes as an interface's name. Checked before it goes into a batch: no blank or newline may get there. */
export function checkInterfaceName(name: string, what: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}$/.test(name)) throw new CnmError('invalid', `invalid ${what} "${name}": not a name for an interface`)
}
