/** This machine's bridge and VXLAN end, its route to service addresses, and the few sysctls they need. */
import { readFile, writeFile } from 'node:fs/promises'
import type { Cidr } from '../ipv4.ts'
import { formatIPv4, macOf } from '../ipv4.ts'
import type { Names } from '../names.ts'
import { NetworkError } from '../network.ts'
import { run, runAny } from '../run.ts'

export const vxlanOverheadBytes = 50

export interface LinkPlan {
  names: Names
  range: Cidr
  gateway: string
  serviceCIDR: string
  address: string
  vxlanId: number
  vxlanPort: number
  /** MTU of pods, bridge and VXLAN end. */
  mtu: number
}

interface AddressInfo { ifname: string; mtu: number }

interface LinkInfo {
  ifname: string
  linkinfo?: { info_kind?: string; info_data?: { id?: number; local?: string; port?: number } }
}

/**
 * MTU of the interface that has `address`, less what VXLAN adds to a packet. A machine that is alone has a loopback address;
 * its pods' packets leave by the default route, if at all.
 */
export async function overlayMtu(address: string): Promise<number> {
  const found = JSON.parse((await run('ip', ['-j', '-4', 'addr', 'show', 'to', `${address}/32`])) || '[]') as Partial<AddressInfo>[]
  const underlay = found.find((entry): entry is AddressInfo => entry.mtu !== undefined)
  if (underlay === undefined) throw new NetworkError('invalid', `no interface of this machine has the address ${address}`)
  const { mtu } = underlay.ifname === 'lo' ? await wayOut() : underlay
  return mtu - vxlanOverheadBytes
}

async function wayOut(): Promise<{ mtu: number }> {
  const [route] = JSON.parse((await run('ip', ['-j', '-4', 'route', 'show', 'default'])) || '[]') as { dev: string }[]
  if (route === undefined) return { mtu: 1500 }
  const [link] = JSON.parse(await run('ip', ['-j', 'link', 'show', 'dev', route.dev])) as { mtu: number }[]
  return { mtu: link!.mtu }
}

/** Makes what is missing and puts right what differs; running traffic is not disturbed by what is as it should be. */
export async function ensureLinks(plan: LinkPlan): Promise<void> {
  const { bridge, vxlan } = plan.names
  const links = JSON.parse((await run('ip', ['-j', '-d', 'link', 'show'])) || '[]') as LinkInfo[]
  const present = links.find((link) => link.ifname === vxlan)
  const data = present?.linkinfo?.info_data
  const fits = data?.id === plan.vxlanId && data.local === plan.address && data.port === plan.vxlanPort
  const batch: string[] = []
  if (present !== undefined && !fits) batch.push(`link del dev ${vxlan}`)
  if (!links.some((link) => link.ifname === bridge)) {
    batch.push(`link add name ${bridge} address ${macOf('bridge', plan.range.base)} type bridge forward_delay 0 stp_state 0`)
  }
  if (present === undefined || !fits) {
    batch.push(`link add name ${vxlan} address ${macOf('vxlan', plan.range.base)} type vxlan id ${plan.vxlanId} ` +
      `dstport ${plan.vxlanPort} local ${plan.address} nolearning`)
  }
  batch.push(
    `link set dev ${bridge} mtu ${plan.mtu} addrgenmode none up`,
    `link set dev ${vxlan} mtu ${plan.mtu} addrgenmode none up`,
    `addr replace ${plan.gateway}/${plan.range.prefix} dev ${bridge}`,
    `addr replace ${formatIPv4(plan.range.base)}/32 dev ${vxlan}`,
    // Programs on the machine itself need a route to service addresses before the rules can translate them; the source address
    // lets answers come back from other machines' pods.
    `route replace ${plan.serviceCIDR} dev ${bridge} src ${plan.gateway}`,
  )
  await run('ip', ['-batch', '-'], { input: batch.join('\n') + '\n' })
  await setSysctl('net/ipv4/ip_forward', '1')
  // Pods reach each other through the gateway on purpose; and a redirect would use up the client's share of ICMP errors, so that
  // a refused datagram went unanswered. An interface sends none only if `all` says so too; others go on by their own setting.
  for (const device of ['all', bridge]) await setSysctl(`net/ipv4/conf/${device}/send_redirects`, '0')
  for (const device of [bridge, vxlan]) {
    // 127.0.0.1:PORT of a published port is translated to a pod; the rules drop loopback addresses that come from outside.
    await setSysctl(`net/ipv4/conf/${device}/route_localnet`, '1')
    // Loose: the larger of this and the machine-wide value counts, so a strict machine does not drop translated packets.
    await setSysctl(`net/ipv4/conf/${device}/rp_filter`, '2')
  }
}

export async function removeLinks(names: Names): Promise<void> {
  await runAny('ip', ['-force', '-batch', '-'], { input: `link del dev ${names.vxlan}\nlink del dev ${names.bridge}\n` })
}

/** /proc/sys/net is of the namespace of who opens it. */
async function setSysctl(key: string, value: string): Promise<void> {
  const path = `/proc/sys/${key}`
  try {
    if ((await readFile(path, 'utf8')).trim() !== value) await writeFile(path, value)
  } catch (error) {
    throw new NetworkError('failed', `cannot set ${key.replaceAll('/', '.')} to ${value}: ${(error as Error).message}`)
  }
}
