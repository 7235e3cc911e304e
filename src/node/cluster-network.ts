/**
 * Feeds this machine's network from the API's watches: peers from Machines, balancing and names from Services and
 * EndpointSlices. Changes of one turn of the event loop become one call. What was programmed last is kept in a file, so that
 * a restarted agent serves names at once, and withdraws nothing before it has seen the whole present state.
 */
import { join } from 'node:path'
import type { Client, Informer } from '../core/client.ts'
import { keyOf } from '../core/client.ts'
import { endpointSlices, services } from '../core/kinds.ts'
import type { EndpointSlice, Machine, Pod, Service } from '../core/types/index.ts'
import type { Network, Peer, ServicePortRule } from '../network/network.ts'
import { JsonFile, readJson } from './atomic-file.ts'
import { errorText } from './error-text.ts'
import type { Logger } from '../core/log.ts'
import { ServiceTable, podContribution, serviceContribution } from './services.ts'

const DEBOUNCE_MS = 3
const RETRY_MS = 1000
const SAVE_MS = 2000
const SERVICE_NAME = 'kubernetes.io/service-name'

interface Saved {
  peers: Peer[]
  rules: ServicePortRule[]
  a: [string, string[]][]
  srv: [string, { port: number; target: string }[]][]
  cname: [string, string][]
  ptr: [string, string][]
}

export interface ClusterNetworkOptions {
  client: Client
  network: Network
  machines: Informer<Machine>
  nodeName: string
  clusterDomain: string
  dataDir: string
  logger: Logger
}

export class ClusterNetwork {
  readonly services: Informer<Service>
  readonly #slices: Informer<EndpointSlice>
  readonly #o: ClusterNetworkOptions
  readonly #table = new ServiceTable()
  readonly #dirty = new Set<string>()
  readonly #file: JsonFile<Saved>
  #peersDirty = true
  #timer: NodeJS.Timeout | undefined
  #publishing = false
  #synced = false
  #closed = false

  constructor(o: ClusterNetworkOptions) {
    this.#o = o
    this.#file = new JsonFile(join(o.dataDir, 'network.json'), SAVE_MS)
    this.services = o.client.informer(services, { indexes: { namespace: s => [s.metadata.namespace ?? ''] } })
    this.#slices = o.client.informer(endpointSlices, { indexes: { service: s => serviceOf(s) } })
    this.services.on((_type, s) => this.#mark(keyOf(s)))
    this.#slices.on((_type, s, old) => {
      for (const key of [...serviceOf(s), ...(old === undefined ? [] : serviceOf(old))]) this.#mark(key)
    })
    o.machines.on(() => {
      this.#peersDirty = true
      this.#schedule(DEBOUNCE_MS)
    })
    void Promise.all([this.services.synced, this.#slices.synced, o.machines.synced]).then(() => {
      this.#synced = true
      this.#schedule(0)
    })
  }

  /** Programs the last known state; to be called once, before the watches have caught up. */
  async restore(): Promise<void> {
    const saved = readJson<Saved>(join(this.#o.dataDir, 'network.json'))
    if (saved === undefined || this.#synced) return
    this.#o.network.setDns({ a: new Map(saved.a), srv: new Map(saved.srv), cname: new Map(saved.cname), ptr: new Map(saved.ptr) })
    await Promise.all([this.#o.network.setPeers(saved.peers), this.#o.network.setServices(saved.rules)])
  }

  /** This node's Pods have names of their own. */
  setPod(pod: Pod, ip: string | undefined): void {
    this.#table.set(`pod/${pod.metadata.uid}`, ip === undefined ? undefined : podContribution(pod.metadata.namespace ?? '', ip, this.#o.clusterDomain))
    this.#schedule(DEBOUNCE_MS)
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.services.stop()
    this.#slices.stop()
    await this.#file.flush()
  }

  #mark(key: string): void {
    this.#dirty.add(key)
    this.#schedule(DEBOUNCE_MS)
  }

  #schedule(delayMs: number): void {
    if (!this.#synced || this.#publishing || this.#closed) return
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.#publish()
    }, delayMs)
  }

  async #publish(): Promise<void> {
    this.#publishing = true
    let failed = false
    const { network, machines, nodeName } = this.#o
    for (const key of this.#dirty) {
      const service = this.services.get(key)
      this.#table.set(key, service === undefined ? undefined
        : serviceContribution(service, this.#slices.byIndex('service', key), nodeName, this.#o.clusterDomain))
    }
    this.#dirty.clear()
    const peersDirty = this.#peersDirty
    this.#peersDirty = false
    const rules = this.#table.rules()
    const peers = peersOf(machines.list(), nodeName)
    network.setDns(this.#table.dns)
    try {
      await Promise.all([peersDirty ? network.setPeers(peers) : undefined, network.setServices(rules)])
      const { a, srv, cname, ptr } = this.#table.dns
      this.#file.save(() => ({ peers, rules, a: [...a], srv: [...srv], cname: [...cname], ptr: [...ptr] }))
    } catch (e) {
      failed = true
      this.#peersDirty ||= peersDirty
      this.#o.logger.error(`programming the network: ${errorText(e)}`)
    }
    this.#publishing = false
    if (failed || this.#dirty.size > 0 || this.#peersDirty) this.#schedule(failed ? RETRY_MS : DEBOUNCE_MS)
  }
}

/** The overlay's members but this one: Machines with an address and Pods' addresses. */
export function peersOf(machines: Iterable<Machine>, self: string): Peer[] {
  const out: Peer[] = []
  for (const m of machines) {
    const { address } = m.status ?? {}
    if (m.metadata.name === self || address === undefined || m.spec.podCIDR === undefined) continue
    out.push({ name: m.metadata.name, address, podCIDR: m.spec.podCIDR })
  }
  return out
}

function serviceOf(s: EndpointSlice): string[] {
  const name = s.metadata.labels?.[SERVICE_NAME]
  return name === undefined ? [] : [`${s.metadata.namespace}/${name}`]
}
