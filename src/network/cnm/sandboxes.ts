/**
 * Sandboxes and their endpoints: made, changed while they run, and removed. Everything that is made for one is undone in reverse if a
 * step fails; what a killed process leaves is undone by the next one (`recovery.ts`).
 */
import { performance } from 'node:perf_hooks'
import { readFile } from 'node:fs/promises'
import { forgetUdpFlows } from '../kernel/conntrack.ts'
import type { NftTransactions } from '../nftables/transactions.ts'
import { run } from '../run.ts'
import type { CnmEvent, EndpointInfo, EndpointSpec, InterfaceCounters, NetworkInfo, SandboxInfo, SandboxSpec } from './cnm.ts'
import { CnmError } from './cnm.ts'
import type { ContainerDns } from './dns/containers.ts'
import {
  checkWish, hostLines, inOrder, insideLines, insideName, nameInterface, newEndpoint, routeLines, wayOut,
} from './endpoints.ts'
import type { HostLineOptions, Member } from './endpoints.ts'
import type { HostPorts } from './hostports.ts'
import { withoutPrefix } from './ip.ts'
import type { CnmNames } from './names.ts'
import { randomId } from './names.ts'
import type { Netns, NetnsPool } from './netns.ts'
import { batchInside } from './netns.ts'
import type { Net, NetworkTable } from './networks.ts'
import { endpointSysctls, wishedInterface } from './options.ts'
import type { EndpointRecord, Records, SandboxRecord } from './records.ts'
import type { PortTargets } from './ruleset.ts'
import { portChanges, portElements } from './ruleset.ts'
import { hostsText, machineResolvConf, resolvConfText } from './texts.ts'
import type { SharedIp } from './warm.ts'

export interface SandboxesParts {
  names: CnmNames
  networks: NetworkTable
  records: Records
  pool: NetnsPool
  nft: NftTransactions
  ip: SharedIp
  ports: HostPorts
  dns: ContainerDns
  emit(event: CnmEvent): void
}

export interface Sandbox {
  record: SandboxRecord
  /** Elements of published ports that are in the rules now. */
  applied: Set<string>
}

/** /proc/net/dev is read at most so often for the statistics of many containers. */
const countersMs = 20

export class Sandboxes {
  readonly #parts: SandboxesParts
  readonly #byId = new Map<string, Sandbox>()
  /** Being made or deleted: one change of a sandbox at a time. */
  readonly #turns = new Map<string, Promise<unknown>>()
  readonly #tidying = new Set<Promise<unknown>>()
  #counters: { atMs: number; values: Promise<Map<string, InterfaceCounters>> } | undefined

  constructor(parts: SandboxesParts) {
    this.#parts = parts
  }

