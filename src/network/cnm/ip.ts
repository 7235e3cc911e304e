/** Addresses and subnets of both families, as numbers of one kind. Texts come out in the canonical form (RFC 5952 for IPv6). */
import { isIP } from 'node:net'
import { CnmError } from './cnm.ts'

export type Family = 4 | 6

export interface Address { family: Family; value: bigint }

export interface Subnet {
  family: Family
  /** Network address: host bits are zero. */
  base: bigint
  prefix: number
}

const widths = { 4: 32, 6: 128 } as const

/** Undefined if it is no address. */
export function parseAddress(text: string): Address | undefined {
  const family = text.includes('%') ? 0 : isIP(text)
  if (family === 4) return { family: 4, value: text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n) }
  if (family === 6) return { family: 6, value: parse6(text) }
  return undefined
}

function parse6(text: string): bigint {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text)
  const plain = dotted === null
    ? text
    : `${dotted[1]}${(Number(dotted[2]) * 256 + Number(dotted[3])).toString(16)}:${(Number(dotted[4]) * 256 + Number(dotted[5])).toString(16)}`
  const [head = '', tail] = plain.split('::')
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'))
  const first = groups(head)
  const last = tail === undefined ? [] : groups(tail)
  const all = tail === undefined ? first : [...first, ...Array<string>(8 - first.length - last.length).fill('0'), ...last]
  return all.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n)
}

export function formatAddress({ family, value }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join('.')
  const groups = Array.from({ length: 8 }, (_, index) => Number((value >> BigInt(112 - 16 * index)) & 0xffffn))
  // The longest run of two or more zero groups is left out, the first one of equals.
  let [start, length] = [0, 1]
  for (let at = 0; at < 8; at++) {
    let end = at
    while (end < 8 && groups[end] === 0) end++
    if (end - at > length) [start, length] = [at, end - at]
    if (end > at) at = end
  }
  const hex = groups.map((group) => group.toString(16))
  return length < 2 ? hex.join(':') : `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`
}

/** `10.1.0.0/16`; host bits are cut off, as Docker does. Undefined if it is no subnet. */
export function parseSubnet(text: string): Subnet | undefined {
  const slash = text.indexOf('/')
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (address === undefined || !/^\d{1,3}$/.test(digits) || Number(digits) > widths[address.family]) return undefined
  const prefix = Number(digits)
  return { family: address.family, base: address.value & maskOf(address.family, prefix), prefix }
}

function maskOf(family: Family, prefix: number): bigint {
  const width = BigInt(widths[family])
  const all = (1n << width) - 1n
  return all ^ (all >> BigInt(prefix))
}

export function formatSubnet({ family, base, prefix }: Subnet): string {
  return `${formatAddress({ family, value: base })}/${prefix}`
}

export function sizeOf({ family, prefix }: Subnet): bigint {
  return 1n << BigInt(widths[family] - prefix)
}

export function lastOf(subnet: Subnet): bigint {
  return subnet.base + sizeOf(subnet) - 1n
}

export function includes(subnet: Subnet, { family, value }: Address): boolean {
  return family === subnet.family && value >= subnet.base && value <= lastOf(subnet)
}

export function overlap(a: Subnet, b: Subnet): boolean {
  return a.family === b.family && a.base <= lastOf(b) && b.base <= lastOf(a)
}

/** For texts that were checked before. */
export function subnetOf(text: string): Subnet {
  const subnet = parseSubnet(text)
  if (subnet === undefined) throw new CnmError('invalid', `invalid CIDR address: ${text}`)
  return subnet
}

export function addressOf(text: string): Address {
  const address = parseAddress(text)
  if (address === undefined) throw new CnmError('invalid', `invalid IP address: ${text}`)
  return address
}

/** `10.1.0.2/16` without its prefix. */
export function withoutPrefix(text: string): string {
  const slash = text.indexOf('/')
  return slash < 0 ? text : text.slice(0, slash)
}

/** Name of an address in the reverse zone, lower case, without the trailing dot. */
export function reverseName({ family, value }: Address): string {
  if (family === 4) return `${[0n, 8n, 16n, 24n].map((shift) => String((value >> shift) & 255n)).join('.')}.in-addr.arpa`
  return `${[...value.toString(16).padStart(32, '0')].toReversed().join('.')}.ip6.arpa`
}

/** Bytes in network order. */
export function addressBytes({ family, value }: Address): Buffer {
  return Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex')
}
