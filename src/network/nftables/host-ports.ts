/** Published ports of this machine's sandboxes: who has which, and the map elements for them. */
import { isIPv4 } from '../ipv4.ts'
import type { PortMapping, Sandbox } from '../network.ts'
import { NetworkError } from '../network.ts'
import type { Elements } from './elements.ts'
import { put } from './elements.ts'

export const hostPortCollections = ['host-ports-at', 'host-ports', 'published-selves'] as const

export function hostPortKind(collection: string): 'set' | 'map' {
  return collection === 'published-selves' ? 'set' : 'map'
}

const anyAddress = '0.0.0.0'

export function hostPortElements(sandboxes: Iterable<Pick<Sandbox, 'ip' | 'ports'>>): Elements {
  const elements: Elements = new Map()
  for (const { ip, ports } of sandboxes) {
    for (const { hostIP = anyAddress, hostPort, containerPort, protocol } of ports) {
      const target = `${ip} . ${containerPort}`
      if (hostIP === anyAddress) put(elements, 'host-ports', `${protocol} . ${hostPort}`, target)
      else put(elements, 'host-ports-at', `${hostIP} . ${protocol} . ${hostPort}`, target)
      put(elements, 'published-selves', `${ip} . ${ip}`)
    }
  }
  return elements
}

/** Ports in use by sandboxes: `protocol port` → host address → sandbox. */
export class HostPorts {
  readonly #owners = new Map<string, Map<string, string>>()

  /** Takes all of `ports` for `id`, or none: NetworkError `invalid` or `conflict`. */
  reserve(id: string, ports: PortMapping[]): void {
    const done: PortMapping[] = []
    try {
      for (const port of ports) {
        this.#reserveOne(id, port)
        done.push(port)
      }
    } catch (error) {
      this.release(done)
      throw error
    }
  }

  release(ports: PortMapping[]): void {
    for (const { protocol, hostPort, hostIP = anyAddress } of ports) {
      const owners = this.#owners.get(`${protocol} ${hostPort}`)
      owners?.delete(hostIP)
      if (owners?.size === 0) this.#owners.delete(`${protocol} ${hostPort}`)
    }
  }

  #reserveOne(id: string, { protocol, hostPort, containerPort, hostIP = anyAddress }: PortMapping): void {
    if (protocol !== 'tcp' && protocol !== 'udp') throw new NetworkError('invalid', `protocol "${String(protocol)}" is neither tcp nor udp`)
    for (const port of [hostPort, containerPort]) {
      if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new NetworkError('invalid', `port ${port} is not between 1 and 65535`)
    }
    if (!isIPv4(hostIP)) throw new NetworkError('invalid', `host address "${hostIP}" of port ${hostPort} is not an IPv4 address`)
    const key = `${protocol} ${hostPort}`
    const owners = this.#owners.get(key) ?? new Map<string, string>()
    const [taken] = hostIP === anyAddress ? owners.values() : [owners.get(hostIP) ?? owners.get(anyAddress)]
    if (taken !== undefined) throw new NetworkError('conflict', `host port ${hostPort}/${protocol} is published by sandbox ${taken} already`)
    owners.set(hostIP, id)
    this.#owners.set(key, owners)
  }
}
