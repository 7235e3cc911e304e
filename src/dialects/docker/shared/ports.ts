/** Ports of containers: `80/tcp`, `8000-8010/udp`, and their bindings. */
import type { HostConfig, PortBinding, StringSet } from '../model.ts'

export type Protocol = 'tcp' | 'udp' | 'sctp'
export interface PortRange { first: number; last: number; protocol: Protocol }

/** undefined if it is no port. */
export function parsePort(text: string): PortRange | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/([a-zA-Z]+))?$/.exec(text)
  if (match === null) return undefined
  const first = Number(match[1])
  const last = Number(match[2] ?? match[1])
  const protocol = (match[3] ?? 'tcp').toLowerCase()
  if (last < first || last > 65535 || !['tcp', 'udp', 'sctp'].includes(protocol)) return undefined
  return { first, last, protocol: protocol as Protocol }
}

export interface PortWish { containerPort: number; protocol: Protocol; hostIP: string; hostPort: string }

/** What shall be published; with `PublishAllPorts` each exposed port without a binding too. In the order of ports. */
export function publishedPorts(host: HostConfig, exposed: StringSet | null | undefined): PortWish[] {
  const out: PortWish[] = []
  const bound = new Set<string>()
  for (const [key, bindings] of Object.entries(host.PortBindings ?? {})) {
    const port = parsePort(key)
    if (port === undefined) continue
    bound.add(`${port.first}/${port.protocol}`)
    const wishes: PortBinding[] = bindings === null || bindings.length === 0 ? [{}] : bindings
    for (const b of wishes) out.push({ containerPort: port.first, protocol: port.protocol, hostIP: b.HostIp ?? '', hostPort: normalHostPort(b.HostPort) })
  }
  if (host.PublishAllPorts === true) {
    for (const key of Object.keys(exposed ?? {})) {
      const range = parsePort(key)
      if (range === undefined) continue
      for (let p = range.first; p <= range.last; p++) {
        if (!bound.has(`${p}/${range.protocol}`)) out.push({ containerPort: p, protocol: range.protocol, hostIP: '', hostPort: '' })
      }
    }
  }
  return out.sort((a, b) => a.containerPort - b.containerPort || (a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : 0))
}

/** `0` and nothing are any port. */
function normalHostPort(text: string | undefined): string { return text === undefined || text === '0' ? '' : text }

/** True if `text` is empty, a port, or a range of them. */
export function isHostPort(text: string): boolean {
  if (text === '') return true
  const range = parsePort(text)
  return range !== undefined && !text.includes('/')
}
