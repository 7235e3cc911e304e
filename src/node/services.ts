/** From Services and their EndpointSlices to balancing rules and DNS records; one Service at a time, so a change costs its own size. */
import { isIPv4 } from 'node:net'
import type { EndpointSlice, Endpoint, Service, ServicePort } from '../core/types/index.ts'
import type { DnsRecords, ServicePortRule } from '../network/network.ts'

/** What one Service (or Pod) adds to the whole. */
export interface Contribution {
  rules: ServicePortRule[]
  a: Map<string, string[]>
  srv: Map<string, { port: number; target: string }[]>
  cname: Map<string, string>
  ptr: Map<string, string>
}

export function emptyContribution(): Contribution {
  return { rules: [], a: new Map(), srv: new Map(), cname: new Map(), ptr: new Map() }
}

interface Target { ip: string; endpoint: Endpoint; slice: EndpointSlice }

export function serviceContribution(service: Service, slices: Iterable<EndpointSlice>, nodeName: string, domain: string): Contribution {
  const out = emptyContribution()
  const { namespace, name } = service.metadata
  const base = `${name}.${namespace}.svc.${domain}`
  const { spec } = service
  if (spec.type === 'ExternalName') {
    if (spec.externalName !== undefined && spec.externalName !== '') out.cname.set(base, spec.externalName.replace(/\.$/, '').toLowerCase())
    return out
  }
  const targets: Target[] = []
  for (const slice of slices) {
    if (slice.addressType !== 'IPv4') continue
    for (const endpoint of slice.endpoints ?? []) {
      const ip = endpoint.addresses[0]
      if (ip === undefined || endpoint.conditions?.ready === false) continue
      targets.push({ ip, endpoint, slice })
      if (endpoint.targetRef?.kind === 'Pod') out.a.set(podName(ip, endpoint.targetRef.namespace ?? namespace!, domain), [ip])
    }
  }
  const clusterIP = spec.clusterIP
  if (clusterIP === undefined || clusterIP === '' || clusterIP === 'None') headless(out, targets, base)
  else if (isIPv4(clusterIP)) balanced(out, service, clusterIP, targets, base, nodeName)
  return out
}

/** A Pod on this node has its name even if no Service leads to it. */
export function podContribution(namespace: string, ip: string, domain: string): Contribution {
  const out = emptyContribution()
  out.a.set(podName(ip, namespace, domain), [ip])
  return out
}

function podName(ip: string, namespace: string, domain: string): string { return `${ip.replaceAll('.', '-')}.${namespace}.pod.${domain}` }

function srvName(p: { name?: string; protocol?: string }, base: string): string | undefined {
  return p.name === undefined || p.name === '' ? undefined : `_${p.name}._${(p.protocol ?? 'TCP').toLowerCase()}.${base}`
}

function headless(out: Contribution, targets: Target[], base: string): void {
  const all: string[] = []
  for (const { ip, endpoint, slice } of targets) {
    all.push(ip)
    const own = `${endpoint.hostname ?? ip.replaceAll('.', '-')}.${base}`
    out.a.set(own, [...(out.a.get(own) ?? []), ip])
    if (endpoint.hostname !== undefined || !out.ptr.has(ip)) out.ptr.set(ip, own)
    for (const p of slice.ports ?? []) {
      const name = srvName(p, base)
      if (name === undefined || p.port === undefined) continue
      const list = out.srv.get(name) ?? []
      list.push({ port: p.port, target: own })
      out.srv.set(name, list)
    }
  }
  // A Service without ready Pods exists (an empty answer), unlike a name nobody knows.
  out.a.set(base, [...new Set(all)])
}

function balanced(out: Contribution, service: Service, clusterIP: string, targets: Target[], base: string, nodeName: string): void {
  const { spec, metadata } = service
  out.a.set(base, [clusterIP])
  out.ptr.set(clusterIP, base)
  const local = spec.internalTrafficPolicy === 'Local'
  const externalIPs = [...(spec.externalIPs ?? []), ...(service.status?.loadBalancer?.ingress ?? []).flatMap(i => i.ip === undefined ? [] : [i.ip])]
  for (const p of spec.ports ?? []) {
    const name = srvName(p, base)
    if (name !== undefined) out.srv.set(name, [{ port: p.port, target: base }])
    const protocol = (p.protocol ?? 'TCP').toLowerCase()
    if (protocol !== 'tcp' && protocol !== 'udp') continue
    const affinity = spec.sessionAffinity === 'ClientIP' ? spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800 : undefined
    out.rules.push({
      name: `${metadata.namespace}/${metadata.name}:${p.name ?? p.port}`, clusterIP, port: p.port, protocol,
      ...(externalIPs.length > 0 && { externalIPs }),
      ...(p.nodePort !== undefined && p.nodePort > 0 && { nodePort: p.nodePort }),
      endpoints: endpointsOf(p, targets, local ? nodeName : undefined),
      ...(affinity !== undefined && { affinitySeconds: affinity }),
    })
  }
}

function endpointsOf(p: ServicePort, targets: Target[], onlyNode: string | undefined): { ip: string; port: number }[] {
  const seen = new Map<string, { ip: string; port: number }>()
  for (const { ip, endpoint, slice } of targets) {
    if (onlyNode !== undefined && endpoint.nodeName !== onlyNode) continue
    const port = slice.ports?.find(x => (x.name ?? '') === (p.name ?? '') && (x.protocol ?? 'TCP') === (p.protocol ?? 'TCP'))?.port
    if (port !== undefined) seen.set(`${ip}:${port}`, { ip, port })
  }
  return [...seen.values()]
}

/** All contributions together. Names that several give are merged (addresses) or won by the last (the rest). */
export class ServiceTable {
  readonly dns: DnsRecords = { a: new Map(), srv: new Map(), cname: new Map(), ptr: new Map() }
  readonly #parts = new Map<string, Contribution>()
  readonly #aOwners = new Map<string, Set<string>>()

  /** Replaces what `key` contributes; undefined takes it away. */
  set(key: string, next: Contribution | undefined): void {
    const old = this.#parts.get(key)
    if (next === undefined) this.#parts.delete(key)
    else this.#parts.set(key, next)
    for (const map of ['srv', 'cname', 'ptr'] as const) {
      for (const name of old?.[map].keys() ?? []) if (next?.[map].has(name) !== true) this.dns[map].delete(name)
      for (const [name, value] of next?.[map] ?? []) (this.dns[map] as Map<string, unknown>).set(name, value)
    }
    for (const name of old?.a.keys() ?? []) {
      if (next?.a.has(name) === true) continue
      this.#aOwners.get(name)?.delete(key)
      this.#mergeA(name)
    }
    for (const name of next?.a.keys() ?? []) {
      const owners = this.#aOwners.get(name) ?? new Set()
      this.#aOwners.set(name, owners.add(key))
      this.#mergeA(name)
    }
  }

  rules(): ServicePortRule[] { return [...this.#parts.values()].flatMap(p => p.rules) }

  #mergeA(name: string): void {
    const owners = this.#aOwners.get(name)
    if (owners === undefined || owners.size === 0) {
      this.#aOwners.delete(name)
      this.dns.a.delete(name)
      return
    }
    const merged = new Set<string>()
    for (const key of owners) for (const ip of this.#parts.get(key)?.a.get(name) ?? []) merged.add(ip)
    this.dns.a.set(name, [...merged])
  }
}
