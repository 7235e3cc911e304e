/**
 * The one nftables table of an instance, family inet. What grows with networks and ports are elements of sets and maps, so a packet costs
 * the same however many there are.
 *
 *   user            a chain for operators: every packet to or from a container passes it first (`accept` and `drop` are final for this
 *                   table, falling through goes on as below); never touched by Gantry
 *   bridges         interfaces of our networks
 *   same            bridge . bridge     → whether its containers may talk to each other (enable_icc)
 *   guard4, guard6  subnet              → chain that drops direct access to containers from other interfaces
 *   masq4, masq6    subnet              → chain that gives outgoing packets this machine's address
 *   ports4, ports6  protocol . port     → container address . port; `…-at` with a host address
 *   open4, open6    container address . protocol . port, that may be reached from outside its bridge
 *
 * A network has two chains, `guard-ID` and `masq-ID`, with the first twelve digits of its id.
 */
import type { PublishedPort } from './cnm.ts'
import { subnetOf, withoutPrefix } from './ip.ts'
import type { CnmNames } from './names.ts'
import type { BridgeSettings, GatewayMode } from './options.ts'
import type { EndpointRecord, NetworkRecord } from './records.ts'

const sets: Record<string, string> = {
  bridges: 'type ifname;',
  internal: 'type ifname;',
  unprotected: 'type ifname;',
  routed: 'type ifname;',
  open4: 'type ipv4_addr . inet_proto . inet_service;',
  open6: 'type ipv6_addr . inet_proto . inet_service;',
  'dns-ports': 'type inet_service;',
}

const maps: Record<string, string> = {
  same: 'type ifname . ifname : verdict;',
  guard4: 'type ipv4_addr : verdict; flags interval;',
  guard6: 'type ipv6_addr : verdict; flags interval;',
  masq4: 'type ipv4_addr : verdict; flags interval;',
  masq6: 'type ipv6_addr : verdict; flags interval;',
  ports4: 'type inet_proto . inet_service : ipv4_addr . inet_service;',
  'ports4-at': 'type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;',
  ports6: 'type inet_proto . inet_service : ipv6_addr . inet_service;',
  'ports6-at': 'type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;',
}

function chains(passMark: number): Record<string, { hook?: string; rules: string[] }> {
  const pass = `meta mark set meta mark | 0x${passMark.toString(16)}`
  return {
    'raw-prerouting': {
      hook: 'type filter hook prerouting priority raw; policy accept;',
      rules: [
        // Bridges may route loopback addresses (published ports), so others must not be able to send them.
        'iifname != "lo" ip daddr 127.0.0.0/8 drop',
        'iifname != "lo" ip saddr 127.0.0.0/8 drop',
        'ip daddr vmap @guard4',
        'ip6 daddr vmap @guard6',
      ],
    },
    'nat-prerouting': { hook: 'type nat hook prerouting priority dstnat; policy accept;', rules: ['fib daddr type local goto published'] },
    'nat-output': { hook: 'type nat hook output priority -100; policy accept;', rules: ['fib daddr type local goto published'] },
    published: {
      rules: [
        'dnat ip to ip daddr . meta l4proto . th dport map @ports4-at',
        'dnat ip to meta l4proto . th dport map @ports4',
        'ip6 daddr ::1 return',
        'dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6-at',
        'dnat ip6 to meta l4proto . th dport map @ports6',
      ],
    },
    'nat-postrouting': {
      hook: 'type nat hook postrouting priority srcnat; policy accept;',
      rules: ['oifname @bridges ip saddr 127.0.0.0/8 masquerade', 'ip saddr vmap @masq4', 'ip6 saddr vmap @masq6'],
    },
    input: {
      hook: 'type filter hook input priority -5; policy accept;',
      rules: [
        'iifname @bridges goto input-dns',
        // Names of containers are for containers.
        'iifname != "lo" meta l4proto { tcp, udp } th dport @dns-ports drop',
      ],
    },
    'input-dns': { rules: [`meta l4proto { tcp, udp } th dport @dns-ports ${pass}`] },
    forward: {
      hook: 'type filter hook forward priority -5; policy accept;',
      rules: ['iifname @bridges goto containers', 'oifname @bridges goto containers'],
    },
    containers: {
      rules: [
        'jump user',
        // Published ports, also from the same bridge; before the rest, because an internal network publishes none.
        'ct state established,related ct status dnat goto pass',
        'ct status dnat ip daddr . meta l4proto . th dport @open4 goto pass',
        'ct status dnat ip6 daddr . meta l4proto . th dport @open6 goto pass',
        'iifname . oifname vmap @same',
        'iifname @internal drop',
        'oifname @internal drop',
        'ct state established,related goto pass',
        'oifname @bridges goto inbound',
        'goto pass',
      ],
    },
    inbound: {
      rules: [
        'ip daddr . meta l4proto . th dport @open4 goto pass',
        'ip6 daddr . meta l4proto . th dport @open6 goto pass',
        'oifname @unprotected goto pass',
        'oifname @routed meta l4proto { icmp, ipv6-icmp } goto pass',
        'drop',
      ],
    },
    pass: { rules: [pass, 'accept'] },
  }
}

