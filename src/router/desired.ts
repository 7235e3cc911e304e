/** From Routes and what they lead to, what the proxy shall do. Pure. */
import { isIPv4 } from 'node:net'
import { labelSelectorOf } from '../core/selectors.ts'
import type { EndpointSlice, Pod, Route, Service } from '../core/types/index.ts'
import { keyOf } from '../core/client.ts'

export interface Target { ip: string; port: number }

/** One backend of the proxy and the way to it. */
export interface Way {
  /** Key of the Route. */
  route: string
  /** HTTP: lower-case host (a wildcard keeps its `*.`) and path prefix with its last slash, e.g. `web.example.org/shop/`. */
  match?: string
  tcpPort?: number
  sticky: boolean
  targets: Target[]
}

export interface Refusal { route: string; reason: 'HostConflict' | 'PortConflict' | 'NoSuchPort'; message: string }
export interface Desired { ways: Way[]; refusals: Refusal[] }

/** What the routes refer to, found by key (`namespace/name`). */
export interface Lookup {
  service(key: string): Service | undefined
  slices(serviceKey: string): Iterable<EndpointSlice>
  pods(namespace: string): Iterable<Pod>
}

/** A route's host with the cluster's domain, if it is a bare name. */
export function hostOf(route: Route, domain: string): string {
  const host = (route.spec.host ?? '').toLowerCase()
  return host.includes('.') ? host : `${host}.${domain}`
}

/** Of two routes for the same host and path, or the same port, the older one holds; the other is refused. */
export function desiredOf(routes: Iterable<Route>, lookup: Lookup, options: { domain: string; reservedPorts: ReadonlySet<number> }): Desired {
  const out: Desired = { ways: [], refusals: [] }
  const taken = new Map<string | number, string>()
  const oldestFirst = [...routes].sort((a, b) =>
    (a.metadata.creationTimestamp ?? '').localeCompare(b.metadata.creationTimestamp ?? '') || keyOf(a).localeCompare(keyOf(b)))
  for (const r of oldestFirst) {
    const route = keyOf(r)
    const { tcpPort } = r.spec
    const match = tcpPort === undefined ? hostOf(r, options.domain) + prefixOf(r.spec.path) : undefined
    const holder = taken.get(tcpPort ?? match!)
    if (tcpPort !== undefined && options.reservedPorts.has(tcpPort)) {
      out.refusals.push({ route, reason: 'PortConflict', message: `port ${tcpPort} is the router's or the API's own` })
      continue
    }
    if (holder !== undefined) {
      const what = tcpPort === undefined ? { reason: 'HostConflict' as const, is: match } : { reason: 'PortConflict' as const, is: `port ${tcpPort}` }
      out.refusals.push({ route, reason: what.reason, message: `${what.is} is held by the route ${holder}` })
      continue
    }
    taken.set(tcpPort ?? match!, route)
    out.ways.push({
      route, sticky: r.spec.sticky === true, targets: targetsOf(r, lookup),
      ...(tcpPort === undefined ? { match: match! } : { tcpPort }),
    })
  }
  return out
}

function prefixOf(path: string | undefined): string {
  const bare = (path ?? '/').replace(/\/+$/, '')
  return bare === '' ? '/' : `${bare}/`
}

function targetsOf(r: Route, lookup: Lookup): Target[] {
  const { service, selector, port } = r.spec.backend
  const namespace = r.metadata.namespace ?? 'default'
  const found = new Map<string, Target>()
  // Users and nodes write these addresses: nothing but numbers may get into the proxy's configuration.
  const add = (t: Target) => { if (isIPv4(t.ip) && Number.isInteger(t.port)) found.set(`${t.ip}:${t.port}`, t) }
  if (service !== undefined) {
    const key = `${namespace}/${service.name}`
    const ports = lookup.service(key)?.spec.ports ?? []
    // A slice names its ports as the Service does, so the Service's port leads to the slice's by name.
    const wanted = ports.find(p => p.port === service.port || p.name === service.port)
    if (wanted === undefined) return []
    for (const slice of lookup.slices(key)) {
      const at = slice.ports?.find(p => (p.name ?? '') === (wanted.name ?? ''))?.port
      if (at === undefined) continue
      for (const e of slice.endpoints) if (e.conditions?.ready !== false) for (const ip of e.addresses) add({ ip, port: at })
    }
  } else if (selector !== undefined && port !== undefined) {
    const matches = labelSelectorOf(selector)
    for (const p of lookup.pods(namespace)) {
      const ready = p.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True')
      if (ready && p.metadata.deletionTimestamp === undefined && p.status?.podIP !== undefined && matches(p.metadata.labels)) add({ ip: p.status.podIP, port })
    }
  }
  return [...found.values()].sort((a, b) => a.ip.localeCompare(b.ip) || a.port - b.port)
}
