/**
 * The network of one machine: puts the parts that program the kernel, and the DNS server, behind the interface of `network.ts`.
 */
import { createHash } from 'node:crypto'
import { mkdir, rmdir } from 'node:fs/promises'
import { Addresses } from './addresses.ts'
import { DnsServer } from './dns/server.ts'
import type { Cidr } from './ipv4.ts'
import { contains, formatIPv4, isIPv4, parseCidr, parseIPv4 } from './ipv4.ts'
import type { StaleFlow } from './kernel/conntrack.ts'
import { forgetUdpFlows } from './kernel/conntrack.ts'
import { ensureLinks, overlayMtu, removeLinks } from './kernel/links.ts'
import { checkNoListener } from './kernel/listeners.ts'
import type { Namespace, NamespaceContext } from './kernel/namespaces.ts'
import { findNamespaces, interfaceCounters, removeNamespaces } from './kernel/namespaces.ts'
import type { OverlayContext, PeerTable } from './kernel/overlay.ts'
import { applyOverlay, overlayChanges, peerTable, readOverlay } from './kernel/overlay.ts'
import type { Names } from './names.ts'
import { namesOf } from './names.ts'
import { NamespacePool } from './netns-pool.ts'
import type { DnsRecords, Network, NetworkOptions, Peer, PortMapping, Sandbox, ServicePortRule } from './network.ts'
import { NetworkError } from './network.ts'
import { elementChanges, elementReplacement, put } from './nftables/elements.ts'
import type { Elements } from './nftables/elements.ts'
import { HostPorts, hostPortCollections, hostPortElements, hostPortKind } from './nftables/host-ports.ts'
import { baseRuleset } from './nftables/ruleset.ts'
import { ServiceTable } from './nftables/service-table.ts'
import { NftTransactions } from './nftables/transactions.ts'
import { runAny } from './run.ts'
import { checkSandboxId, SandboxRecords } from './sandbox-records.ts'

export * from './network.ts'

const defaultVxlanPort = 8472

interface Settings {
  options: NetworkOptions
  names: Names
  range: Cidr
  cluster: Cidr
  gateway: string
  vxlanId: number
  vxlanPort: number
  mtu: number
}

/**
 * Makes this machine a member of the overlay, or takes over what a former process left: its sandboxes, and rules that go on
 * working until `setPeers` and `setServices` say otherwise. Needs root. Rejects with a NetworkError that names what the machine
 * refused.
 */
export async function openNetwork(options: NetworkOptions): Promise<Network> {
  const settings = await settle(options)
  await mkdir(options.runDir, { recursive: true, mode: 0o711 })
  await ensureLinks({ ...settings, serviceCIDR: options.serviceCIDR, address: options.address })
  const context: NamespaceContext = { ...settings, runDir: options.runDir }
  const records = new SandboxRecords(options.runDir)
  const [found, saved] = await Promise.all([findNamespaces(context), records.load()])
  await removeNamespaces(found.broken)

  const addresses = new Addresses(settings.range)
  const idle = new Map(found.complete.map((namespace) => [namespace.ip, namespace]))
  for (const { offset } of found.complete) addresses.claim(offset)
  const sandboxes = new Map<string, Entry>()
  const hostPorts = new HostPorts()
  for (const { id, ip, ports } of saved) {
    const namespace = idle.get(ip)
    if (namespace === undefined) {
      await records.remove(id)
      continue
    }
    idle.delete(ip)
    hostPorts.reserve(id, ports)
    sandboxes.set(id, { namespace, sandbox: sandboxOf(id, namespace, settings.gateway, ports) })
  }
  addresses.continueAfter(Math.max(0, ...found.complete.map(({ offset }) => offset)))

  const nft = new NftTransactions()
  await loadBase(settings, nft, hostPortElements([...sandboxes.values()].map(({ sandbox }) => sandbox)))
  const dns = await DnsServer.start({
    address: settings.gateway,
    clusterDomain: options.clusterDomain,
    ownRanges: [parseCidr(options.clusterCIDR), parseCidr(options.serviceCIDR)],
    upstreams: options.upstreamDns,
  })
  const pool = new NamespacePool(context, addresses, [...idle.values()], options.poolSize)
  return new KernelNetwork({ settings, context, records, sandboxes, hostPorts, nft, dns, pool })
}

async function settle(options: NetworkOptions): Promise<Settings> {
  const range = parseCidr(options.podCIDR)
  const cluster = parseCidr(options.clusterCIDR)
  if (!contains(cluster, range.base)) {
    throw new NetworkError('invalid', `podCIDR ${options.podCIDR} is not within clusterCIDR ${options.clusterCIDR}`)
  }
  const services = parseCidr(options.serviceCIDR)
  if (contains(cluster, services.base) || contains(services, cluster.base)) {
    throw new NetworkError('invalid', `serviceCIDR ${options.serviceCIDR} and clusterCIDR ${options.clusterCIDR} overlap`)
  }
  parseIPv4(options.address)
  return {
    options, range, cluster,
    names: namesOf(options.instance),
    gateway: formatIPv4(range.base + 1),
    vxlanId: options.vxlanId ?? vxlanIdOf(options.instance),
    vxlanPort: options.vxlanPort ?? defaultVxlanPort,
    mtu: options.mtu ?? await overlayMtu(options.address),
  }
}

