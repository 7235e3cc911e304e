/** IPv4 arithmetic on unsigned 32-bit numbers, and what the overlay derives from a pod range. */
import { NetworkError } from './network.ts'

export interface Cidr {
  /** Network address. */
  base: number
  prefix: number
  /** Number of addresses. */
  size: number
}

const octet = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const dottedQuad = new RegExp(`^${octet}\\.${octet}\\.${octet}\\.${octet}$`)

export function isIPv4(text: string): boolean {
  return dottedQuad.test(text)
}

export function parseIPv4(text: string): number {
  const match = dottedQuad.exec(text)
  if (match === null) throw new NetworkError('invalid', `"${text}" is not an IPv4 address`)
  return ((Number(match[1]) << 24) | (Number(match[2]) << 16) | (Number(match[3]) << 8) | Number(match[4])) >>> 0
}

export function formatIPv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`
}

/** Host bits must be zero: `10.42.3.1/24` is refused, because it is nearly always a mistake for `10.42.3.0/24`. */
export function parseCidr(text: string): Cidr {
  const slash = text.indexOf('/')
  const prefix = /^(\d|[12]\d|3[0-2])$/.test(text.slice(slash + 1)) && slash > 0 ? Number(text.slice(slash + 1)) : -1
  if (prefix < 0) throw new NetworkError('invalid', `"${text}" is not a range such as 10.42.0.0/16`)
  const base = parseIPv4(text.slice(0, slash))
  const size = 2 ** (32 - prefix)
  if (base % size !== 0) throw new NetworkError('invalid', `"${text}" has host bits set; write ${formatIPv4(base - (base % size))}/${prefix}`)
  return { base, prefix, size }
}

export function contains(range: Cidr, address: number): boolean {
  return address >= range.base && address < range.base + range.size
}

/** MAC of a pod's interface or of a machine's VXLAN end: a function of its address, so that no peer has to be asked for it. */
export function macOf(kind: 'pod' | 'vxlan' | 'bridge', address: number): string {
  const first = { pod: '0a:58', vxlan: '0e:58', bridge: '06:58' }[kind]
  return [first, ...[24, 16, 8, 0].map((shift) => ((address >>> shift) & 255).toString(16).padStart(2, '0'))].join(':')
}
