/** This node in the API: its Machine (which brings its Pods' addresses), its Node and its status, its Lease. */
import type { Client } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import { leases, machines, nodes } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import { formatTime, microTimeOf } from '../core/time.ts'
import type { Condition, Lease, Machine, Node } from '../core/types/index.ts'
import type { ImageInfo } from '../engine/engine.ts'
import type { AgentConfig } from '../machines/layout.ts'
import { errorText } from './error-text.ts'
import type { Facts } from './facts.ts'
import { contains } from './pod/equal.ts'

const LEASE_NAMESPACE = 'kube-node-lease'
/** Three of these may be missed before the node counts as dead, about 3 s after its last one. */
const LEASE_RENEW_MS = 1000
const LEASE_DURATION_S = 3
const STATUS_DEBOUNCE_MS = 20
const RETRY_MS = 500
/** Names reported per node, so that a node with thousands of images does not make its object grow without bound. */
const MAX_IMAGES = 500

/** Creates or refreshes the Machine, asking for the addresses it had before, if any; resolves when it has a podCIDR. Rejects with ApiError. */
export async function registerMachine(client: Client, config: AgentConfig, podCIDR: string | undefined): Promise<Machine> {
  let machine: Machine
  try {
    machine = await client.get(machines, { name: config.name })
    if (machine.spec.roles?.includes('node') !== true) {
      const roles = [...(machine.spec.roles ?? []), 'node' as const]
      machine = await client.patch(machines, { name: config.name }, 'merge', { spec: { roles } })
    }
  } catch (e) {
    if (!isReason(e, 'NotFound')) throw e
    machine = await client.create(machines, {
      apiVersion: machines.apiVersion, kind: machines.kind, metadata: { name: config.name },
      spec: { driver: config.driver, roles: ['node'], ...(podCIDR !== undefined && { podCIDR }) },
    })
  }
  if (machine.spec.podCIDR === undefined) throw new Error(`machine "${config.name}" has no podCIDR: the server allocates one when it is created`)
  return machine
}

export interface RegistrationOptions {
  client: Client
  config: AgentConfig
  facts: Facts
  podCIDR: string
  /** Present images, for the Node's status. */
  images(): Promise<ImageInfo[]>
  logger: Logger
}

export class Registration {
  readonly #o: RegistrationOptions
  #closed = false
  #leaseTimer: NodeJS.Timeout | undefined
  #statusTimer: NodeJS.Timeout | undefined
  #updating = false
  #again = false
  #failing = false

  constructor(o: RegistrationOptions) {
    this.#o = o
    void this.#renew()
    this.refresh()
  }

  /** Brings Machine and Node up to date soon: the images have changed, or the connection is back. */
  refresh(): void {
    if (this.#closed) return
    if (this.#updating) this.#again = true
    else this.#statusTimer ??= setTimeout(() => void this.#update(), STATUS_DEBOUNCE_MS)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#leaseTimer)
    clearTimeout(this.#statusTimer)
  }

  async #update(): Promise<void> {
    this.#statusTimer = undefined
    this.#updating = true
    let ok = true
    try {
      await this.#machine()
      await this.#node()
    } catch (e) {
      ok = false
      if (!this.#failing) this.#o.logger.warn(`registering the node: ${errorText(e)}`)
    }
    this.#failing = !ok
    this.#updating = false
    if (this.#closed) return
    if (!ok) this.#statusTimer ??= setTimeout(() => void this.#update(), RETRY_MS)
    else if (this.#again) {
      this.#again = false
      this.refresh()
    }
  }

  async #machine(): Promise<void> {
    const { client, config } = this.#o
    const machine = await registerMachine(client, config, this.#o.podCIDR)
    if (machine.spec.podCIDR !== this.#o.podCIDR) {
      this.#o.logger.error(`machine "${config.name}" now has the pods' addresses ${machine.spec.podCIDR}, but this agent runs `
        + `with ${this.#o.podCIDR}: stop the node's pods and restart its agent`)
    }
    const status: Machine['status'] = { address: config.address, phase: 'Running' }
    if (!contains(machine.status, status)) {
      await client.patch(machines, { name: config.name }, 'merge', { status }, { subresource: 'status' })
    }
  }

  async #node(): Promise<void> {
    const { client, config } = this.#o
    const wanted = nodeObject(config, this.#o.facts, this.#o.podCIDR)
    let node: Node
    try {
      node = await client.get(nodes, { name: config.name })
    } catch (e) {
      if (!isReason(e, 'NotFound')) throw e
      node = await client.create(nodes, { ...wanted, spec: { ...wanted.spec, ...(config.taints && { taints: config.taints }) } })
    }
    const owned = { metadata: { labels: wanted.metadata.labels }, spec: wanted.spec }
    if (!contains(node, owned)) node = await client.patch(nodes, { name: config.name }, 'merge', owned)
    const status = await this.#status(node)
    if (!contains(node.status, status)) {
      await client.patch(nodes, { name: config.name }, 'merge', { status }, { subresource: 'status' })
    }
  }

  async #status(node: Node): Promise<Node['status']> {
    const { config, facts } = this.#o
    const nowMs = Date.now()
    const old = node.status?.conditions ?? []
    const conditions = [
      condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'the agent has sufficient memory available', old, nowMs),
      condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'the agent has no disk pressure', old, nowMs),
      condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'the agent has sufficient PID available', old, nowMs),
      condition('Ready', 'True', 'KubeletReady', 'the agent is posting ready status', old, nowMs),
    ]
    const own = new Set(conditions.map(c => c.type))
    return {
      capacity: facts.capacity, allocatable: facts.capacity,
      conditions: [...old.filter(c => !own.has(c.type)), ...conditions],
      addresses: [{ type: 'InternalIP', address: config.address }, { type: 'Hostname', address: config.name }],
      nodeInfo: facts.nodeInfo,
      images: imagesStatus(await this.#o.images()),
    }
  }

