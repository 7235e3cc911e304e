/** Networks of the Docker API on this machine: the front's requests in the words of `network/cnm`, and its answers in Docker's shapes. */
import { CnmError } from '../../../network/cnm/cnm.ts'
import type { CnmEvent, NetworkInfo, NetworkSpec } from '../../../network/cnm/cnm.ts'
import type { Filters, NetworksBackend } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { CreateNetwork, EndpointSettings, IPAMConfig, NetworkInspect, StringMap } from '../model.ts'
import type { ContainerEndpoints, Parts } from './parts.ts'

export function createNetworks(parts: Parts, containers: ContainerEndpoints): NetworksBackend {
  const networks = new LocalNetworks(parts, containers)
  parts.cnm.onEvent((event) => networks.forward(event))
  return networks
}

class LocalNetworks implements NetworksBackend {
  readonly #parts: Parts
  readonly #containers: ContainerEndpoints

  constructor(parts: Parts, containers: ContainerEndpoints) {
    this.#parts = parts
    this.#containers = containers
  }

  async list(filters: Filters): Promise<NetworkInspect[]> {
    return this.#parts.cnm.networks().filter((network) => this.#matches(network, filters)).map((network) => inspectOf(network))
  }

  async inspect(ref: string, options: { scope?: string }): Promise<NetworkInspect> {
    const network = this.#find(ref)
    if (options.scope !== undefined && options.scope !== '' && options.scope !== network.scope) throw new DockerError('not-found', `network ${ref} not found`)
    return inspectOf(network)
  }

