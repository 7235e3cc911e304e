/** Other machines in this kernel: a route, a neighbour and a forwarding entry each. */
import { contains, formatIPv4, macOf, parseCidr, parseIPv4 } from '../ipv4.ts'
import type { Peer } from '../network.ts'
import { NetworkError } from '../network.ts'
import { run, runAny } from '../run.ts'

/** podCIDR → underlay address. */
export type PeerTable = Map<string, string>

export interface OverlayContext {
  vxlan: string
  podCIDR: string
  clusterCIDR: string
  /** Source address of this machine's own packets to pods. */
  gateway: string
}

/** Checks peers and keys them by range; own machine's entry is left out. */
export function peerTable(peers: Peer[], context: OverlayContext): { table: PeerTable; faults: NetworkError[] } {
  const table: PeerTable = new Map()
  const faults: NetworkError[] = []
  for (const peer of peers) {
    if (peer.podCIDR === context.podCIDR) continue
    try {
      check(peer, table, context)
      table.set(peer.podCIDR, peer.address)
    } catch (e) {
      if (!(e instanceof NetworkError)) throw e
      faults.push(e)
    }
  }
  return { table, faults }
}

function check(peer: Peer, table: PeerTable, context: OverlayContext): void {
  parseIPv4(peer.address)
  if (!contains(parseCidr(context.clusterCIDR), parseCidr(peer.podCIDR).base)) {
    throw new NetworkError('invalid', `peer ${peer.name}: ${peer.podCIDR} is not within the cluster's ${context.clusterCIDR}`)
  }
  const other = table.get(peer.podCIDR)
  if (other !== undefined && other !== peer.address) {
    throw new NetworkError('conflict', `peer ${peer.name}: ${peer.podCIDR} belongs to ${other} already`)
  }
}

/**
 * Lines for `bridge -batch` and `ip -batch` that lead from one table to another. Forwarding entries come before the routes that
 * use them.
 */
export function overlayChanges(from: PeerTable, to: PeerTable, context: OverlayContext): { bridge: string[]; ip: string[] } {
  const bridge: string[] = []
  const ip: string[] = []
  for (const [podCIDR, address] of from) {
    if (to.has(podCIDR)) continue
    const { mac, via } = endOf(podCIDR)
    ip.push(`route del ${podCIDR} dev ${context.vxlan}`, `neigh del ${via} dev ${context.vxlan}`)
    bridge.push(`fdb del ${mac} dev ${context.vxlan} dst ${address} self`)
  }
  for (const [podCIDR, address] of to) {
    const before = from.get(podCIDR)
    if (before === address) continue
    const { mac, via } = endOf(podCIDR)
    bridge.push(`fdb replace ${mac} dev ${context.vxlan} dst ${address} self permanent`)
    if (before !== undefined) continue
    ip.push(`neigh replace ${via} lladdr ${mac} dev ${context.vxlan} nud permanent`,
      `route replace ${podCIDR} via ${via} dev ${context.vxlan} onlink src ${context.gateway}`)
  }
  return { bridge, ip }
}

export async function applyOverlay(changes: { bridge: string[]; ip: string[] }): Promise<void> {
  // -force goes on behind a line that fails, e.g. the removal of what somebody else removed; the status still tells.
  for (const [tool, lines] of [['bridge', changes.bridge], ['ip', changes.ip]] as const) {
    if (lines.length === 0) continue
    const { status, stderr } = await runAny(tool, ['-force', '-batch', '-'], { input: lines.join('\n') + '\n' })
    if (status !== 0) throw new NetworkError('failed', `${tool} -batch: ${stderr.trim().slice(0, 1000)}`)
  }
}

/** Peers that the kernel is programmed for; entries that are not whole are left out, so that they get written again. */
export async function readOverlay(context: OverlayContext): Promise<PeerTable> {
  const [routes, entries] = await Promise.all([
    run('ip', ['-j', 'route', 'show', 'dev', context.vxlan]), run('bridge', ['-j', 'fdb', 'show', 'dev', context.vxlan]),
  ])
  const addressOf = new Map<string, string>()
  for (const entry of JSON.parse(entries || '[]') as { mac: string; dst?: string }[]) {
    if (entry.dst !== undefined) addressOf.set(entry.mac, entry.dst)
  }
  const table: PeerTable = new Map()
  for (const route of JSON.parse(routes || '[]') as { dst: string; gateway?: string }[]) {
    if (route.gateway === undefined) continue
    const podCIDR = route.dst.includes('/') ? route.dst : `${route.dst}/32`
    const address = addressOf.get(endOf(podCIDR).mac)
    if (address !== undefined) table.set(podCIDR, address)
  }
  return table
}

/** A peer's VXLAN end has the network address of its pod range, and a MAC derived from that. */
function endOf(podCIDR: string): { mac: string; via: string } {
  const { base } = parseCidr(podCIDR)
  return { mac: macOf('vxlan', base), via: formatIPv4(base) }
}