  async #renew(): Promise<void> {
    const { client, config } = this.#o
    const beganMs = Date.now()
    const spec: Lease['spec'] = { holderIdentity: config.name, leaseDurationSeconds: LEASE_DURATION_S, renewTime: microTimeOf(beganMs) }
    try {
      await client.patch(leases, { namespace: LEASE_NAMESPACE, name: config.name }, 'merge', { spec })
    } catch (e) {
      if (isReason(e, 'NotFound')) {
        await client.create(leases, {
          apiVersion: leases.apiVersion, kind: leases.kind, metadata: { namespace: LEASE_NAMESPACE, name: config.name }, spec,
        }).catch(() => {})
      }
      // An unreachable server is told of by the tunnel; the next renewal comes anyway.
    }
    if (!this.#closed) this.#leaseTimer = setTimeout(() => void this.#renew(), Math.max(0, beganMs + LEASE_RENEW_MS - Date.now()))
  }
}

export function nodeObject(config: AgentConfig, facts: Facts, podCIDR: string): Node {
  return {
    apiVersion: 'v1', kind: 'Node',
    metadata: {
      name: config.name,
      labels: {
        'kubernetes.io/hostname': config.name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': facts.nodeInfo.architecture, ...config.labels,
      },
    },
    spec: { podCIDR, podCIDRs: [podCIDR] },
  }
}

/** Tags and digests by which peers find an image here: every name, and its repository with the digest. */
export function imagesStatus(images: ImageInfo[]): { names: string[]; sizeBytes: number }[] {
  return images.slice(0, MAX_IMAGES).map(i => {
    const names = new Set<string>()
    i.names.forEach((name, n) => {
      names.add(name)
      const digest = i.digests[n] ?? i.digests[0]
      if (digest !== undefined && !name.includes('@')) names.add(`${repository(name)}@${digest}`)
    })
    return { names: [...names].sort(), sizeBytes: i.sizeBytes }
  }).filter(i => i.names.length > 0).sort((a, b) => a.names[0]! < b.names[0]! ? -1 : 1)
}

/** `docker.io/library/redis:7` → `docker.io/library/redis`. */
export function repository(name: string): string {
  const colon = name.lastIndexOf(':')
  return colon > name.lastIndexOf('/') ? name.slice(0, colon) : name
}

function condition(type: string, status: 'True' | 'False', reason: string, message: string, old: Condition[], nowMs: number): Condition {
  const before = old.find(c => c.type === type)
  const lastTransitionTime = before?.status === status && before.lastTransitionTime !== undefined ? before.lastTransitionTime : formatTime(nowMs)
  return { type, status, reason, message, lastTransitionTime, lastHeartbeatTime: formatTime(nowMs) }
}