  async create(request: CreateNetwork): Promise<{ Id: string; Warning: string }> {
    if (request.Scope !== undefined && request.Scope !== '' && request.Scope !== 'local') {
      throw new DockerError('unavailable', 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.')
    }
    if (request.Ingress === true) throw new DockerError('unavailable', 'ingress networks need a swarm manager, and this node is none')
    const info = await inDockerTerms(this.#parts.cnm.createNetwork(specOf(request)))
    return { Id: info.id, Warning: '' }
  }

  connect(ref: string, container: string, settings: EndpointSettings): Promise<void> {
    return inDockerTerms(async () => this.#containers.connect(container, this.#find(ref).id, settings))
  }

  disconnect(ref: string, container: string, force: boolean): Promise<void> {
    return inDockerTerms(async () => this.#containers.disconnect(container, this.#find(ref).id, force))
  }

  async remove(ref: string): Promise<void> {
    const network = this.#find(ref)
    await inDockerTerms(this.#parts.cnm.removeNetwork(network.id))
  }

  async prune(filters: Filters): Promise<{ NetworksDeleted: string[] }> {
    const until = filters['until']?.[0]
    const beforeMs = until === undefined ? Infinity : untilMs(until)
    const deleted: string[] = []
    for (const network of this.#parts.cnm.networks()) {
      if (network.predefined || network.createdAtMs >= beforeMs || !labelsMatch(network.labels, filters) || this.#inUse(network)) continue
      try {
        await this.#parts.cnm.removeNetwork(network.id)
        deleted.push(network.name)
      } catch (error) {
        // Joined meanwhile: then it is in use.
        if (!(error instanceof CnmError) || (error.code !== 'forbidden' && error.code !== 'not-found')) this.#parts.logger.warn('cannot prune network', { network: network.name, error: String(error) })
      }
    }
    this.#parts.events.emit('network', 'prune', '', { reclaimed: '0' })
    return { NetworksDeleted: deleted }
  }

  forward(event: CnmEvent): void {
    if (event.type === 'files') return
    const { id, name, driver } = event.network
    const container: StringMap = event.type === 'connect' || event.type === 'disconnect' ? { container: event.sandboxId } : {}
    this.#parts.events.emit('network', event.type, id, { ...container, name, type: driver })
  }

  #find(ref: string): NetworkInfo {
    try {
      return this.#parts.cnm.find(ref)
    } catch (error) {
      throw dockerErrorOf(error)
    }
  }

  #inUse(network: NetworkInfo): boolean {
    return network.endpoints.length > 0 || this.#containers.onNetwork(network.id).length > 0
  }

  #matches(network: NetworkInfo, filters: Filters): boolean {
    const any = (key: string, test: (value: string) => boolean): boolean => {
      const values = filters[key]
      return values === undefined || values.length === 0 || values.some(test)
    }
    return any('driver', (value) => network.driver === value)
      && any('id', (value) => network.id.startsWith(value))
      && any('name', (value) => network.name.includes(value))
      && any('scope', (value) => network.scope === value)
      && any('type', (value) => (typeOf(value) === 'builtin') === network.predefined)
      // A predefined one is never dangling, and never in the way.
      && any('dangling', (value) => isTrue(value) === (!network.predefined && !this.#inUse(network)))
      && labelsMatch(network.labels, filters)
  }
}

function typeOf(value: string): 'builtin' | 'custom' {
  if (value !== 'builtin' && value !== 'custom') throw new DockerError('invalid', `invalid filter: 'type'='${value}'`)
  return value
}

function isTrue(value: string): boolean {
  if (['1', 't', 'true'].includes(value.toLowerCase())) return true
  if (['0', 'f', 'false'].includes(value.toLowerCase())) return false
  throw new DockerError('invalid', `invalid filter 'dangling=[${value}]'`)
}

/** All of `label`, none of `label!`; `key` or `key=value`. */
function labelsMatch(labels: StringMap, filters: Filters): boolean {
  const has = (wish: string): boolean => {
    const equals = wish.indexOf('=')
    return equals < 0 ? labels[wish] !== undefined : labels[wish.slice(0, equals)] === wish.slice(equals + 1)
  }
  return (filters['label'] ?? []).every(has) && !(filters['label!'] ?? []).some(has)
}

const unitsMs: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** Unix seconds, a date, or a duration before now in Go's form. */
function untilMs(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000
  if (/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    return Date.now() - [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce((sum, [, number, unit]) => sum + Number(number) * unitsMs[unit!]!, 0)
  }
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) throw new DockerError('invalid', `invalid filter 'until=${text}'`)
  return ms
}

function specOf(request: CreateNetwork): NetworkSpec {
  const ipam = request.IPAM
  return {
    name: request.Name, driver: request.Driver, ipamDriver: ipam?.Driver, ipamOptions: ipam?.Options ?? {},
    pools: (ipam?.Config ?? []).map(({ Subnet, IPRange, Gateway, AuxiliaryAddresses }) => ({
      ...present('subnet', Subnet), ...present('range', IPRange), ...present('gateway', Gateway),
      ...(AuxiliaryAddresses === undefined || AuxiliaryAddresses === null ? {} : { auxiliary: AuxiliaryAddresses }),
    })),
    ipv4: request.EnableIPv4, ipv6: request.EnableIPv6, internal: request.Internal, attachable: request.Attachable, configOnly: request.ConfigOnly,
    configFrom: request.ConfigFrom?.Network, options: request.Options, labels: request.Labels,
  }
}

function present<K extends string>(key: K, value: string | undefined): { [P in K]?: string } {
  return (value === undefined || value === '' ? {} : { [key]: value }) as { [P in K]?: string }
}

function inspectOf(network: NetworkInfo): NetworkInspect {
  const config = network.pools.map(({ subnet, gateway, range, auxiliary }): IPAMConfig => ({
    Subnet: subnet, ...present('IPRange', range), ...present('Gateway', gateway), ...(auxiliary === undefined ? {} : { AuxiliaryAddresses: auxiliary }),
  }))
  return {
    Name: network.name, Id: network.id, Created: new Date(network.createdAtMs).toISOString(), Scope: network.scope, Driver: network.driver,
    EnableIPv4: network.ipv4, EnableIPv6: network.ipv6,
    IPAM: { Driver: network.ipamDriver, Options: Object.keys(network.ipamOptions).length === 0 ? null : network.ipamOptions, Config: config },
    Internal: network.internal, Attachable: network.attachable, Ingress: false, ConfigFrom: { Network: network.configFrom }, ConfigOnly: network.configOnly,
    Containers: Object.fromEntries(network.endpoints.map((endpoint) => [endpoint.sandboxId, {
      Name: endpoint.ownerName, EndpointID: endpoint.id, MacAddress: endpoint.mac, IPv4Address: endpoint.ipv4, IPv6Address: endpoint.ipv6,
    }])),
    Options: network.options, Labels: network.labels,
  }
}

const kinds = { invalid: 'invalid', 'not-found': 'not-found', conflict: 'conflict', forbidden: 'forbidden', exhausted: 'failed', failed: 'failed' } as const

export function dockerErrorOf(error: unknown): unknown {
  return error instanceof CnmError ? new DockerError(kinds[error.code], error.message) : error
}

/** Waits for work of the network room and puts its failures into Docker's terms. */
export async function inDockerTerms<T>(work: Promise<T> | (() => Promise<T>)): Promise<T> {
  try {
    return await (typeof work === 'function' ? work() : work)
  } catch (error) {
    throw dockerErrorOf(error)
  }
}
