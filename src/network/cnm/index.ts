/** Opens the networks of one machine: puts the parts together behind the interface of `cnm.ts`. */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openPlugins } from '../../plugins/index.ts'
import { NftTransactions } from '../nftables/transactions.ts'
import { runAny } from '../run.ts'
import type {
  BuildSandbox, Cnm, CnmEvent, CnmOptions, EndpointInfo, EndpointSpec, InterfaceCounters, NetworkInfo, NetworkSpec, SandboxInfo, SandboxSpec,
} from './cnm.ts'
import { CnmError } from './cnm.ts'
import { ContainerDns } from './dns/containers.ts'
import { checkWish } from './endpoints.ts'
import { HostPorts } from './hostports.ts'
import { prepareMachine, unpassFirewalls } from './machine.ts'
import type { CnmNames } from './names.ts'
import { namesOf } from './names.ts'
import { findKernelObjects, NetnsPool, removeKernelObjects } from './netns.ts'
import { NetworkTable } from './networks.ts'
import { Records } from './records.ts'
import { recoverSandboxes, removeStrays, restoreKernel } from './recovery.ts'
import { networkInfo, Sandboxes } from './sandboxes.ts'
import { SharedIp, WarmTool } from './warm.ts'

export * from './cnm.ts'

const defaultPoolSize = 4

interface Parts {
  options: CnmOptions
  names: CnmNames
  records: Records
  nft: NftTransactions
  ip: SharedIp
  nftTool: WarmTool
  networks: NetworkTable
  sandboxes: Sandboxes
  pool: NetnsPool
  ports: HostPorts
  dns: ContainerDns
  listeners: Set<(event: CnmEvent) => void>
}

/**
 * Takes over what a former process left: networks, sandboxes and their rules, which have gone on working. What it left half-done is
 * removed.
 * Needs root. Rejects with a CnmError that names what the machine refused.
 */
export async function openCnm(options: CnmOptions): Promise<Cnm> {
  const names = namesOf(options.instance)
  const directory = netnsDirectory(options)
  for (const path of [options.dataDir, options.runDir, directory]) mkdirSync(path, { recursive: true, mode: 0o711 })
  prepareMachine()
  const records = new Records(options.dataDir, options.runDir)
  const ip = new SharedIp()
  const nftTool = new WarmTool('nft', ['-f', '-'])
  const nft = new NftTransactions((text) => nftTool.run(text))
  const plugins = openPlugins(options.pluginDirs === undefined ? {} : { dirs: options.pluginDirs })
  const networks = new NetworkTable({ options, names, records, nft, ip, plugins })
  const listeners = new Set<(event: CnmEvent) => void>()
  const dns = new ContainerDns()
  const ports = new HostPorts()
  let pool: NetnsPool | undefined
  try {
    const found = await findKernelObjects(directory, names)
    const saved = await recoverSandboxes(records, found, names)
    await networks.load()
    await removeStrays(networks, saved.alive, found, names)
    pool = new NetnsPool(directory, names, options.poolSize ?? defaultPoolSize,
      () => networks.all().some(({ named, record }) => named && !record.configOnly))
    const emit = (event: CnmEvent): void => { for (const handler of listeners) handler(event) }
    const sandboxes = new Sandboxes({ names, networks, records, pool, nft, ip, ports, dns, emit })
    await restoreKernel({ names, networks, sandboxes, records, nft, ip, ports, dns }, saved, found)
    return new MachineNetworks({ options, names, records, nft, ip, nftTool, networks, sandboxes, pool, ports, dns, listeners })
  } catch (error) {
    ports.close()
    await Promise.all([pool?.close(), dns.close(), ip.forget(), nftTool.close()])
    throw error
  }
}

function netnsDirectory({ runDir }: CnmOptions): string {
  return join(runDir, 'netns')
}

class MachineNetworks implements Cnm {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  networks(): NetworkInfo[] {
    const { networks, sandboxes } = this.#parts
    return networks.all().map((net) => networkInfo(net, sandboxes))
  }

