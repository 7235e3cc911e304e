/** Which subnet a network gets: one asked for, checked, or the first default one that nobody uses. */
import { createHash } from 'node:crypto'
import { CnmError, type IpamPool } from './cnm.ts'
import type { PoolRecord } from './ipam.ts'
import type { Family, Subnet } from './ip.ts'
import { formatAddress, formatSubnet, includes, overlap, parseAddress, parseSubnet, sizeOf, subnetOf } from './ip.ts'

/** Docker's local scope: 15 networks of 172.17–172.31, then 16 of 192.168. */
export const defaultPools = [
  ...Array.from({ length: 15 }, (_, index) => ({ base: `172.${17 + index}.0.0/16`, size: 16 })),
  { base: '192.168.0.0/16', size: 20 },
]

/** Unique local addresses (RFC 4193): 40 bits that are this instance's own, then a number a network. */
export function ulaPool(seed: string): { base: string; size: number } {
  const digest = createHash('sha256').update(seed).digest()
  const global = BigInt(`0x${digest.subarray(0, 5).toString('hex')}`)
  return { base: formatSubnet({ family: 6, base: (0xfdn << 120n) | (global << 80n), prefix: 48 }), size: 64 }
}

/** The first subnet of `pools` that overlaps with none of `used`. */
export function freeSubnet(pools: { base: string; size: number }[], family: Family, used: Subnet[]): Subnet {
  for (const { base, size } of pools) {
    const pool = subnetOf(base)
    if (pool.family !== family) continue
    const inside = used.filter((subnet) => overlap(subnet, pool))
    const step = 1n << BigInt((family === 4 ? 32 : 128) - size)
    const count = sizeOf(pool) / step
    for (let index = 0n; index < count; index++) {
      const candidate: Subnet = { family, base: pool.base + index * step, prefix: size }
      if (!inside.some((subnet) => overlap(subnet, candidate))) return candidate
    }
  }
  throw new CnmError('invalid', 'all predefined address pools have been fully subnetted')
}

/**
 * A pool as asked for, checked and filled in. `withGateway`: the first address is the gateway's unless another is named.
 * CnmError `invalid` names what is wrong.
 */
export function settlePool(asked: IpamPool & { subnet: string }, withGateway: boolean): PoolRecord {
  const subnet = parseSubnet(asked.subnet)
  if (subnet === undefined) throw new CnmError('invalid', `invalid subnet ${asked.subnet}: invalid CIDR block notation`)
  const record: PoolRecord = { subnet: formatSubnet(subnet) }
  if (asked.range !== undefined && asked.range !== '') {
    const range = parseSubnet(asked.range)
    if (range === undefined) throw new CnmError('invalid', `invalid ip-range ${asked.range}: invalid CIDR block notation`)
    if (range.family !== subnet.family || range.prefix < subnet.prefix || !overlap(range, subnet)) {
      throw new CnmError('invalid', `invalid ip-range ${asked.range}: parent subnet ${asked.subnet} doesn't contain ip-range`)
    }
    record.range = formatSubnet(range)
  }
  const within = (kind: string, text: string): string => {
    const address = parseAddress(text)
    if (address === undefined) throw new CnmError('invalid', `invalid ${kind} ${text}: invalid address`)
    if (!includes(subnet, address)) throw new CnmError('invalid', `invalid ${kind} ${text}: parent subnet ${asked.subnet} doesn't contain this address`)
    return formatAddress(address)
  }
  if (asked.auxiliary !== undefined && Object.keys(asked.auxiliary).length > 0) {
    record.auxiliary = Object.fromEntries(Object.entries(asked.auxiliary).map(([name, text]) => [name, within('auxiliary address', text)]))
  }
  if (asked.gateway !== undefined && asked.gateway !== '') record.gateway = within('gateway', asked.gateway)
  else if (withGateway) record.gateway = firstFree(subnet, record)
  return record
}

/** The gateway's: of the range if there is one, past the network's own address and auxiliary ones. */
function firstFree(subnet: Subnet, { range, auxiliary }: PoolRecord): string {
  const taken = new Set(Object.values(auxiliary ?? {}))
  const from = range === undefined ? subnet : subnetOf(range)
  const first = sizeOf(subnet) > 2n && from.base === subnet.base ? from.base + 1n : from.base
  for (let value = first; value < from.base + sizeOf(from); value++) {
    const text = formatAddress({ family: subnet.family, value })
    if (!taken.has(text)) return text
  }
  throw new CnmError('invalid', `no address of ${formatSubnet(subnet)} is left for the gateway`)
}