/** Two clusters that share a machine must not share a network identifier; all machines of a cluster find the same one. */
export function vxlanIdOf(instance: string): number {
  return 4096 + createHash('sha256').update(instance).digest().readUInt16BE(0)
}

/** The base rules and published ports in one transaction; elements of services and peers stay as they are. */
async function loadBase(settings: Settings, nft: NftTransactions, published: Elements): Promise<void> {
  const { names, options } = settings
  const { podCIDR, clusterCIDR, serviceCIDR } = options
  const base = baseRuleset({ ...settings, podCIDR, clusterCIDR, serviceCIDR })
  const commands = [base, ...elementReplacement(names.table, hostPortCollections, published, hostPortKind)]
  try {
    await nft.apply(commands)
  } catch {
    // A table of another version, whose maps have other types: replaced as a whole, still without a moment of neither.
    await nft.apply([`table ip ${names.table} { }`, `delete table ip ${names.table}`, ...commands])
  }
}

interface Entry { namespace: Namespace; sandbox: Sandbox }

function sandboxOf(id: string, namespace: Namespace, gateway: string, ports: PortMapping[]): Sandbox {
  return { id, netnsPath: namespace.path, ip: namespace.ip, gateway, ports }
}

interface Parts {
  settings: Settings
  context: NamespaceContext
  records: SandboxRecords
  sandboxes: Map<string, Entry>
  hostPorts: HostPorts
  nft: NftTransactions
  dns: DnsServer
  pool: NamespacePool
}

class KernelNetwork implements Network {
  readonly podCIDR: string
  readonly gateway: string
  readonly dnsAddress: string
  readonly #parts: Parts
  readonly #services: ServiceTable
  readonly #overlay: OverlayContext
  /** Undefined: to be read from the kernel, at the start and after a failure. */
  #peers: PeerTable | undefined
  #peersSet: Elements | undefined
  #peerChange: Promise<void> = Promise.resolve()
  /** Being made or deleted. */
  readonly #busy = new Map<string, Promise<unknown>>()
  #counters: { atMs: number; values: ReturnType<typeof interfaceCounters> } | undefined

  constructor(parts: Parts) {
    const { options, gateway, names, range, cluster } = parts.settings
    this.podCIDR = options.podCIDR
    this.gateway = gateway
    this.dnsAddress = gateway
    this.#parts = parts
    this.#services = new ServiceTable(names.table, parts.nft, { cluster, pods: range })
    this.#overlay = { vxlan: names.vxlan, podCIDR: options.podCIDR, clusterCIDR: options.clusterCIDR, gateway }
  }

  async createSandbox(id: string, options: { ip?: string; ports?: PortMapping[] } = {}): Promise<Sandbox> {
    checkSandboxId(id)
    await this.#busy.get(id)
    const existing = this.#parts.sandboxes.get(id)
    if (existing !== undefined) return sameRequest(existing.sandbox, options)
    return this.#exclusively(id, () => this.#create(id, options.ip, options.ports ?? []))
  }

  async deleteSandbox(id: string): Promise<void> {
    await this.#busy.get(id)?.catch(() => undefined)
    const entry = this.#parts.sandboxes.get(id)
    if (entry !== undefined) await this.#exclusively(id, () => this.#delete(entry))
  }