  all(): Sandbox[] {
    return [...this.#byId.values()]
  }

  get(id: string): Sandbox | undefined {
    return this.#byId.get(id)
  }

  /** One that a former process made, and that is whole. */
  adopt(record: SandboxRecord): Sandbox {
    const sandbox: Sandbox = { record, applied: new Set() }
    this.#byId.set(record.id, sandbox)
    const members = this.members(record)
    for (const { net, endpoint } of members) net.addresses.restore(endpoint)
    sandbox.applied = portElements(record.ports, record.requests, portTargets(members))
    return sandbox
  }

  members(record: SandboxRecord): Member[] {
    return record.endpoints.flatMap((endpoint) => {
      const net = this.#parts.networks.get(endpoint.networkId)
      return net === undefined ? [] : [{ net, endpoint }]
    })
  }

  endpointsOf(networkId: string): { sandbox: Sandbox; endpoint: EndpointRecord }[] {
    return this.all().flatMap((sandbox) => sandbox.record.endpoints.filter((endpoint) => endpoint.networkId === networkId)
      .map((endpoint) => ({ sandbox, endpoint })))
  }

  create(spec: SandboxSpec, transient: boolean, onNamespace?: (info: SandboxInfo) => void): Promise<SandboxInfo> {
    return this.#inTurn(spec.id, () => this.#create(spec, transient, onNamespace))
  }

  delete(id: string): Promise<void> {
    return this.#inTurn(id, async () => {
      const sandbox = this.#byId.get(id)
      if (sandbox !== undefined) await this.#delete(sandbox)
    })
  }

  connect(id: string, ref: string, spec: EndpointSpec): Promise<EndpointInfo> {
    return this.#inTurn(id, () => this.#connect(this.#running(id), this.#parts.networks.find(ref), spec))
  }

  disconnect(id: string, ref: string, force: boolean): Promise<void> {
    return this.#inTurn(id, () => this.#disconnect(this.#running(id), this.#parts.networks.find(ref), force))
  }

  rename(id: string, name: string): Promise<void> {
    return this.#inTurn(id, async () => {
      const { record } = this.#running(id)
      record.name = name
      this.#parts.records.saveSandbox(record)
      this.#parts.dns.update(record, this.members(record))
    })
  }

  info(record: SandboxRecord): SandboxInfo {
    const { networks } = this.#parts
    const members = this.members(record)
    const hostGateway = networks.find('bridge').record.pools[0]?.gateway ?? ''
    const ipv6 = record.endpoints.some((endpoint) => endpoint.ipv6 !== '')
    const mode = record.mode === 'host' ? 'host' : members.some(({ net }) => net.named) ? 'embedded' : 'plain'
    return {
      id: record.id, sandboxId: record.sandboxId, netnsPath: record.netnsPath,
      endpoints: inOrder(members).map(({ endpoint }) => this.endpointInfo(record, endpoint)), ports: record.ports,
      resolvConf: resolvConfText(machineResolvConf(), record, mode, ipv6),
      hosts: hostsText(record, inOrder(members).map(({ endpoint }) => endpoint), hostGateway),
    }
  }

  endpointInfo(record: SandboxRecord, endpoint: EndpointRecord): EndpointInfo {
    const net = this.#parts.networks.get(endpoint.networkId)
    return {
      id: endpoint.id, networkId: endpoint.networkId, networkName: endpoint.networkName, sandboxId: record.id, ownerName: record.name, ipv4: endpoint.ipv4,
      ipv6: endpoint.ipv6, gateway: endpoint.gateway, gatewayV6: endpoint.gatewayV6, mac: endpoint.mac, interfaceName: endpoint.interfaceName,
      hostInterface: endpoint.hostInterface, dnsNames: net?.named === true ? dnsNames(record, endpoint) : [],
    }
  }

  async counters(id: string): Promise<Record<string, InterfaceCounters>> {
    const { record } = this.#running(id)
    if (record.netnsPath === undefined) return {}
    const bridged = record.endpoints.every(({ hostInterface }) => hostInterface !== '')
    if (!bridged) {
      const text = await run('nsenter', [`--net=${record.netnsPath}`, 'cat', '/proc/net/dev'])
      return Object.fromEntries([...parseCounters(text)].filter(([name]) => name !== 'lo'))
    }
    const now = performance.now()
    if (this.#counters === undefined || now - this.#counters.atMs > countersMs) {
      this.#counters = { atMs: now, values: readFile('/proc/self/net/dev', 'utf8').then(parseCounters) }
    }
    const outside = await this.#counters.values
    return Object.fromEntries(record.endpoints.flatMap(({ interfaceName, hostInterface }) => {
      const counted = outside.get(hostInterface)
      // What this end received the other one has sent.
      return counted === undefined ? [] : [[interfaceName, {
        rxBytes: counted.txBytes, rxPackets: counted.txPackets, rxErrors: counted.txErrors, rxDropped: counted.txDropped,
        txBytes: counted.rxBytes, txPackets: counted.rxPackets, txErrors: counted.rxErrors, txDropped: counted.rxDropped,
      }]]
    }))
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#turns.values())
    await Promise.all(this.#tidying)
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const result = (this.#turns.get(id) ?? Promise.resolve()).then(work, work)
    this.#turns.set(id, result)
    const done = (): void => { if (this.#turns.get(id) === result) this.#turns.delete(id) }
    result.then(done, done)
    return result
  }

  #running(id: string): Sandbox {
    const sandbox = this.#byId.get(id)
    if (sandbox === undefined) throw new CnmError('not-found', `sandbox ${id} not found`)
    return sandbox
  }

  async #create(spec: SandboxSpec, transient: boolean, onNamespace?: (info: SandboxInfo) => void): Promise<SandboxInfo> {
    if (this.#byId.has(spec.id)) throw new CnmError('conflict', `sandbox ${spec.id} exists already`)
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$/.test(spec.id)) throw new CnmError('invalid', `invalid sandbox id "${spec.id.slice(0, 80)}"`)
    const { networks, records, emit } = this.#parts
    const wanted = spec.endpoints.map(({ network, spec: wish }) => ({ net: networks.find(network), wish }))
    const mode = modeOf(wanted.map(({ net }) => net))
    const record: SandboxRecord = {
      id: spec.id, sandboxId: randomId(), name: spec.name, hostname: spec.hostname, domainname: spec.domainname ?? '', mode, ready: false, transient,
      endpoints: [], requests: mode === 'bridged' ? spec.ports : [], ports: [], dns: spec.dns ?? [], dnsSearch: spec.dnsSearch ?? [],
      dnsOptions: spec.dnsOptions ?? [], extraHosts: spec.extraHosts ?? [], hostsLinks: spec.hostsLinks ?? [],
    }
    const sandbox: Sandbox = { record, applied: new Set() }
    // At once, so that a network that is being joined cannot be removed.
    this.#byId.set(spec.id, sandbox)
    try {
      for (const { net, wish } of wanted) await this.#addEndpoint(record, net, wish)
      if (mode !== 'host') await this.#make(sandbox, spec.sysctls ?? {}, onNamespace)
      record.ready = true
      records.saveSandbox(record)
      this.#parts.dns.update(record, this.members(record))
    } catch (error) {
      await this.#undo(sandbox)
      throw error
    }
    for (const { net } of wanted) emit({ type: 'connect', network: networkInfo(net, this), sandboxId: record.id })
    return this.info(record)
  }

  /** Address, MAC and a place in the network; nothing in the kernel yet. */
  async #addEndpoint(record: SandboxRecord, net: Net, wish: EndpointSpec): Promise<Member> {
    checkWish(net, wish)
    if (net.record.configOnly) throw new CnmError('forbidden', `cannot attach to config-only network ${net.record.name}`)
    if (record.endpoints.some(({ networkId }) => networkId === net.record.id)) {
      throw new CnmError('forbidden', `endpoint with name ${record.name} already exists in network ${net.record.name}`)
    }
    const addresses = net.kind === 'host' || net.kind === 'null' ? { ipv4: '', ipv6: '' } : await net.addresses.take(wish)
    const endpoint = newEndpoint(net, randomId(), wish, addresses)
    if (net.kind === 'remote') {
      try {
        await this.#parts.networks.remote.createEndpoint(net.record, endpoint)
      } catch (error) {
        await net.addresses.release(addresses)
        throw error
      }
    }
    record.endpoints.push(endpoint)
    return { net, endpoint }
  }

  async #make(sandbox: Sandbox, sysctls: Record<string, string>, onNamespace?: (info: SandboxInfo) => void): Promise<void> {
    const { pool, records } = this.#parts
    const { record } = sandbox
    const members = inOrder(this.members(record)).filter(({ net }) => net.kind !== 'null')
    const first = members.find(({ net }) => net.kind === 'bridge')
    const netns = await (first === undefined ? pool.make(false) : pool.take())
    record.netnsPath = netns.path
    if (first !== undefined) first.endpoint.hostInterface = netns.veth!
    try {
      nameInterfaces(members)
      records.saveSandbox(record)
    } catch (error) {
      await Promise.all([netns.inside.dismiss(), netns.rules?.dismiss()])
      throw error
    }
    // A plugin may have more to say about addresses.
    if (onNamespace !== undefined && members.every(({ net }) => net.kind !== 'remote')) onNamespace(this.info(record))
    const steps = [this.#attach(record, members, netns, first), this.#publish(sandbox), this.#parts.dns.prepare(record, members, netns.rules)]
    await allOrFirstError(steps)
    await this.#applySysctls(record, members, sysctls)
  }

  /** Links and addresses of all endpoints of a new namespace: one batch outside, one inside. */
  async #attach(record: SandboxRecord, members: Member[], netns: Netns, first: Member | undefined): Promise<void> {
    const { ip, names } = this.#parts
    const outside: string[] = []
    const present = new Map<Member, string>()
    try {
      for (const member of members) {
        const joined = await this.#joinRemote(record, member)
        outside.push(...hostLines(member, names, netns.path, lineOptions(record, member === first, joined)))
        present.set(member, member === first ? 'eth0' : joined?.source ?? insideName(member.endpoint))
      }
    } catch (error) {
      await netns.inside.dismiss()
      throw error
    }
    // The pair that was ready gives its name up first if another endpoint is to have it.
    const renamed = first !== undefined && first.endpoint.interfaceName !== 'eth0' ? [`link set dev eth0 name ${insideName(first.endpoint)}`] : []
    if (renamed.length > 0) present.set(first!, insideName(first!.endpoint))
    const inside = [...renamed, ...members.flatMap((member) => insideLines(member, present.get(member)!)), ...routeLines(members, { v4: false, v6: false })]
    const alone = members.length === 1 && first !== undefined
    const made = outside.length === 0 ? Promise.resolve() : ip.run(outside.join('\n') + '\n')
    try {
      // Links that are only now made have to be there before they can be addressed.
      if (!alone) await made
    } catch (error) {
      await netns.inside.dismiss()
      throw error
    }
    await allOrFirstError([made, netns.inside.finish(inside.join('\n') + '\n')])
  }

  async #joinRemote(record: SandboxRecord, { net, endpoint }: Member): Promise<{ source: string } | undefined> {
    if (net.kind !== 'remote') return undefined
    const joined = await this.#parts.networks.remote.join(net.record, endpoint, record.netnsPath!)
    endpoint.gateway = joined.gateway
    endpoint.gatewayV6 = joined.gatewayV6
    endpoint.routes = joined.routes
    endpoint.joinedFrom = joined.source
    if (joined.source === '') return undefined
    const taken = new Set(record.endpoints.filter((other) => other !== endpoint).map(({ interfaceName }) => interfaceName))
    endpoint.interfaceName = nameInterface(joined.prefix, taken, wishedInterface(endpoint.spec.driverOptions) ?? joined.name)
    this.#parts.records.saveSandbox(record)
    return joined
  }

  async #publish(sandbox: Sandbox): Promise<void> {
    const { ports, nft, names, records } = this.#parts
    const { record } = sandbox
    const targets = portTargets(this.members(record))
    const carried = (mode: string | undefined): boolean => mode === 'nat' || mode === 'nat-unprotected'
    const v4 = carried(targets.v4?.mode)
    // dockerd's proxy carries IPv6 to a container that has none; so do the sockets that hold the ports.
    const v6 = carried(targets.v6?.mode) || (targets.v6 === undefined && v4)
    const families = new Set<4 | 6>([...(v4 ? [4 as const] : []), ...(v6 ? [6 as const] : [])])
    if (record.requests.length > 0) {
      const hostBinding = this.members(record).find(({ endpoint }) => endpoint === targets.v4?.endpoint)?.net.bridge?.hostBinding
      record.ports = await ports.publish(record.id, record.requests, { hostBinding, families })
      records.saveSandbox(record)
      ports.aim(record.ports, ...aims(targets))
    }
    const elements = portElements(record.ports, record.requests, targets)
    if (elements.size === 0) return
    await nft.apply(portChanges(names, sandbox.applied, elements))
    sandbox.applied = elements
    const udp = record.ports.filter(({ protocol }) => protocol === 'udp')
    await forgetUdpFlows(udp.map(({ hostIP, hostPort }) => ({ port: hostPort, ...(hostIP === '0.0.0.0' || hostIP === '::' ? {} : { address: hostIP }) })))
  }

  /** After the way out has changed: the same host ports lead to another address. */
  async #republish(sandbox: Sandbox): Promise<void> {
    const { ports, nft, names } = this.#parts
    const targets = portTargets(this.members(sandbox.record))
    const elements = portElements(sandbox.record.ports, sandbox.record.requests, targets)
    await nft.apply(portChanges(names, sandbox.applied, elements))
    sandbox.applied = elements
    ports.aim(sandbox.record.ports, ...aims(targets))
  }

  async #applySysctls(record: SandboxRecord, members: Member[], sysctls: Record<string, string>): Promise<void> {
    const all = { ...sysctls }
    for (const { endpoint } of members) Object.assign(all, endpointSysctls(endpoint.spec.driverOptions, endpoint.interfaceName))
    const pairs = Object.entries(all).filter(([key]) => key.startsWith('net.'))
    if (pairs.length === 0) return
    const script = 'while [ $# -ge 2 ]; do printf %s "$2" > "/proc/sys/$1" || exit 1; shift 2; done'
    await run('nsenter', [`--net=${record.netnsPath!}`, 'sh', '-c', script, 'sysctls', ...pairs.flatMap(([key, value]) => {
      if (!/^net(\.[A-Za-z0-9_:-]+)+$/.test(key)) throw new CnmError('invalid', `invalid sysctl "${key}"`)
      return [key.replaceAll('.', '/'), value]
    })])
  }

  async #delete(sandbox: Sandbox): Promise<void> {
    const { networks, emit } = this.#parts
    const nets = sandbox.record.endpoints.flatMap(({ networkId }) => networks.get(networkId) ?? [])
    await this.#undo(sandbox)
    for (const net of nets) emit({ type: 'disconnect', network: networkInfo(net, this), sandboxId: sandbox.record.id })
  }

  /** Everything of a sandbox, however far it had come. */
  async #undo(sandbox: Sandbox): Promise<void> {
    const { nft, names, ports, pool, records, dns, ip } = this.#parts
    const { record } = sandbox
    const members = this.members(record)
    dns.remove(record)
    const udp = record.ports.filter(({ protocol }) => protocol === 'udp')
    // Deleting takes the kernel long; whoever is given the port or the address next changes the rules after this.
    this.#later(nft.apply(portChanges(names, sandbox.applied, new Set())))
    sandbox.applied = new Set()
    ports.release(record.ports)
    for (const member of members) if (member.net.kind === 'remote') await this.#leaveRemote(record, member)
    const links = record.endpoints.map(({ hostInterface }) => hostInterface).filter((link) => link !== '')
    // Down is quick, and enough for the addresses to be free. The rest takes the kernel long, and bears the instance's marks.
    if (links.length > 0) await ip.run(links.map((link) => `link set dev ${link} down\n`).join('')).catch(() => undefined)
    pool.discard(record.netnsPath, links)
    for (const { net, endpoint } of members) await net.addresses.release(endpoint)
    records.removeSandbox(record.id)
    this.#byId.delete(record.id)
    const [address] = members.flatMap(({ endpoint }) => (endpoint.ipv4 === '' ? [] : [withoutPrefix(endpoint.ipv4)]))
    if (address !== undefined) this.#later(forgetUdpFlows(udp.map(({ containerPort }) => ({ endpoint: { ip: address, port: containerPort } }))))
  }

  /** Tidying that nobody need wait for. If it fails the next process does it: it makes the rules anew from the records. */
  #later(work: Promise<unknown>): void {
    const done = work.catch(() => undefined).finally(() => this.#tidying.delete(done))
    this.#tidying.add(done)
  }

  /** The driver's link goes back where it came from, under its own name. */
  async #leaveRemote(record: SandboxRecord, { net, endpoint }: Member): Promise<void> {
    const { remote } = this.#parts.networks
    const from = endpoint.joinedFrom
    if (record.netnsPath !== undefined && from !== undefined && from !== '' && endpoint.interfaceName !== '') {
      // It may have gone with its driver.
      await batchInside(record.netnsPath, [`link set dev ${endpoint.interfaceName} down`, `link set dev ${endpoint.interfaceName} name ${from} netns ${process.pid}`])
        .catch(() => undefined)
    }
    await remote.leave(net.record, endpoint)
    await remote.deleteEndpoint(net.record, endpoint)
  }

  async #connect(sandbox: Sandbox, net: Net, spec: EndpointSpec): Promise<EndpointInfo> {
    const { record } = sandbox
    if (record.mode === 'host') throw new CnmError('invalid', 'container sharing network namespace with another container or host cannot be connected to any other network')
    if (record.mode === 'none') throw new CnmError('invalid', 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
    if (net.kind === 'host') throw new CnmError('invalid', 'container cannot be disconnected from host network or connected to host network')
    if (net.kind === 'null') throw new CnmError('invalid', 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
    const { ip, names, pool, records, dns, emit } = this.#parts
    const had = routesOf(this.members(record))
    const member = await this.#addEndpoint(record, net, spec)
    const path = record.netnsPath!
    try {
      nameInterfaces(this.members(record))
      // Written before the kernel is touched; one that was cut short here is dissolved by the next process.
      records.saveSandbox({ ...record, pending: member.endpoint.id })
      const joined = await this.#joinRemote(record, member)
      const outside = hostLines(member, names, path, lineOptions(record, false, joined))
      if (outside.length > 0) await ip.run(outside.join('\n') + '\n')
      await batchInside(path, [...insideLines(member, joined?.source ?? insideName(member.endpoint)), ...routeLines(this.members(record), had)])
      await this.#applySysctls(record, [member], {})
      await this.#wayOutChanged(sandbox)
      await dns.prepare(record, this.members(record))
    } catch (error) {
      record.endpoints = record.endpoints.filter((endpoint) => endpoint !== member.endpoint)
      if (net.kind === 'remote') await this.#leaveRemote(record, member)
      await pool.remove(undefined, [member.endpoint.hostInterface])
      await batchInside(path, [`link del dev ${member.endpoint.interfaceName}`]).catch(() => undefined)
      await batchInside(path, routeLines(this.members(record), { v4: false, v6: false })).catch(() => undefined)
      await net.addresses.release(member.endpoint)
      await this.#republish(sandbox)
      records.saveSandbox(record)
      throw error
    }
    records.saveSandbox(record)
    dns.update(record, this.members(record))
    this.#emitFiles(record)
    emit({ type: 'connect', network: networkInfo(net, this), sandboxId: record.id })
    return this.endpointInfo(record, member.endpoint)
  }

  async #disconnect(sandbox: Sandbox, net: Net, force: boolean): Promise<void> {
    const { record } = sandbox
    const { pool, records, dns, emit } = this.#parts
    if (net.kind === 'host' || record.mode === 'host') {
      throw new CnmError('invalid', 'container cannot be disconnected from host network or connected to host network')
    }
    const member = this.members(record).find(({ endpoint }) => endpoint.networkId === net.record.id)
    if (member === undefined) throw new CnmError('forbidden', `container ${record.id} is not connected to network ${net.record.name}`)
    const { endpoint } = member
    const path = record.netnsPath!
    records.saveSandbox({ ...record, pending: endpoint.id })
    record.endpoints = record.endpoints.filter((other) => other !== endpoint)
    if (net.kind === 'remote') await this.#leaveRemote(record, member)
    else if (net.kind === 'bridge') await pool.remove(undefined, [endpoint.hostInterface])
    else if (net.kind !== 'null') {
      await batchInside(path, [`link del dev ${endpoint.interfaceName}`]).catch((error: unknown) => { if (!force) throw error })
    }
    // The default route has gone with its link.
    const lines = routeLines(this.members(record), { v4: false, v6: false })
    if (lines.length > 0) await batchInside(path, lines)
    await this.#wayOutChanged(sandbox)
    await net.addresses.release(endpoint)
    await dns.prepare(record, this.members(record))
    records.saveSandbox(record)
    dns.update(record, this.members(record))
    this.#emitFiles(record)
    emit({ type: 'disconnect', network: networkInfo(net, this), sandboxId: record.id })
  }

  /** Ports that were asked for when the container had no way out are published when it gets one. */
  async #wayOutChanged(sandbox: Sandbox): Promise<void> {
    if (sandbox.record.requests.length > 0 && sandbox.record.ports.length === 0) await this.#publish(sandbox)
    else await this.#republish(sandbox)
  }

  #emitFiles(record: SandboxRecord): void {
    const { resolvConf, hosts } = this.info(record)
    this.#parts.emit({ type: 'files', sandboxId: record.id, resolvConf, hosts })
  }
}

