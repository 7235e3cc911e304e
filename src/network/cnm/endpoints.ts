/** What an endpoint is in the kernel: the lines for `ip` that make it, outside and inside a namespace, and the sandbox's way out. */
import type { EndpointSpec } from './cnm.ts'
import { CnmError } from './cnm.ts'
import { includes, parseAddress, parseSubnet, subnetOf, withoutPrefix } from './ip.ts'
import { bridgesAreFiltered } from './machine.ts'
import { isMac, macFor, vethName } from './names.ts'
import type { CnmNames } from './names.ts'
import type { Net } from './networks.ts'
import { parentOf } from './networks.ts'
import { endpointSysctls, wishedInterface } from './options.ts'
import type { EndpointRecord } from './records.ts'

/** An endpoint with its network. */
export interface Member { net: Net; endpoint: EndpointRecord }

/** Docker's words for wishes that cannot be granted. */
export function checkWish({ record, kind }: Net, spec: EndpointSpec): void {
  for (const [text, family] of [[spec.ipv4, 4], [spec.ipv6, 6]] as const) {
    if (text === undefined || text === '') continue
    const address = parseAddress(text)
    if (address?.family !== family) throw new CnmError('invalid', `invalid IPv${family} address: ${text}`)
    if (record.predefined) throw new CnmError('invalid', 'user specified IP address is supported on user defined networks only')
    if (record.ipamDriver !== 'default') continue
    const asked = record.askedPools.filter(({ subnet = '' }) => subnet !== '' && subnet.includes(':') === (family === 6))
    if (asked.length === 0) throw new CnmError('invalid', 'user specified IP address is supported only when connecting to networks with user configured subnets')
    if (!record.pools.some(({ subnet }) => includes(subnetOf(subnet), address))) {
      throw new CnmError('invalid', `no configured subnet contains IP address ${text}`)
    }
  }
  for (const text of spec.linkLocal ?? []) {
    if (parseAddress(text) === undefined && parseSubnet(text) === undefined) throw new CnmError('invalid', `invalid link-local IP address: ${text}`)
  }
  if (spec.mac !== undefined && spec.mac !== '' && !isMac(spec.mac)) throw new CnmError('invalid', `invalid MAC address: ${spec.mac}`)
  if (spec.mac !== undefined && spec.mac !== '' && kind === 'ipvlan') throw new CnmError('invalid', 'ipvlan interfaces do not support custom mac address assignment')
  const name = wishedInterface(spec.driverOptions)
  endpointSysctls(spec.driverOptions, name ?? 'eth0')
}

/** Gateways that the network's own bridge (or the world beside a macvlan parent) offers. */
export function gatewaysOf({ record, kind, bridge }: Net): { gateway: string; gatewayV6: string } {
  // An ipvlan of layer 3 has routes to its device, and no neighbour that would answer for a gateway.
  const none = record.internal || (kind === 'ipvlan' && (record.options['ipvlan_mode'] ?? 'l2') !== 'l2')
  const of = (v6: boolean): string => {
    if (none || (v6 ? bridge?.modeV6 : bridge?.modeV4) === 'isolated') return ''
    return record.pools.find(({ subnet, gateway }) => gateway !== undefined && subnet.includes(':') === v6)?.gateway ?? ''
  }
  return { gateway: of(false), gatewayV6: of(true) }
}

/** In the order of the container's interfaces: gateway priority, then the network's name. */
export function inOrder(members: Member[]): Member[] {
  return members.toSorted((a, b) => (b.endpoint.spec.gatewayPriority ?? 0) - (a.endpoint.spec.gatewayPriority ?? 0)
    || (a.net.record.name < b.net.record.name ? -1 : a.net.record.name > b.net.record.name ? 1 : 0))
}

/** The endpoint that the default route of a family goes through. */
export function wayOut(members: Member[], family: 4 | 6): Member | undefined {
  return inOrder(members).find(({ endpoint }) => (family === 4 ? endpoint.gateway : endpoint.gatewayV6) !== '')
}

/** Numbers the new ones among the names that are taken. */
export function nameInterface(prefix: string, taken: Set<string>, wish: string | undefined): string {
  if (wish !== undefined) {
    if (taken.has(wish)) throw new CnmError('invalid', `interface name ${wish} is already in use`)
    return wish
  }
  for (let number = 0; ; number++) if (!taken.has(`${prefix}${number}`)) return `${prefix}${number}`
}

export interface HostLineOptions {
  /** The pair is there already. */
  ready: boolean
  /** It publishes ports, and may ask for them itself: with `br_netfilter` its own bridge port has to send back what came from it. */
  hairpin: boolean
  /** A remote driver's link. */
  moved?: string
}