  sandboxes(): Sandbox[] {
    return [...this.#parts.sandboxes.values()].map(({ sandbox }) => sandbox)
  }

  setPeers(peers: Peer[]): Promise<void> {
    const change = this.#peerChange.then(() => this.#applyPeers(peers))
    this.#peerChange = change.catch(() => undefined)
    return change
  }

  setServices(rules: ServicePortRule[]): Promise<void> {
    return this.#services.set(rules)
  }

  setDns(records: DnsRecords): void {
    this.#parts.dns.setRecords(records)
  }

  async counters(id: string): Promise<{ rxBytes: number; txBytes: number } | undefined> {
    const entry = this.#parts.sandboxes.get(id)
    if (entry === undefined) return undefined
    // A node's statistics ask for every sandbox in turn: one reading serves them all.
    const now = performance.now()
    if (this.#counters === undefined || now - this.#counters.atMs > 20) this.#counters = { atMs: now, values: interfaceCounters() }
    const outside = (await this.#counters.values).get(entry.namespace.veth)
    return outside === undefined ? undefined : { rxBytes: outside.txBytes, txBytes: outside.rxBytes }
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#busy.values(), this.#peerChange, this.#services.settled()])
    await Promise.all([this.#parts.dns.close(), this.#parts.pool.close()])
  }

  async destroy(): Promise<void> {
    await this.close()
    const { settings, context, records } = this.#parts
    // The rules first: without links they would translate to nowhere.
    await runAny('nft', ['delete', 'table', 'ip', settings.names.table])
    const { complete, broken } = await findNamespaces(context)
    await removeNamespaces([...complete, ...broken])
    await removeLinks(settings.names)
    await records.removeAll()
    this.#parts.sandboxes.clear()
    // Somebody else's files in it are not ours to remove.
    await rmdir(settings.options.runDir).catch(() => undefined)
  }

  async #exclusively<T>(id: string, work: () => Promise<T>): Promise<T> {
    const running = work()
    this.#busy.set(id, running)
    try {
      return await running
    } finally {
      if (this.#busy.get(id) === running) this.#busy.delete(id)
    }
  }

  async #create(id: string, ip: string | undefined, ports: PortMapping[]): Promise<Sandbox> {
    const { hostPorts, pool, records, settings, nft, sandboxes } = this.#parts
    const offset = ip === undefined ? undefined : this.#offsetOf(ip)
    hostPorts.reserve(id, ports)
    let namespace: Namespace | undefined
    try {
      await Promise.all(ports.map((port) => checkNoListener(besideDns(port, settings.options.address))))
      namespace = await (offset === undefined ? pool.take() : pool.takeAt(offset))
      const sandbox = sandboxOf(id, namespace, settings.gateway, ports)
      // The record first: should the process die now, the next one publishes the ports or is told to delete.
      await records.save({ id, ip: sandbox.ip, ports })
      await nft.apply(elementChanges(settings.names.table, new Map(), hostPortElements([sandbox])))
      await forgetUdpFlows(ports.filter(({ protocol }) => protocol === 'udp').map(({ hostIP, hostPort }) => flowTo(hostIP, hostPort)))
      sandboxes.set(id, { namespace, sandbox })
      return sandbox
    } catch (error) {
      hostPorts.release(ports)
      if (namespace !== undefined) {
        await records.remove(id)
        pool.giveBack(namespace)
      }
      throw error
    }
  }

  async #delete({ namespace, sandbox }: Entry): Promise<void> {
    const { hostPorts, pool, records, settings, nft, sandboxes } = this.#parts
    await nft.apply(elementChanges(settings.names.table, hostPortElements([sandbox]), new Map()))
    await pool.remove(namespace)
    // The record last: a namespace without one counts as unused.
    await records.remove(sandbox.id)
    sandboxes.delete(sandbox.id)
    hostPorts.release(sandbox.ports)
    await forgetUdpFlows(sandbox.ports.filter(({ protocol }) => protocol === 'udp')
      .map(({ containerPort }) => ({ endpoint: { ip: sandbox.ip, port: containerPort } })))
  }

  #offsetOf(ip: string): number {
    const { range, options } = this.#parts.settings
    if (!isIPv4(ip) || !contains(range, parseIPv4(ip))) {
      throw new NetworkError('invalid', `address ${ip} is not within this machine's pod range ${options.podCIDR}`)
    }
    return parseIPv4(ip) - range.base
  }

  async #applyPeers(peers: Peer[]): Promise<void> {
    const { settings, nft } = this.#parts
    const { table } = settings.names
    const { table: wanted, faults } = peerTable(peers, this.#overlay)
    const wantedSet: Elements = new Map()
    for (const address of wanted.values()) put(wantedSet, 'peers', address)
    const before = this.#peers ?? await readOverlay(this.#overlay)
    const setBefore = this.#peersSet
    this.#peers = this.#peersSet = undefined
    await nft.apply(setBefore === undefined
      ? elementReplacement(table, ['peers'], wantedSet, () => 'set') : elementChanges(table, setBefore, wantedSet))
    await applyOverlay(overlayChanges(before, wanted, this.#overlay))
    this.#peers = wanted
    this.#peersSet = wantedSet
    // One peer that tells nonsense must not cut off the others.
    if (faults[0] !== undefined) throw faults[0]
  }
}

/** This process listens on port 53 itself, on the gateway address only: what counts there is the machine's own address. */
function besideDns(port: PortMapping, address: string): PortMapping {
  const anywhere = port.hostIP === undefined || port.hostIP === '0.0.0.0'
  return anywhere && port.hostPort === 53 ? { ...port, hostIP: address } : port
}

function flowTo(hostIP: string | undefined, port: number): StaleFlow {
  return { port, ...(hostIP === undefined || hostIP === '0.0.0.0' ? {} : { address: hostIP }) }
}

/**
 * Asking again for a sandbox that exists is how a caller that was killed goes on; asking for another one by its name is a
 * mistake.
 */
function sameRequest(sandbox: Sandbox, { ip, ports = [] }: { ip?: string; ports?: PortMapping[] }): Sandbox {
  const key = (mappings: PortMapping[]): string => JSON.stringify(mappings.map(({ hostIP, hostPort, containerPort, protocol }) => (
    [hostIP ?? '', hostPort, containerPort, protocol])))
  if ((ip !== undefined && ip !== sandbox.ip) || key(ports) !== key(sandbox.ports)) {
    throw new NetworkError('conflict', `sandbox ${sandbox.id} exists with the address ${sandbox.ip} and other settings`)
  }
  return sandbox
}
