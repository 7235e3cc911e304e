/** Turns services into contents of the maps that `ruleset.ts` describes. Pure. */
import type { Cidr } from '../ipv4.ts'
import { contains, isIPv4, parseIPv4 } from '../ipv4.ts'
import type { ServicePortRule } from '../network.ts'
import type { Elements } from './elements.ts'
import { put } from './elements.ts'
import type { Family } from './ruleset.ts'
import { byAddress, byNodePort, markOf, markValues, pickChain, stickChain } from './ruleset.ts'

export const serviceCollections = [byAddress, byNodePort].flatMap(({ prefix }) =>
  ['services', 'backends', 'picks', 'slots'].map((name) => prefix + name)).concat('refused', 'node-refused', 'outside-backends', 'selves')

export const serviceSets: ReadonlySet<string> = new Set(['refused', 'node-refused', 'outside-backends', 'selves'])

export interface ServicePlan {
  elements: Elements
  /** Chains that elements refer to: name → rules. */
  chains: Map<string, string[]>
  /** `ip protocol port endpointIP endpointPort` of UDP endpoints: what connection tracking must forget when it goes. */
  udp: Set<string>
  /** Rules that could not be programmed, and why. */
  problems: string[]
}

/**
 * A rule that is wrong or collides with one before it (in order of names) becomes a problem; the others are planned all the same.
 */
export function planServices(rules: ServicePortRule[], ranges: { cluster: Cidr; pods: Cidr }): ServicePlan {
  const plan: ServicePlan = { elements: new Map(), chains: new Map(), udp: new Set(), problems: [] }
  const owners = new Map<string, string>()
  const sorted = rules.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  for (const rule of sorted) {
    const problem = problemOf(rule)
    if (problem !== undefined) {
      plan.problems.push(`${rule.name}: ${problem}`)
      continue
    }
    const endpoints = distinct(rule.endpoints)
    for (const address of new Set([rule.clusterIP, ...(rule.externalIPs ?? [])])) {
      const key = `${address} . ${rule.protocol} . ${rule.port}`
      if (!own(owners, key, rule, plan)) continue
      if (endpoints.length === 0) put(plan.elements, 'refused', key)
      else planEntry(plan, byAddress, key, endpoints, rule.affinitySeconds)
      if (rule.protocol === 'udp') rememberUdp(plan, address, rule.port, endpoints)
    }
    if (rule.nodePort !== undefined) {
      const key = `${rule.protocol} . ${rule.nodePort}`
      if (!own(owners, key, rule, plan)) continue
      if (endpoints.length === 0) put(plan.elements, 'node-refused', key)
      else planEntry(plan, byNodePort, key, endpoints, rule.affinitySeconds)
      if (rule.protocol === 'udp') rememberUdp(plan, '', rule.nodePort, endpoints)
    }
    for (const { ip, port } of endpoints) {
      const address = parseIPv4(ip)
      if (contains(ranges.pods, address)) put(plan.elements, 'selves', `${ip} . ${ip}`)
      else if (!contains(ranges.cluster, address)) put(plan.elements, 'outside-backends', `${ip} . ${rule.protocol} . ${port}`)
    }
  }
  return plan
}

type Endpoint = ServicePortRule['endpoints'][number]

function planEntry(plan: ServicePlan, family: Family, key: string, endpoints: Endpoint[], affinitySeconds?: number): void {
  const { prefix } = family
  const chain = affinitySeconds === undefined
    ? pickChain(family, endpoints.length) : stickChain(family, endpoints.length, affinitySeconds)
  plan.chains.set(chain.name, chain.rules)
  put(plan.elements, `${prefix}services`, key, `goto ${chain.name}`)
  if (affinitySeconds === undefined) {
    endpoints.forEach(({ ip, port }, index) => put(plan.elements, `${prefix}backends`, `${key} . ${markOf(index)}`, `${ip} . ${port}`))
    return
  }
  const taken = new Set<number>()
  endpoints.forEach(({ ip, port }, index) => {
    const mark = markOf(freeSlot(ip, port, taken))
    put(plan.elements, `${prefix}picks`, `${key} . ${markOf(index)}`, mark)
    put(plan.elements, `${prefix}slots`, `${key} . ${mark}`, `${ip} . ${port}`)
  })
}

/**
 * A function of the endpoint alone (but for rare collisions), so that clients stay with it across restarts and other endpoints'
 * changes.
 */
function freeSlot(ip: string, port: number, taken: Set<number>): number {
  let hash = 0x811c9dc5
  for (const char of `${ip}:${port}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193)
  let slot = (hash >>> 0) % markValues
  while (taken.has(slot)) slot = (slot + 1) % markValues
  taken.add(slot)
  return slot
}

function rememberUdp(plan: ServicePlan, address: string, port: number, endpoints: Endpoint[]): void {
  for (const endpoint of endpoints) plan.udp.add(`${address} ${port} ${endpoint.ip} ${endpoint.port}`)
}

function own(owners: Map<string, string>, key: string, rule: ServicePortRule, plan: ServicePlan): boolean {
  const owner = owners.get(key)
  if (owner !== undefined) {
    plan.problems.push(`${rule.name}: ${key.replaceAll(' . ', ' ')} belongs to ${owner} already`)
    return false
  }
  owners.set(key, rule.name)
  return true
}

/** Sorted, so that the same endpoints in another order change nothing. */
function distinct(endpoints: Endpoint[]): Endpoint[] {
  const byKey = new Map(endpoints.map((endpoint) => [`${endpoint.ip}:${endpoint.port}`, endpoint]))
  return [...byKey.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, endpoint]) => endpoint)
}

const maxEndpoints = 65_536
const maxAffinitySeconds = 86_400

function problemOf(rule: ServicePortRule): string | undefined {
  const port = (value: number): boolean => Number.isInteger(value) && value >= 1 && value <= 65_535
  if (rule.protocol !== 'tcp' && rule.protocol !== 'udp') return `protocol "${String(rule.protocol)}" is neither tcp nor udp`
  const bad = [rule.clusterIP, ...(rule.externalIPs ?? []), ...rule.endpoints.map(({ ip }) => ip)].find((ip) => !isIPv4(ip))
  if (bad !== undefined) return `"${bad}" is not an IPv4 address`
  const badPort = [rule.port, ...(rule.nodePort === undefined ? [] : [rule.nodePort]), ...rule.endpoints.map((endpoint) => endpoint.port)]
    .find((value) => !port(value))
  if (badPort !== undefined) return `port ${badPort} is not between 1 and 65535`
  if (rule.endpoints.length > maxEndpoints) return `more than ${maxEndpoints} endpoints`
  const seconds = rule.affinitySeconds
  if (seconds !== undefined && !(Number.isInteger(seconds) && seconds >= 1 && seconds <= maxAffinitySeconds)) {
    return `affinity of ${seconds} s is not between 1 and ${maxAffinitySeconds}`
  }
  return undefined
}
