/** Service addresses, node ports and Machines' subnets: handed out from memory, which the cache's objects rebuild at start. */
import { randomInt } from 'node:crypto'
import { ApiError } from '../core/errors.ts'
import { machines, services } from '../core/kinds.ts'
import type { ApiObject, Machine, Service } from '../core/types/index.ts'
import type { Cache, CacheEvent, KindCache } from './cache.ts'

const NODE_PORT_FIRST = 30_000
const NODE_PORT_LAST = 32_767
const MACHINE_PREFIX = 24
/** Offsets in the service range with a meaning: the API server and the cluster's DNS. */
const RESERVED = [1, 10]

function ipToNumber(ip: string): number | undefined {
  const parts = ip.split('.')
  if (parts.length !== 4) return undefined
  let n = 0
  for (const p of parts) {
    if (!/^\d{1,3}$/.test(p) || Number(p) > 255) return undefined
    n = n * 256 + Number(p)
  }
  return n
}

function numberToIp(n: number): string { return [24, 16, 8, 0].map(shift => Math.floor(n / 2 ** shift) % 256).join('.') }

/** A pool of integers, each held by the uid of an object. */
export class Pool {
  readonly first: number
  readonly last: number
  readonly #owners = new Map<number, string>()

  constructor(first: number, last: number) {
    this.first = first
    this.last = last
  }