export function networkInfo({ record }: Net, sandboxes: Sandboxes): NetworkInfo {
  const { madeLink: _link, askedPools: _asked, pools, ...rest } = record
  return {
    ...rest, pools: pools.map(({ subnet, gateway, range, auxiliary }) => ({
      subnet, ...(gateway === undefined ? {} : { gateway }), ...(range === undefined ? {} : { range }), ...(auxiliary === undefined ? {} : { auxiliary }),
    })),
    endpoints: sandboxes.endpointsOf(record.id).filter(({ sandbox }) => !sandbox.record.transient)
      .map(({ sandbox, endpoint }) => sandboxes.endpointInfo(sandbox.record, endpoint)),
  }
}

/** First the owner's name, then aliases, each once. */
export function dnsNames(record: SandboxRecord, endpoint: EndpointRecord): string[] {
  return [...new Set([record.name, ...(endpoint.spec.aliases ?? [])])].filter((name) => name !== '')
}

function modeOf(nets: Net[]): SandboxRecord['mode'] {
  if (nets.some(({ kind }) => kind === 'host')) {
    if (nets.length > 1) throw new CnmError('invalid', 'container sharing network namespace with another container or host cannot be connected to any other network')
    return 'host'
  }
  if (nets.some(({ kind }) => kind === 'null')) {
    if (nets.length > 1) throw new CnmError('invalid', 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
    return 'none'
  }
  return 'bridged'
}

/** Those that have no name yet, in the order of the list; remote drivers name theirs when they are joined. */
function nameInterfaces(members: Member[]): void {
  const taken = new Set(members.map(({ endpoint }) => endpoint.interfaceName))
  const wished = members.map(({ endpoint }) => (endpoint.interfaceName === '' ? wishedInterface(endpoint.spec.driverOptions) : undefined))
  for (const [index, { net, endpoint }] of members.entries()) {
    if (endpoint.interfaceName !== '' || net.kind === 'null') continue
    const others = new Set([...taken, ...wished.filter((name, at) => name !== undefined && at !== index) as string[]])
    endpoint.interfaceName = nameInterface(net.interfacePrefix, others, wished[index])
    taken.add(endpoint.interfaceName)
  }
}

export function portTargets(members: Member[]): PortTargets {
  const targets: PortTargets = {}
  for (const family of [4, 6] as const) {
    const member = wayOut(members, family)
    if (member?.net.bridge === undefined) continue
    const mode = family === 4 ? member.net.bridge.modeV4 : member.net.bridge.modeV6
    targets[family === 4 ? 'v4' : 'v6'] = { endpoint: member.endpoint, mode }
  }
  return targets
}

/** Container addresses of both families, for the sockets that hold ports. */
export function aims({ v4, v6 }: PortTargets): [string | undefined, string | undefined] {
  return [v4 === undefined ? undefined : withoutPrefix(v4.endpoint.ipv4), v6 === undefined ? undefined : withoutPrefix(v6.endpoint.ipv6)]
}

export function lineOptions({ requests }: SandboxRecord, ready: boolean, joined: { source: string } | undefined): HostLineOptions {
  return { ready, hairpin: requests.length > 0, ...(joined === undefined || joined.source === '' ? {} : { moved: joined.source }) }
}

function routesOf(members: Member[]): { v4: boolean; v6: boolean } {
  return { v4: wayOut(members, 4) !== undefined, v6: wayOut(members, 6) !== undefined }
}

/** Waits for all, so that nothing is under way any more when what was made is undone. */
async function allOrFirstError(works: Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(works)).find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

function parseCounters(text: string): Map<string, InterfaceCounters> {
  const counters = new Map<string, InterfaceCounters>()
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    if (colon < 0) continue
    const [rxBytes = 0, rxPackets = 0, rxErrors = 0, rxDropped = 0, , , , , txBytes = 0, txPackets = 0, txErrors = 0, txDropped = 0] =
      line.slice(colon + 1).trim().split(/\s+/).map(Number)
    counters.set(line.slice(0, colon).trim(), { rxBytes, rxPackets, rxErrors, rxDropped, txBytes, txPackets, txErrors, txDropped })
  }
  return counters
}