/** Lines for this machine that make or move the link. */
export function hostLines({ net, endpoint }: Member, names: CnmNames, netnsPath: string, { ready, hairpin, moved }: HostLineOptions): string[] {
  const { kind, record } = net
  if (kind === 'bridge') {
    const made = ready ? [] : [`link add name ${endpoint.hostInterface} group ${names.group} type veth peer name ${insideName(endpoint)} netns ${netnsPath}`]
    const flags = `${hairpin ? ' hairpin on' : ''}${net.bridge!.icc || bridgesAreFiltered() ? '' : ' isolated on'}`
    return [
      ...made,
      `link set dev ${endpoint.hostInterface} ${mtuWord(net)}addrgenmode none master ${net.bridge!.bridge} up`,
      ...(flags === '' ? [] : [`link set dev ${endpoint.hostInterface} type bridge_slave${flags}`]),
    ]
  }
  if (kind === 'macvlan' || kind === 'ipvlan') {
    const { macvlan_mode: macvlanMode, ipvlan_mode: ipvlanMode, ipvlan_flag: flag } = record.options
    const word = kind === 'macvlan' ? `macvlan mode ${orElse(macvlanMode, 'bridge')}` : `ipvlan mode ${orElse(ipvlanMode, 'l2')} ${orElse(flag, 'bridge')}`
    const temporary = insideName(endpoint)
    return [
      `link add link ${parentOf(record)} name ${temporary} group ${names.group} type ${word}`,
      `link set dev ${temporary} netns ${netnsPath}`,
    ]
  }
  if (kind === 'remote' && moved !== undefined) return [`link set dev ${moved} netns ${netnsPath}`]
  return []
}

function orElse(text: string | undefined, otherwise: string): string {
  return text === undefined || text === '' ? otherwise : text
}

function mtuWord({ mtu }: Net): string {
  return mtu === undefined ? '' : `mtu ${mtu} `
}

/** What a link is called until it has its place: nobody else's name, wherever it is. */
export function insideName({ id }: EndpointRecord): string {
  return `gw${id.slice(0, 12)}`
}

/** Lines for the inside. `present`: the link's name there now. Names are given first, so that none is in another's way. */
export function insideLines({ net, endpoint }: Member, present: string): string[] {
  const { interfaceName: name, mac, ipv4, ipv6, spec } = endpoint
  const macWord = mac === '' || net.kind === 'ipvlan' ? '' : `address ${mac} `
  return [
    ...(present === name ? [] : [`link set dev ${present} name ${name}`]),
    `link set dev ${name} ${macWord}${mtuWord(net)}addrgenmode ${ipv6 === '' ? 'none' : 'eui64'}`,
    ...(ipv4 === '' ? [] : [`addr add ${ipv4} broadcast + dev ${name}`]),
    ...(ipv6 === '' ? [] : [`addr add ${ipv6} dev ${name} nodad`]),
    ...(spec.linkLocal ?? []).map((text) => `addr add ${text.includes('/') ? text : `${text}/${text.includes(':') ? 64 : 16}`} dev ${name} scope link`),
    `link set dev ${name} up`,
    ...(endpoint.routes ?? []).map(({ destination, nextHop }) => `route replace ${destination} ${nextHop === undefined ? '' : `via ${nextHop} `}dev ${name}`),
  ]
}

/** Default routes as they should be; `had`: families that have one now. */
export function routeLines(members: Member[], had: { v4: boolean; v6: boolean }): string[] {
  const lines: string[] = []
  for (const family of [4, 6] as const) {
    const member = wayOut(members, family)
    const all = family === 4 ? '0.0.0.0/0' : '::/0'
    if (member === undefined) {
      if (family === 4 ? had.v4 : had.v6) lines.push(`route del ${all}`)
      continue
    }
    const { endpoint } = member
    const gateway = family === 4 ? endpoint.gateway : endpoint.gatewayV6
    const own = parseSubnet(family === 4 ? endpoint.ipv4 : endpoint.ipv6)
    // One of another subnet (a remote driver's) is reached over the link.
    if (own !== undefined && !includes(own, parseAddress(gateway)!)) lines.push(`route replace ${gateway} dev ${endpoint.interfaceName} scope link`)
    lines.push(`route replace ${all} via ${gateway} dev ${endpoint.interfaceName}`)
  }
  const l3 = members.find(({ net, endpoint }) => net.kind === 'ipvlan' && !net.record.internal && (net.record.options['ipvlan_mode'] ?? 'l2') !== 'l2' && endpoint.ipv4 !== '')
  if (l3 !== undefined && wayOut(members, 4) === undefined) lines.push(`route replace 0.0.0.0/0 dev ${l3.endpoint.interfaceName}`)
  return lines
}

/** Where this network's containers find the DNS server on this machine: its bridge's IPv4 address. */
export function dnsAddress({ net }: Member): string | undefined {
  if (net.bridge === undefined || net.bridge.inhibitV4 || net.bridge.modeV4 === 'isolated') return undefined
  return net.record.pools.find(({ subnet, gateway }) => gateway !== undefined && !subnet.includes(':'))?.gateway
}

export function newEndpoint(net: Net, id: string, spec: EndpointSpec, { ipv4, ipv6 }: { ipv4: string; ipv6: string }): EndpointRecord {
  const asked = spec.mac === undefined || spec.mac === '' ? undefined : spec.mac.toLowerCase().replaceAll('-', ':')
  const mac = net.kind === 'remote' ? asked ?? '' : net.kind === 'ipvlan' ? '' : asked ?? macFor(net.record.id, withoutPrefix(ipv4 === '' ? ipv6 : ipv4))
  return {
    id, networkId: net.record.id, networkName: net.record.name, spec, ipv4, ipv6, ...gatewaysOf(net), mac, interfaceName: '',
    hostInterface: net.kind === 'bridge' ? vethName() : '',
  }
}
