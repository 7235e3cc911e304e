/** What this room sets on the machine itself: bridges and parents of networks, forwarding, and firewalls that refuse by default. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { run, runAny } from '../run.ts'
import { CnmError } from './cnm.ts'
import type { CnmNames } from './names.ts'
import { macFor } from './names.ts'
import type { Subnet } from './ip.ts'
import { parseSubnet } from './ip.ts'
import type { BridgeSettings } from './options.ts'
import type { NetworkRecord } from './records.ts'

/** /proc/sys/net is of the namespace of who opens it. */
export function setSysctl(key: string, value: string): void {
  const path = `/proc/sys/${key}`
  try {
    if (readFileSync(path, 'utf8').trim() !== value) writeFileSync(path, value)
  } catch (error) {
    throw new CnmError('failed', `cannot set ${key.replaceAll('/', '.')} to ${value}: ${(error as Error).message}`)
  }
}

export function prepareMachine(): void {
  setSysctl('net/ipv4/ip_forward', '1')
}

/** A machine that learns its own routes from advertisements would stop doing so when it forwards, unless told to go on (2). */
export function forwardIPv6(): void {
  if (readFileSync('/proc/sys/net/ipv6/conf/all/forwarding', 'utf8').trim() === '1') return
  for (const device of readdirSync('/proc/sys/net/ipv6/conf')) {
    const path = `/proc/sys/net/ipv6/conf/${device}/accept_ra`
    if (device !== 'all' && device !== 'default' && readFileSync(path, 'utf8').trim() === '1') writeFileSync(path, '2')
  }
  setSysctl('net/ipv6/conf/all/forwarding', '1')
}

export function linkExists(name: string): boolean {
  // Unlike /sys, of this process' own namespace whatever is mounted.
  return existsSync(`/proc/sys/net/ipv4/conf/${name}`)
}

/** Addresses that the bridge has on this machine. */
export function bridgeAddresses(network: NetworkRecord, settings: BridgeSettings): string[] {
  return network.pools.flatMap(({ subnet, gateway }) => {
    if (gateway === undefined) return []
    const v6 = subnet.includes(':')
    if (v6 ? settings.modeV6 === 'isolated' : settings.modeV4 === 'isolated' || settings.inhibitV4) return []
    return [`${gateway}/${subnet.split('/')[1]!}`]
  })
}

/** Lines of a batch that make the bridge what it should be; running traffic is not disturbed by what is so already. */
export function bridgeLines(network: NetworkRecord, settings: BridgeSettings, names: CnmNames, exists: boolean): string[] {
  const { bridge, mtu } = settings
  return [
    // With a MAC of its own: otherwise it takes on its ports', and neighbours lose their gateway when one comes or goes.
    ...(exists ? [] : [`link add name ${bridge} address ${macFor(network.id, bridge)} group ${names.group} type bridge forward_delay 0 stp_state 0`]),
    `link set dev ${bridge} ${mtu === undefined ? '' : `mtu ${mtu} `}addrgenmode ${network.ipv6 ? 'eui64' : 'none'} up`,
    ...bridgeAddresses(network, settings).map((address) => `addr replace ${address} dev ${bridge}${address.includes(':') ? ' nodad' : ''}`),
  ]
}

/**
 * Whether packets between ports of one bridge pass the rules too (`br_netfilter`). Where they do not, only the bridge itself can keep
 * ports apart; where they do it must not, because translated packets then go from port to port.
 */
export function bridgesAreFiltered(): boolean {
  return ['iptables', 'ip6tables'].every((tool) => {
    const path = `/proc/sys/net/bridge/bridge-nf-call-${tool}`
    return existsSync(path) && readFileSync(path, 'utf8').trim() === '1'
  })
}

export function bridgeSysctls(bridge: string): void {
  // 127.0.0.1:PORT of a published port is translated to a container; the rules drop loopback addresses that come from outside.
  setSysctl(`net/ipv4/conf/${bridge}/route_localnet`, '1')
  // Loose: the larger of this and the machine-wide value counts, so a strict machine does not drop translated packets.
  setSysctl(`net/ipv4/conf/${bridge}/rp_filter`, '2')
  setSysctl(`net/ipv4/conf/${bridge}/send_redirects`, '0')
}

/** Subnets that the machine has routes to, other than its default ones: no default pool may overlap with them. */
export async function routedSubnets(): Promise<Subnet[]> {
  const listings = await Promise.all(['-4', '-6'].map((family) => run('ip', ['-j', family, 'route', 'show'])))
  return listings.flatMap((text) => JSON.parse(text.trim() === '' ? '[]' : text) as { dst?: string }[]).flatMap(({ dst }) => {
    if (dst === undefined || dst === 'default') return []
    const subnet = parseSubnet(dst.includes('/') ? dst : `${dst}/${dst.includes(':') ? 128 : 32}`)
    // Multicast and link-local ranges are in every IPv6 table.
    return subnet === undefined || dst.startsWith('fe80') || dst.startsWith('ff') ? [] : [subnet]
  })
}

/**
 * A dockerd or a firewall beside us may drop what it does not know in its own FORWARD or INPUT chain, whatever our table says. Packets
 * that our rules let through carry a mark; where such a chain drops by default, one rule accepts the mark.
 */
export async function passFirewalls({ passMark }: CnmNames, instance: string): Promise<void> {
  const mark = `0x${passMark.toString(16)}`
  const rule = ['-m', 'mark', '--mark', `${mark}/${mark}`, '-m', 'comment', '--comment', `gantry-cnm-${instance}`, '-j', 'ACCEPT']
  await Promise.all(['iptables', 'ip6tables'].flatMap((tool) => ['FORWARD', 'INPUT'].map(async (chain) => {
    // Not installed: then nobody has such a chain.
    const policy = await runAny(tool, ['-w', '-S', chain]).catch(() => undefined)
    if (policy === undefined || !policy.stdout.includes(`-P ${chain} DROP`)) return
    const present = await runAny(tool, ['-w', '-C', chain, ...rule])
    if (present.status !== 0) await runAny(tool, ['-w', '-I', chain, ...rule])
  })))
}

export async function unpassFirewalls({ passMark }: CnmNames, instance: string): Promise<void> {
  const mark = `0x${passMark.toString(16)}`
  const rule = ['-m', 'mark', '--mark', `${mark}/${mark}`, '-m', 'comment', '--comment', `gantry-cnm-${instance}`, '-j', 'ACCEPT']
  for (const tool of ['iptables', 'ip6tables']) {
    for (const chain of ['FORWARD', 'INPUT']) await runAny(tool, ['-w', '-D', chain, ...rule]).catch(() => undefined)
  }
}