/** Sets, maps and chains. Applied to a table that exists it empties all but `user`; elements are to follow in the same transaction. */
export function baseRuleset({ table, passMark }: CnmNames): string[] {
  const all = chains(passMark)
  const declared = [
    ...Object.entries(sets).map(([name, spec]) => `  set ${name} { ${spec} }`),
    ...Object.entries(maps).map(([name, spec]) => `  map ${name} { ${spec} }`),
    ...Object.entries(all).map(([name, { hook }]) => `  chain ${name} { ${hook ?? ''} }`),
  ]
  return [
    `table inet ${table} {`, '  chain user { }', ...declared, '}',
    ...Object.keys(all).map((name) => `flush chain inet ${table} ${name}`),
    ...Object.keys(sets).map((name) => `flush set inet ${table} ${name}`),
    ...Object.keys(maps).map((name) => `flush map inet ${table} ${name}`),
    `table inet ${table} {`,
    ...Object.entries(all).flatMap(([name, { rules }]) => [`  chain ${name} {`, ...rules.map((rule) => `    ${rule}`), '  }']),
    '}',
  ]
}

/** Chains of networks in the answer to `nft list chains`, to be removed with `removeChains` after `baseRuleset` has let go of them. */
export function networkChainsIn(listing: string): string[] {
  return [...listing.matchAll(/^\s*chain ((?:guard|masq)-[0-9a-f]{12}) \{/gm)].map((match) => match[1]!)
}

export function removeChains({ table }: CnmNames, names: string[]): string[] {
  return names.flatMap((name) => [`flush chain inet ${table} ${name}`, `delete chain inet ${table} ${name}`])
}

interface Elements { collection: string; elements: string[] }

function networkElements(network: NetworkRecord, settings: BridgeSettings): Elements[] {
  const { bridge } = settings
  const short = network.id.slice(0, 12)
  const quoted = `"${bridge}"`
  const result: Elements[] = [
    { collection: 'bridges', elements: [quoted] },
    { collection: 'same', elements: [`${quoted} . ${quoted} : ${settings.icc ? 'goto pass' : 'drop'}`] },
  ]
  if (network.internal) result.push({ collection: 'internal', elements: [quoted] })
  const modes = (mode: GatewayMode): boolean => settings.modeV4 === mode || (network.ipv6 && settings.modeV6 === mode)
  if (modes('nat-unprotected')) result.push({ collection: 'unprotected', elements: [quoted] })
  if (modes('routed')) result.push({ collection: 'routed', elements: [quoted] })
  for (const { subnet } of network.pools) {
    const { family } = subnetOf(subnet)
    const mode = family === 4 ? settings.modeV4 : settings.modeV6
    if (mode === 'nat') result.push({ collection: `guard${family}`, elements: [`${subnet} : goto guard-${short}`] })
    if (!network.internal) result.push({ collection: `masq${family}`, elements: [`${subnet} : goto masq-${short}`] })
  }
  return result
}

export function addNetwork({ table }: CnmNames, network: NetworkRecord, settings: BridgeSettings): string[] {
  const short = network.id.slice(0, 12)
  const { bridge } = settings
  const trusted = settings.trustedInterfaces.map((name) => `    iifname "${name}" return`)
  // With other modes addresses are the outside's own: nothing to translate, except what comes back to its own bridge.
  const leave = (family: 4 | 6): string[] => {
    const mode = family === 4 ? settings.modeV4 : settings.modeV6
    if (!settings.masquerade || (mode !== 'nat' && mode !== 'nat-unprotected')) return []
    const host = family === 4 ? settings.hostIPv4 : settings.hostIPv6
    const kind = family === 4 ? 'ipv4' : 'ipv6'
    return [`    meta nfproto ${kind} ${host === undefined ? 'masquerade' : `snat ${family === 4 ? 'ip' : 'ip6'} to ${host}`}`]
  }
  return [
    `table inet ${table} {`,
    `  chain guard-${short} {`, '    fib daddr type local return', `    iifname "${bridge}" return`, ...trusted, '    drop', '  }',
    `  chain masq-${short} {`,
    // The answer to a container that reached its own bridge through a published port must come back through here.
    `    oifname "${bridge}" ct status dnat masquerade`, `    oifname "${bridge}" return`, ...leave(4), ...leave(6), '  }',
    '}',
    ...commands('add', table, networkElements(network, settings)),
  ]
}

export function deleteNetwork(names: CnmNames, network: NetworkRecord, settings: BridgeSettings): string[] {
  const short = network.id.slice(0, 12)
  return [
    ...commands('delete', names.table, networkElements(network, settings).map(({ collection, elements }) => (
      // A key alone: nft does not want the verdict when it deletes.
      { collection, elements: elements.map((element) => element.replace(/ : .*$/, '')) }))),
    ...removeChains(names, [`guard-${short}`, `masq-${short}`]),
  ]
}

/** Where a sandbox's published ports lead: an endpoint a family, with its network's mode. */
export interface PortTargets {
  v4?: { endpoint: EndpointRecord; mode: GatewayMode }
  v6?: { endpoint: EndpointRecord; mode: GatewayMode }
}

/** One key of a collection a line: `ports4 tcp . 80 : 172.17.0.2 . 80`. */
export function portElements(ports: PublishedPort[], exposed: { containerPort: number; protocol: string }[], targets: PortTargets): Set<string> {
  const elements = new Set<string>()
  const address = (family: 4 | 6): string => withoutPrefix(family === 4 ? targets.v4?.endpoint.ipv4 ?? '' : targets.v6?.endpoint.ipv6 ?? '')
  for (const { containerPort, protocol } of exposed) {
    for (const family of [4, 6] as const) {
      const target = family === 4 ? targets.v4 : targets.v6
      if (target !== undefined && target.mode !== 'isolated') elements.add(`open${family} ${address(family)} . ${protocol} . ${containerPort}`)
    }
  }
  for (const { containerPort, protocol, hostIP, hostPort } of ports) {
    const family = hostIP.includes(':') ? 6 : 4
    const target = family === 4 ? targets.v4 : targets.v6
    if (target === undefined || (target.mode !== 'nat' && target.mode !== 'nat-unprotected')) continue
    const any = hostIP === '0.0.0.0' || hostIP === '::'
    const key = any ? `ports${family} ${protocol} . ${hostPort}` : `ports${family}-at ${hostIP} . ${protocol} . ${hostPort}`
    elements.add(`${key} : ${address(family)} . ${containerPort}`)
  }
  return elements
}

/** Commands from one state of `portElements` to another. */
export function portChanges({ table }: CnmNames, from: Set<string>, to: Set<string>): string[] {
  const grouped = (lines: Set<string>): Elements[] => {
    const byCollection = new Map<string, string[]>()
    for (const line of lines) {
      const blank = line.indexOf(' ')
      const list = byCollection.get(line.slice(0, blank)) ?? []
      list.push(line.slice(blank + 1))
      byCollection.set(line.slice(0, blank), list)
    }
    return [...byCollection].map(([collection, elements]) => ({ collection, elements }))
  }
  const gone = [...from].filter((line) => !to.has(line)).map((line) => line.replace(/ : .*$/, ''))
  return [...commands('delete', table, grouped(new Set(gone))), ...commands('add', table, grouped(new Set([...to].filter((line) => !from.has(line)))))]
}

function commands(verb: 'add' | 'delete', table: string, all: Elements[]): string[] {
  return all.map(({ collection, elements }) => `${verb} element inet ${table} ${collection} { ${elements.join(', ')} }`)
}

export function dnsPortElement({ table }: CnmNames, port: number): string {
  return `add element inet ${table} dns-ports { ${port} }`
}

/**
 * Inside a container's namespace: questions to 127.0.0.11 go to the server, on the bridge's gateway or in the namespace itself. Where it is
 * stands in a map, so that these rules, whose hooks take the kernel long to set up, can be there before it is known.
 */
export const insideRuleset = [
  'table ip gantry-dns { }', 'delete table ip gantry-dns', 'table ip gantry-dns {',
  '  map server { type inet_proto . inet_service : ipv4_addr . inet_service; }',
  '  chain guard {', '    type filter hook prerouting priority raw; policy accept;', '    iifname != "lo" ip daddr 127.0.0.0/8 drop', '  }',
  '  chain output {', '    type nat hook output priority -100; policy accept;',
  '    ip daddr 127.0.0.11 dnat ip to ip protocol . th dport map @server', '  }',
  '  chain postrouting {', '    type nat hook postrouting priority srcnat; policy accept;',
  '    ip saddr 127.0.0.0/8 oifname != "lo" masquerade', '  }',
  '}',
]

export function insideServer({ address, udpPort, tcpPort }: { address: string; udpPort: number; tcpPort: number }): string[] {
  return [`add element ip gantry-dns server { udp . 53 : ${address} . ${udpPort}, tcp . 53 : ${address} . ${tcpPort} }`]
}
