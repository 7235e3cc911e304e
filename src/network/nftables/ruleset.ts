/**
 * The one nftables table of an instance. Services live in maps, never in rules: a packet that opens a connection costs one
 * look-up for the service and one for the endpoint, however many of either there are, and a change of a service is a change of
 * elements.
 *
 *   services     address . protocol . port            → which `pick-N` chain (N = number of endpoints) answers
 *   backends     address . protocol . port . 0..N-1   → endpoint
 *
 * A service with affinity goes through `stick-N-SECONDS` instead: `picks` turns the random number into a slot, which `affinity`
 * remembers for the client and `slots` turns into the endpoint. An endpoint that is gone has no slot any more, so its clients are
 * given another one. Node ports have the same maps without the address.
 *
 * Random numbers and slots pass from one look-up to the next in the packet's mark, which is cleared right afterwards. (nft 1.0.6
 * takes `numgen` within a key too, but only for sets declared by `typeof`, and forgets such a set's port type when it reads it
 * back.)
 */
import type { Names } from '../names.ts'

export interface RulesetPlan {
  names: Names
  podCIDR: string
  gateway: string
  clusterCIDR: string
  serviceCIDR: string
  vxlanId: number
  vxlanPort: number
}

/** How a map of services is keyed: by address and port, or (node ports) by port alone. */
export interface Family {
  prefix: '' | 'node-'
  key: string
  type: string
}

export const byAddress: Family = {
  prefix: '',
  key: 'ip daddr . ip protocol . th dport',
  type: 'ipv4_addr . inet_proto . inet_service',
}

export const byNodePort: Family = {
  prefix: 'node-',
  key: 'meta l4proto . th dport',
  type: 'inet_proto . inet_service',
}

/** Our marks have this first byte, so that clearing them leaves others' alone. */
const markBase = 0x67000000
const markMask = 0xff000000
/** Random numbers and slots are below this. */
export const markValues = 0x1000000

export function markOf(value: number): string {
  return `0x${(markBase + value).toString(16)}`
}

function familyMaps({ prefix, type }: Family): string {
  return `
  map ${prefix}services { type ${type} : verdict; }
  map ${prefix}backends { type ${type} . mark : ipv4_addr . inet_service; }
  map ${prefix}picks { type ${type} . mark : mark; }
  map ${prefix}slots { type ${type} . mark : ipv4_addr . inet_service; }
  map ${prefix}affinity { type ipv4_addr . ${type} : mark; size 262144; flags timeout, dynamic; timeout 3h; }`
}

