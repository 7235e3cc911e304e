/**
 * What is kept on disk. Networks survive a loss of power; sandboxes live no longer than the namespaces of this boot, so their records
 * are not synced. A record is written before the kernel is touched and removed after it: whatever a kill leaves has a record, or is
 * found by its link group or its namespace file.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { replaceFileDurably, replaceFileSync } from '../../files/replace.ts'
import type { EndpointSpec, IpamPool, NetworkInfo, PortRequest, PublishedPort } from './cnm.ts'
import type { PoolRecord } from './ipam.ts'

export interface NetworkPool extends PoolRecord {
  /** A remote IPAM driver's name for it. */
  poolId?: string
  /** The gateway is the IPAM driver's to release. */
  gatewayLeased?: boolean
}

export interface NetworkRecord extends Omit<NetworkInfo, 'pools' | 'endpoints'> {
  pools: NetworkPool[]
  /** As asked for: `inspect` of a `config-only` network, and what `config-from` takes over. */
  askedPools: IpamPool[]
  /** Its bridge, or macvlan parent, is of our making, and goes with it. */
  madeLink?: boolean
}

export interface EndpointRecord {
  id: string
  networkId: string
  networkName: string
  spec: EndpointSpec
  /** With prefix; '' where there is none. */
  ipv4: string
  ipv6: string
  gateway: string
  gatewayV6: string
  mac: string
  interfaceName: string
  hostInterface: string
  /** What a remote driver said to Join. */
  routes?: { destination: string; nextHop?: string }[]
  /** A remote driver's own name of the link, for giving it back. */
  joinedFrom?: string
}

export interface SandboxRecord {
  id: string
  sandboxId: string
  name: string
  hostname: string
  domainname: string
  mode: 'host' | 'none' | 'bridged'
  /** File of the namespace. */
  netnsPath?: string
  /** False while it is being made: such a one is removed by the next process. */
  ready: boolean
  /** A build's: removed by the next process. */
  transient: boolean
  /** Id of the endpoint that is being joined or left: such a one is dissolved by the next process. */
  pending?: string
  endpoints: EndpointRecord[]
  requests: PortRequest[]
  ports: PublishedPort[]
  dns: string[]
  dnsSearch: string[]
  dnsOptions: string[]
  extraHosts: string[]
  hostsLinks: { names: string[]; ip: string }[]
}

interface State { dnsPort?: number }

export class Records {
  readonly #networks: string
  readonly #sandboxes: string
  readonly #state: string

  constructor(dataDir: string, runDir: string) {
    this.#networks = join(dataDir, 'networks')
    this.#sandboxes = join(runDir, 'sandboxes')
    this.#state = join(dataDir, 'state.json')
    for (const directory of [this.#networks, this.#sandboxes]) mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  networks(): NetworkRecord[] {
    return load<NetworkRecord>(this.#networks)
  }

  sandboxes(): SandboxRecord[] {
    return load<SandboxRecord>(this.#sandboxes)
  }

  saveNetwork(record: NetworkRecord): Promise<void> {
    return replaceFileDurably(join(this.#networks, `${record.id}.json`), JSON.stringify(record))
  }

  removeNetwork(id: string): void {
    rmSync(join(this.#networks, `${id}.json`), { force: true })
  }

  /** Small, and on the path of every start. */
  saveSandbox(record: SandboxRecord): void {
    replaceFileSync(join(this.#sandboxes, `${record.id}.json`), JSON.stringify(record))
  }

  removeSandbox(id: string): void {
    rmSync(join(this.#sandboxes, `${id}.json`), { force: true })
  }

  state(): State {
    try {
      return JSON.parse(readFileSync(this.#state, 'utf8')) as State
    } catch {
      return {}
    }
  }

  saveState(state: State): void {
    replaceFileSync(this.#state, JSON.stringify(state))
  }

  removeAll(): void {
    for (const path of [this.#networks, this.#sandboxes, this.#state]) rmSync(path, { recursive: true, force: true })
  }
}

/** All whole ones; the rest of a write that was cut short is removed. */
function load<T extends { id: string }>(directory: string): T[] {
  return readdirSync(directory).flatMap((file) => {
    const path = join(directory, file)
    try {
      const record = JSON.parse(readFileSync(path, 'utf8')) as T
      if (`${record.id}.json` === file) return [record]
    } catch {
      // Not a record: removed below.
    }
    rmSync(path, { force: true })
    return []
  })
}
