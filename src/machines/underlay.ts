/** The bridge that namespace hosts of one cluster hang on, and their way out through this machine. */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseCidr } from '../network/ipv4.ts'
import { run } from './exec.ts'

export interface Underlay {
  /** `10.88.0.0/24`: this machine has the first address, hosts the following ones. */
  subnet: string
  bridge: string
  /** nftables table that masquerades what leaves the machine. */
  table: string
}

export function underlayOf(instance: string, subnet: string): Underlay {
  return { subnet, bridge: `gb-${instance}`, table: `gantry-host-${instance}` }
}

/** The `n`-th address of the subnet; 1 is this machine. */
export function hostAddress(u: Underlay, n: number): string {
  if (n < 1 || n > 254) throw new Error(`a cluster on one machine has at most 253 hosts`)
  return u.subnet.replace(/\.0\/24$/, `.${n}`)
}

/** Makes bridge, address and masquerading. Idempotent. Returns what ip_forward was before. */
export async function createUnderlay(u: Underlay): Promise<'0' | '1'> {
  if (!(await linkExists(u.bridge))) {
    await run('ip', ['-batch', '-'], [
      `link add ${u.bridge} type bridge`, `addr add ${hostAddress(u, 1)}/24 dev ${u.bridge}`, `link set ${u.bridge} up`, '',
    ].join('\n'))
  }
  // "add" before "delete" makes the whole text succeed whether the table exists or not, in one transaction.
  await run('nft', ['-f', '-'], `add table ip ${u.table}
delete table ip ${u.table}
table ip ${u.table} {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${u.subnet} oifname != "${u.bridge}" masquerade
  }
}
`)
  const forward = '/proc/sys/net/ipv4/ip_forward'
  const before = readFileSync(forward, 'utf8').trim() === '1' ? '1' : '0'
  if (before === '0') writeFileSync(forward, '1')
  return before
}

export async function destroyUnderlay(u: Underlay, forwardBefore: '0' | '1'): Promise<void> {
  await run('nft', ['-f', '-'], `add table ip ${u.table}\ndelete table ip ${u.table}\n`)
  if (await linkExists(u.bridge)) await run('ip', ['link', 'del', u.bridge])
  if (forwardBefore === '0') writeFileSync('/proc/sys/net/ipv4/ip_forward', '0')
}

async function linkExists(name: string): Promise<boolean> {
  return run('ip', ['link', 'show', 'dev', name]).then(() => true, () => false)
}

/** The IPv4 networks this machine already routes, as CIDRs. */
export async function routedNetworks(): Promise<string[]> {
  const routes = JSON.parse(await run('ip', ['-j', '-4', 'route', 'show', 'table', 'all'])) as { dst: string; type?: string }[]
  return routes.filter(r => r.dst !== 'default').map(r => r.dst.includes('/') ? r.dst : `${r.dst}/32`)
}

/** True if two IPv4 CIDRs share an address. */
export function overlaps(a: string, b: string): boolean {
  const [x, y] = [parseCidr(a), parseCidr(b)]
  return x.base < y.base + y.size && y.base < x.base + x.size
}