/** Maps and rules that do not depend on desired state; applying it again changes nothing and keeps all elements. */
export function baseRuleset(plan: RulesetPlan): string {
  const { bridge, vxlan, table } = plan.names
  const chains: Record<string, string[]> = {
    // Loopback addresses from outside would reach this machine's own services, since the bridge may route them (published ports).
    guard: [
      'type filter hook prerouting priority raw; policy accept;',
      'iifname != "lo" ip daddr 127.0.0.0/8 drop',
      'iifname != "lo" ip saddr 127.0.0.0/8 drop',
    ],
    prerouting: [
      'type nat hook prerouting priority dstnat; policy accept;',
      'ip daddr . ip protocol . th dport vmap @services',
      'fib daddr type local goto published',
    ],
    output: [
      'type nat hook output priority -100; policy accept;',
      'ip daddr . ip protocol . th dport vmap @services',
      'fib daddr type local goto published',
    ],
    published: [
      // A published port 53 must not take the DNS server's queries.
      `ip daddr ${plan.gateway} th dport 53 return`,
      'dnat ip to ip daddr . ip protocol . th dport map @host-ports-at',
      'dnat ip to ip protocol . th dport map @host-ports',
      'ip protocol . th dport vmap @node-services',
    ],
    'clear-prerouting': [
      'type filter hook prerouting priority -99; policy accept;',
      `meta mark & 0x${markMask.toString(16)} == ${markOf(0)} meta mark set 0`,
    ],
    'clear-output': [
      'type filter hook output priority -99; policy accept;',
      `meta mark & 0x${markMask.toString(16)} == ${markOf(0)} meta mark set 0`,
    ],
    postrouting: [
      'type nat hook postrouting priority srcnat; policy accept;',
      // A pod that reached itself through a service or published port must not get its answer from its own address.
      `oifname "${bridge}" ct status dnat ip saddr . ip daddr @selves masquerade fully-random`,
      `oifname "${bridge}" ct status dnat ip saddr . ip daddr @published-selves masquerade fully-random`,
      `oifname "${bridge}" ip saddr 127.0.0.0/8 masquerade fully-random`,
      // What came from outside and goes to another machine's pod has to come back through this machine.
      `oifname "${vxlan}" ip saddr != ${plan.clusterCIDR} masquerade fully-random`,
      'ct status dnat ip daddr . ip protocol . th dport @outside-backends masquerade fully-random',
      `ip saddr ${plan.podCIDR} ip daddr != ${plan.clusterCIDR} oifname != { "lo", "${bridge}" } masquerade fully-random`,
    ],
    input: [
      'type filter hook input priority filter; policy accept;',
      // Only peers may put packets into the overlay. The bits at 96 are the VXLAN header's network id: another instance may share
      // the port.
      `udp dport ${plan.vxlanPort} @th,96,24 ${plan.vxlanId} ip saddr != @peers drop`,
      'ip daddr . ip protocol . th dport @refused goto refuse',
      'ip protocol . th dport @node-refused fib daddr type local goto refuse',
    ],
    forward: [
      'type filter hook forward priority filter; policy accept;',
      'ip daddr . ip protocol . th dport @refused goto refuse',
      // Still a service address after translation: no such service or port, or nobody behind it.
      `ip daddr ${plan.serviceCIDR} goto refuse`,
    ],
    'output-filter': [
      'type filter hook output priority filter; policy accept;',
      'ip daddr . ip protocol . th dport @refused goto refuse',
      `ip daddr ${plan.serviceCIDR} goto refuse`,
    ],
    refuse: ['meta l4proto tcp reject with tcp reset', 'reject with icmp type port-unreachable'],
  }
  const names = Object.keys(chains)
  return `table ip ${table} {
  set peers { type ipv4_addr; }
  set selves { type ipv4_addr . ipv4_addr; }
  set published-selves { type ipv4_addr . ipv4_addr; }
  set refused { type ipv4_addr . inet_proto . inet_service; }
  set node-refused { type inet_proto . inet_service; }
  set outside-backends { type ipv4_addr . inet_proto . inet_service; }
  map host-ports-at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map host-ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
${familyMaps(byAddress)}
${familyMaps(byNodePort)}
${names.map((name) => `  chain ${name} {${hookOf(chains[name]!)} }`).join('\n')}
}
${names.map((name) => `flush chain ip ${table} ${name}`).join('\n')}
table ip ${table} {
${names.map((name) => `  chain ${name} {\n${rulesOf(chains[name]!).map((rule) => `    ${rule}`).join('\n')}\n  }`).join('\n')}
}
`
}

function hookOf(lines: string[]): string {
  return lines[0]!.startsWith('type ') && lines[0]!.includes(' hook ') ? ` ${lines[0]}` : ''
}

function rulesOf(lines: string[]): string[] {
  return hookOf(lines) === '' ? lines : lines.slice(1)
}

function randomMark(count: number): string {
  return `meta mark set numgen random mod ${count} offset ${markBase}`
}

/** The chain that gives a new connection one of `count` endpoints, equally likely. */
export function pickChain(family: Family, count: number): { name: string; rules: string[] } {
  return {
    name: `${family.prefix}pick-${count}`,
    rules: [`${randomMark(count)} dnat ip to ${family.key} . meta mark map @${family.prefix}backends`],
  }
}

/** The same with a memory of `seconds` since the client's last new connection. */
export function stickChain(family: Family, count: number, seconds: number): { name: string; rules: string[] } {
  const { prefix, key } = family
  const remember = `update @${prefix}affinity { ip saddr . ${key} timeout ${seconds}s : meta mark }`
  const translate = `dnat ip to ${key} . meta mark map @${prefix}slots`
  const pick = `${randomMark(count)} meta mark set ${key} . meta mark map @${prefix}picks`
  return {
    name: `${prefix}stick-${count}-${seconds}`,
    rules: [
      `meta mark set ip saddr . ${key} map @${prefix}affinity ${remember} ${translate}`,
      `${pick} ${remember} ${translate}`,
      // With the memory full the service still answers.
      `${pick} ${translate}`,
    ],
  }
}