  get used(): number { return this.#owners.size }
  contains(n: number): boolean { return n >= this.first && n <= this.last }
  ownerOf(n: number): string | undefined { return this.#owners.get(n) }

  /** False if another object has it. */
  take(n: number, owner: string): boolean {
    const now = this.#owners.get(n)
    if (now !== undefined && now !== owner) return false
    this.#owners.set(n, owner)
    return true
  }

  /** A free one from `from` on (wrapping around), skipping `reserved`; undefined when there is none. */
  takeFree(owner: string, from: number, reserved: readonly number[] = []): number | undefined {
    const size = this.last - this.first + 1
    for (let i = 0, n = from; i < size; i++, n = n === this.last ? this.first : n + 1) {
      if (this.#owners.has(n) || reserved.includes(n)) continue
      this.#owners.set(n, owner)
      return n
    }
    return undefined
  }

  free(n: number, owner: string): void { if (this.#owners.get(n) === owner) this.#owners.delete(n) }
}

function parseCidr(cidr: string): { base: number; prefix: number } {
  const [ip, bits] = cidr.split('/')
  const base = ipToNumber(ip ?? '')
  const prefix = Number(bits)
  if (base === undefined || !Number.isInteger(prefix) || prefix < 1 || prefix > 30) throw new Error(`${cidr} is not an IPv4 network`)
  return { base: base - base % 2 ** (32 - prefix), prefix }
}

const invalid = (service: Service, field: string, value: unknown, why: string): ApiError =>
  new ApiError('Invalid', `Service "${service.metadata.name}" is invalid: ${field}: Invalid value: ${JSON.stringify(value)}: ${why}`, {
    name: service.metadata.name, kind: 'Service', causes: [{ reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(value)}: ${why}`, field }],
  })

export class Ipam {
  readonly #base: number
  /** Addresses as offsets into the service range. */
  readonly addresses: Pool
  readonly ports = new Pool(NODE_PORT_FIRST, NODE_PORT_LAST)
  readonly #clusterBase: number
  /** Subnets by number. */
  readonly subnets: Pool
  #stop: (() => void)[] = []

  constructor(serviceCIDR: string, clusterCIDR: string) {
    const service = parseCidr(serviceCIDR)
    this.#base = service.base
    this.addresses = new Pool(1, 2 ** (32 - service.prefix) - 2)
    const cluster = parseCidr(clusterCIDR)
    if (cluster.prefix > MACHINE_PREFIX) throw new Error(`the cluster's network ${clusterCIDR} has no room for a /${MACHINE_PREFIX}`)
    this.#clusterBase = cluster.base
    this.subnets = new Pool(0, 2 ** (MACHINE_PREFIX - cluster.prefix) - 1)
  }

  /** The address of the `kubernetes` Service. */
  get apiAddress(): string { return numberToIp(this.#base + 1) }

  /** Learns what is taken, and keeps learning from changes (deletions free what they held). */
  start(cache: Cache): void {
    const follow = <T extends ApiObject>(kind: KindCache, take: (o: T) => void, free: (o: T, now: T | undefined) => void): void => {
      for (const c of kind.list()) take(c.object as T)
      this.#stop.push(kind.watch(cache.revision(), (events: readonly CacheEvent[]) => {
        for (const e of events) {
          if (e.previous !== undefined) free(e.previous.object as T, e.type === 'DELETED' ? undefined : e.current.object as T)
          if (e.type !== 'DELETED') take(e.current.object as T)
        }
      }))
    }
    follow<Service>(cache.of(services), s => this.#learnService(s), s => this.release(s))
    follow<Machine>(cache.of(machines), m => this.#learnMachine(m), m => this.#freeMachine(m))
  }

  stop(): void { for (const s of this.#stop.splice(0)) s() }

  #learnService(s: Service): void {
    const uid = s.metadata.uid!
    const offset = this.#offset(s.spec.clusterIP)
    if (offset !== undefined) this.addresses.take(offset, uid)
    for (const p of s.spec.ports ?? []) if (p.nodePort) this.ports.take(p.nodePort, uid)
  }

  #offset(ip: string | undefined): number | undefined {
    const n = ip === undefined ? undefined : ipToNumber(ip)
    return n !== undefined && this.addresses.contains(n - this.#base) ? n - this.#base : undefined
  }

  /** Gives back all a Service holds. */
  release(s: Service): void {
    const uid = s.metadata.uid!
    const offset = this.#offset(s.spec.clusterIP)
    if (offset !== undefined) this.addresses.free(offset, uid)
    for (const p of s.spec.ports ?? []) if (p.nodePort) this.ports.free(p.nodePort, uid)
  }

  /**
   * Fills `service` (owned by the caller): address and node ports, kept from `old` where they were left out. Throws Invalid
   * if one that was asked for is outside its range or taken. On an error, and if the write fails later, call {@link release}
   * (for an update, then {@link keep} for the old one).
   */
  assign(service: Service, old: Service | undefined): void {
    const { spec, metadata: { uid } } = service
    const type = spec.type ?? 'ClusterIP'
    if (type === 'ExternalName') {
      delete spec.clusterIP
      delete spec.clusterIPs
      return
    }
    if (!spec.clusterIP) spec.clusterIP = spec.clusterIPs?.[0] || old?.spec.clusterIP || ''
    if (spec.clusterIP === '') {
      const size = this.addresses.last
      // The low part of the range is left for addresses chosen by hand, as Kubernetes does.
      const band = Math.min(Math.max(16, Math.floor(size / 16)), 256)
      const offset = this.addresses.takeFree(uid!, size > 2 * band ? randomInt(band, size) : 1, RESERVED)
      if (offset === undefined) throw new ApiError('InternalError', 'every address of the service network is taken')
      spec.clusterIP = numberToIp(this.#base + offset)
    } else if (spec.clusterIP !== 'None') {
      const offset = this.#offset(spec.clusterIP)
      if (offset === undefined) throw invalid(service, 'spec.clusterIPs', [spec.clusterIP], 'failed to allocate IP: the provided IP is not in the valid range')
      if (!this.addresses.take(offset, uid!)) throw invalid(service, 'spec.clusterIPs', [spec.clusterIP], 'failed to allocate IP: provided IP is already allocated')
    }
    spec.clusterIPs = [spec.clusterIP]
    spec.ipFamilies ??= ['IPv4']
    spec.ipFamilyPolicy ??= 'SingleStack'
    const wantsPorts = type === 'NodePort' || (type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false)
    for (const [i, port] of (spec.ports ?? []).entries()) {
      if (!port.nodePort && wantsPorts) {
        const before = old?.spec.ports?.find(p => p.port === port.port && (p.protocol ?? 'TCP') === (port.protocol ?? 'TCP'))
        if (before?.nodePort) port.nodePort = before.nodePort
      }
      if (port.nodePort) {
        const field = `spec.ports[${i}].nodePort`
        if (!this.ports.contains(port.nodePort)) throw invalid(service, field, port.nodePort, `provided port is not in the valid range. The range of valid ports is ${NODE_PORT_FIRST}-${NODE_PORT_LAST}`)
        if (!this.ports.take(port.nodePort, uid!)) throw invalid(service, field, port.nodePort, 'provided port is already allocated')
      } else if (wantsPorts) {
        const n = this.ports.takeFree(uid!, randomInt(NODE_PORT_FIRST, NODE_PORT_LAST + 1))
        if (n === undefined) throw new ApiError('InternalError', 'every node port is taken')
        port.nodePort = n
      }
    }
  }

  /** Takes what a stored Service holds (again): after an update that failed. */
  keep(s: Service): void { this.#learnService(s) }

  /** Fills `machine.spec.podCIDR`. Throws Invalid if the one asked for is taken or not a /24 of the cluster's network. */
  assignSubnet(machine: Machine): void {
    const uid = machine.metadata.uid!
    const wanted = machine.spec.podCIDR
    if (wanted) {
      const n = this.#subnet(wanted)
      if (n === undefined || !this.subnets.take(n, uid)) {
        const why = n === undefined ? `must be a /${MACHINE_PREFIX} of the cluster's network` : 'another Machine has it'
        throw new ApiError('Invalid', `Machine.gantry.dev "${machine.metadata.name}" is invalid: spec.podCIDR: Invalid value: "${wanted}": ${why}`, {
          name: machine.metadata.name, group: 'gantry.dev', kind: 'Machine', causes: [{ reason: 'FieldValueInvalid', message: why, field: 'spec.podCIDR' }],
        })
      }
      return
    }
    const n = this.subnets.takeFree(uid, 0)
    if (n === undefined) throw new ApiError('InternalError', "every subnet of the cluster's network is taken")
    machine.spec.podCIDR = `${numberToIp(this.#clusterBase + n * 2 ** (32 - MACHINE_PREFIX))}/${MACHINE_PREFIX}`
  }

  #subnet(cidr: string): number | undefined {
    const [ip, bits] = cidr.split('/')
    const base = ipToNumber(ip ?? '')
    if (base === undefined || bits !== String(MACHINE_PREFIX)) return undefined
    const n = (base - this.#clusterBase) / 2 ** (32 - MACHINE_PREFIX)
    return Number.isInteger(n) && this.subnets.contains(n) ? n : undefined
  }

  #learnMachine(m: Machine): void {
    const n = m.spec?.podCIDR === undefined ? undefined : this.#subnet(m.spec.podCIDR)
    if (n !== undefined) this.subnets.take(n, m.metadata.uid!)
  }

  releaseSubnet(m: Machine): void { this.#freeMachine(m) }

  #freeMachine(m: Machine): void {
    const n = m.spec?.podCIDR === undefined ? undefined : this.#subnet(m.spec.podCIDR)
    if (n !== undefined) this.subnets.free(n, m.metadata.uid!)
  }
}