  find(ref: string): NetworkInfo {
    return networkInfo(this.#parts.networks.find(ref), this.#parts.sandboxes)
  }

  async createNetwork(spec: NetworkSpec): Promise<NetworkInfo> {
    const { networks, sandboxes, ip } = this.#parts
    const info = networkInfo(await networks.create(spec).finally(() => ip.forget()), sandboxes)
    this.#emit({ type: 'create', network: info })
    return info
  }

  async removeNetwork(ref: string): Promise<void> {
    const { networks, sandboxes, ip } = this.#parts
    const net = networks.find(ref)
    const info = networkInfo(net, sandboxes)
    if (info.predefined) throw new CnmError('forbidden', `${info.name} is a pre-defined network and cannot be removed`)
    await networks.remove(net, () => {
      const endpoints = sandboxes.endpointsOf(net.record.id)
      if (endpoints.length === 0) return
      const list = endpoints.map(({ sandbox, endpoint }) => `name:"${sandbox.record.name}" id:"${endpoint.id.slice(0, 12)}"`).join(', ')
      throw new CnmError('forbidden', `error while removing network: network ${info.name} has active endpoints (${list})`)
    }).finally(() => ip.forget())
    this.#emit({ type: 'destroy', network: info })
  }

  createSandbox(spec: SandboxSpec, onNamespace?: (info: SandboxInfo) => void): Promise<SandboxInfo> {
    return this.#parts.sandboxes.create(spec, false, onNamespace)
  }

  sandbox(id: string): SandboxInfo | undefined {
    const sandbox = this.#parts.sandboxes.get(id)
    return sandbox?.record.ready === true && !sandbox.record.transient ? this.#parts.sandboxes.info(sandbox.record) : undefined
  }

  sandboxes(): SandboxInfo[] {
    return this.#parts.sandboxes.all().filter(({ record }) => record.ready && !record.transient).map(({ record }) => this.#parts.sandboxes.info(record))
  }

  deleteSandbox(id: string): Promise<void> {
    return this.#parts.sandboxes.delete(id)
  }

  connect(sandboxId: string, network: string, spec: EndpointSpec): Promise<EndpointInfo> {
    return this.#parts.sandboxes.connect(sandboxId, network, spec)
  }

  disconnect(sandboxId: string, network: string, force: boolean): Promise<void> {
    return this.#parts.sandboxes.disconnect(sandboxId, network, force)
  }

  rename(sandboxId: string, name: string): Promise<void> {
    return this.#parts.sandboxes.rename(sandboxId, name)
  }

  checkEndpoint(network: string, spec: EndpointSpec): void {
    checkWish(this.#parts.networks.find(network), spec)
  }

  counters(sandboxId: string): Promise<Record<string, InterfaceCounters>> {
    return this.#parts.sandboxes.counters(sandboxId)
  }

  async openBuild(id: string, options: { network?: string; extraHosts?: string[] } = {}): Promise<BuildSandbox> {
    const { sandboxes } = this.#parts
    const sandboxId = `build-${id}`
    const info = await sandboxes.create({
      id: sandboxId, name: '', hostname: '', endpoints: [{ network: options.network ?? 'bridge', spec: {} }], ports: [], extraHosts: options.extraHosts ?? [],
    }, true)
    return { netnsPath: info.netnsPath, resolvConf: info.resolvConf, hosts: info.hosts, close: () => sandboxes.delete(sandboxId) }
  }

  onEvent(handler: (event: CnmEvent) => void): () => void {
    this.#parts.listeners.add(handler)
    return () => { this.#parts.listeners.delete(handler) }
  }

  async close(): Promise<void> {
    const { sandboxes, pool, ports, dns, ip, nftTool } = this.#parts
    await sandboxes.settled()
    ports.close()
    await Promise.all([pool.close(), dns.close(), ip.forget(), nftTool.close()])
  }

  async destroy(): Promise<void> {
    const { options, names, sandboxes, networks, records } = this.#parts
    await this.close()
    // The rules first: without links they would translate to nowhere.
    await runAny('nft', ['delete', 'table', 'inet', names.table])
    const directory = netnsDirectory(options)
    const found = await findKernelObjects(directory, names)
    const veths = [...found.links].filter(([, { kind }]) => kind !== 'bridge').map(([link]) => link)
    await removeKernelObjects(names, [...found.namespaces, ...found.stray, ...sandboxes.all().flatMap(({ record }) => record.netnsPath ?? [])], veths)
    await networks.destroyLinks()
    await unpassFirewalls(names, options.instance)
    records.removeAll()
    rmSync(directory, { recursive: true, force: true })
  }

  #emit(event: CnmEvent): void {
    for (const handler of this.#parts.listeners) handler(event)
  }
}
