/** In-memory stand-ins for the rooms below the agent, for its unit tests. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Client, Informer, InformerHandler } from '../../core/client.ts'
import { keyOf } from '../../core/client.ts'
import { conflict, notFound } from '../../core/errors.ts'
import type { Kind } from '../../core/kinds.ts'
import { pods } from '../../core/kinds.ts'
import type { ApiObject, Event, Pod, PodSpec, PodStatus } from '../../core/types/index.ts'
import { EngineError } from '../../engine/engine.ts'
import type { ContainerInfo, ContainerSpec, Engine, EngineEvent, ImageInfo } from '../../engine/engine.ts'
import { NetworkError } from '../../network/network.ts'
import type { Network, PortMapping, Sandbox } from '../../network/network.ts'
import type { Volumes } from '../../volumes/volumes.ts'
import { Limiter } from '../limiter.ts'
import type { NodeContext } from '../pod/context.ts'
import { ImagePuller } from '../pod/images.ts'
import { Tokens } from '../pod/tokens.ts'
import { Refs } from '../refs.ts'

export function pod(name: string, spec: Partial<PodSpec> = {}, metadata: Partial<Pod['metadata']> = {}): Pod {
  return {
    apiVersion: 'v1', kind: 'Pod',
    metadata: { name, namespace: 'default', uid: `uid-${name}`, resourceVersion: '1', ...metadata },
    spec: { containers: [{ name: 'main', image: 'busybox:1' }], nodeName: 'n1', terminationGracePeriodSeconds: 1, ...spec },
  }
}

export class FakeInformer<T extends ApiObject> implements Informer<T> {
  readonly objects = new Map<string, T>()
  readonly synced: Promise<void>
  readonly #handlers = new Set<InformerHandler<T>>()
  constructor(objects: T[] = [], synced: Promise<void> = Promise.resolve()) {
    this.synced = synced
    for (const o of objects) this.objects.set(keyOf(o), o)
  }

  get size(): number { return this.objects.size }
  get(key: string): T | undefined { return this.objects.get(key) }
  list(): Iterable<T> { return this.objects.values() }
  byIndex(): Iterable<T> { return this.objects.values() }
  on(handler: InformerHandler<T>): () => void {
    this.#handlers.add(handler)
    for (const o of this.objects.values()) handler('ADDED', o, undefined)
    return () => { this.#handlers.delete(handler) }
  }

  put(o: T): void {
    const old = this.objects.get(keyOf(o))
    this.objects.set(keyOf(o), o)
    for (const h of this.#handlers) h(old === undefined ? 'ADDED' : 'MODIFIED', o, old)
  }

  remove(key: string): void {
    const old = this.objects.get(key)
    this.objects.delete(key)
    if (old !== undefined) for (const h of this.#handlers) h('DELETED', old, old)
  }

  stop(): void { this.#handlers.clear() }
}

/** Holds Pods (by status writes and the last delete), Events, and what informers for other kinds are to find. */
export class FakeClient {
  readonly pods = new FakeInformer<Pod>()
  readonly statuses: PodStatus[] = []
  readonly events: Event[] = []
  readonly others: ApiObject[] = []
  failing = false
  #version = 1

  add(p: Pod): void {
    this.pods.put({ ...p, metadata: { ...p.metadata, resourceVersion: String(++this.#version) } })
  }

  asClient(): Client {
    return {
      get: async (kind: Kind, key: { namespace?: string; name: string }) => this.#found(kind, key),
      patch: async (
        kind: Kind, key: { namespace?: string; name: string }, _type: string,
        body: { status?: PodStatus; metadata?: { resourceVersion?: string } },
      ) => {
        this.#check()
        const now = this.#found(kind, key)
        if (body.metadata?.resourceVersion !== undefined && body.metadata.resourceVersion !== now.metadata.resourceVersion) throw conflict(pods, key.name)
        this.statuses.push(body.status!)
        const metadata = { ...now.metadata, resourceVersion: String(++this.#version) }
        const next = { ...now, metadata, status: { ...(now as Pod).status, ...body.status } } as Pod
        this.pods.put(next)
        return next
      },
      create: async (_kind: Kind, o: ApiObject) => {
        this.#check()
        if (o.kind === 'Event') this.events.push(o as Event)
        if (o.kind === 'TokenRequest') return { ...o, status: { token: 'token-1', expirationTimestamp: new Date(Date.now() + 3600_000).toISOString() } }
        return o
      },
      delete: async (_kind: Kind, key: { namespace?: string; name: string }) => {
        this.#check()
        this.pods.remove(`${key.namespace}/${key.name}`)
      },
      informer: (kind: Kind, o: { namespace?: string; fieldSelector?: string }) => new FakeInformer(this.others.filter(x =>
        x.kind === kind.kind && x.metadata.namespace === o.namespace && `metadata.name=${x.metadata.name}` === o.fieldSelector)),
    } as unknown as Client
  }

  #check(): void { if (this.failing) throw new Error('the server is away') }

  #found(kind: Kind, key: { namespace?: string; name: string }): ApiObject {
    const found = this.pods.get(`${key.namespace}/${key.name}`)
    if (found === undefined) throw notFound(kind, key.name)
    return found
  }
}

export class FakeEngine {
  readonly specs = new Map<string, ContainerSpec>()
  readonly infos = new Map<string, ContainerInfo>()
  readonly log: string[] = []
  images = new Set(['docker.io/library/busybox:1'])
  /** Throw this from `start` of the container with that name. */
  startErrors = new Map<string, string>()
  /** `start` of these breaks off once, as when containerd is killed. */
  breakOff = new Set<string>()
  execExit = 0
  readonly #handlers = new Set<(e: EngineEvent) => void>()
  #pid = 100

  /** The container ends by itself. */
  exit(id: string, exitCode: number, ranMs = 0): void {
    const i = this.infos.get(id)!
    const atMs = (i.startedAtMs ?? 0) + ranMs
    this.infos.set(id, { ...i, state: 'exited', exitCode, finishedAtMs: Math.max(atMs, Date.now()), startedAtMs: i.startedAtMs! })
    for (const h of this.#handlers) h({ type: 'exit', id, exitCode, oomKilled: false, atMs })
  }

  running(container: string): ContainerInfo | undefined {
    return [...this.infos.values()].find(i => i.state === 'running' && i.labels['io.gantry.container'] === container)
  }

  asEngine(): Engine {
    return {
      containers: {
        create: async (s: ContainerSpec) => {
          if (this.specs.has(s.id)) throw new EngineError('conflict', `container ${s.id} exists`)
          this.specs.set(s.id, s)
          this.infos.set(s.id, { id: s.id, labels: s.labels ?? {}, image: s.image, imageId: 'sha256:1', state: 'created', createdAtMs: Date.now() })
          this.log.push(`create ${s.labels?.['io.gantry.container']}`)
        },
        start: async (id: string) => {
          const name = this.specs.get(id)!.labels!['io.gantry.container']!
          if (this.breakOff.delete(name)) throw new EngineError('unavailable', 'Connection dropped')
          const error = this.startErrors.get(name)
          if (error !== undefined) throw new EngineError('failed', error)
          this.infos.set(id, { ...this.infos.get(id)!, state: 'running', pid: ++this.#pid, startedAtMs: Date.now() })
          this.log.push(`start ${name}`)
          return this.#pid
        },
        stop: async (id: string, graceMs: number) => {
          this.log.push(`stop ${this.specs.get(id)!.labels!['io.gantry.container']} ${Math.round(graceMs / 1000)}`)
          if (this.infos.get(id)?.state === 'running') this.exit(id, 143)
        },
        remove: async (id: string) => {
          this.specs.delete(id)
          this.infos.delete(id)
        },
        inspect: (id: string) => this.infos.get(id),
        list: () => [...this.infos.values()],
        exec: async (_id: string, spec: { command: string[] }) => {
          this.log.push(`exec ${spec.command.join(' ')}`)
          const { Readable } = await import('node:stream')
          return { stdout: Readable.from([]), exit: Promise.resolve(this.execExit), close() {}, resize: async () => {} }
        },
      },
      images: {
        normalize: (r: string) => {
          if (r !== r.toLowerCase()) throw new EngineError('invalid', `"${r}" is not a reference`)
          return `docker.io/library/${r.includes(':') ? r : `${r}:latest`}`
        },
        find: async (r: string) => this.images.has(r) ? image(r) : undefined,
        pull: async (r: string) => {
          this.log.push(`pull ${r}`)
          if (r.includes('absent')) throw new EngineError('not-found', `${r}: nobody has it`)
          this.images.add(r)
          return image(r)
        },
        config: async () => ({ entrypoint: [], cmd: [], env: [], workingDir: '', user: '', exposedPorts: [], labels: {}, volumes: [] }),
      },
      onEvent: (h: (e: EngineEvent) => void) => {
        this.#handlers.add(h)
        return () => this.#handlers.delete(h)
      },
    } as unknown as Engine
  }
}

function image(name: string): ImageInfo { return { id: 'sha256:1', names: [name], digests: ['sha256:2'], sizeBytes: 1, createdAtMs: 0, labels: {}, origin: 'local' } }

export class FakeNetwork {
  readonly sandboxes = new Map<string, Sandbox>()
  takenPorts = new Set<number>()
  /** Sandboxes go no sooner than this. */
  beforeDelete = Promise.resolve()

  asNetwork(): Network {
    return {
      podCIDR: '10.42.0.0/24', gateway: '10.42.0.1', dnsAddress: '10.42.0.1',
      createSandbox: async (id: string, { ports = [] }: { ports?: PortMapping[] } = {}) => {
        const published = new Set([...this.sandboxes.values()].flatMap(s => s.ports.map(p => p.hostPort)))
        const taken = ports.find(p => this.takenPorts.has(p.hostPort) || published.has(p.hostPort))
        if (taken !== undefined) throw new NetworkError('conflict', `host port ${taken.hostPort} is taken`)
        const s = { id, netnsPath: `/run/netns/${id}`, ip: `10.42.0.${this.sandboxes.size + 2}`, gateway: '10.42.0.1', ports }
        this.sandboxes.set(id, s)
        return s
      },
      deleteSandbox: async (id: string) => {
        await this.beforeDelete
        this.sandboxes.delete(id)
      },
      sandboxes: () => [...this.sandboxes.values()],
    } as unknown as Network
  }
}

export class FakeVolumes {
  readonly mounted = new Map<string, unknown>()
  readonly updates: string[] = []

  asVolumes(): Volumes {
    return {
      mount: async (uid: string, name: string, source: unknown) => {
        this.mounted.set(`${uid}/${name}`, source)
        return `/volumes/${uid}/${name}`
      },
      update: async (uid: string, name: string) => {
        this.updates.push(`${uid}/${name}`)
        return true
      },
      subPath: async (uid: string, name: string, sub: string) => `/volumes/${uid}/${name}/${sub}`,
      unmountPod: async (uid: string) => { for (const k of this.mounted.keys()) if (k.startsWith(`${uid}/`)) this.mounted.delete(k) },
      pods: async () => [...new Set([...this.mounted.keys()].map(k => k.split('/')[0]!))],
    } as unknown as Volumes
  }
}

const directories: string[] = []
process.once('exit', () => { for (const dir of directories) rmSync(dir, { recursive: true, force: true }) })

export interface FakeNode { client: FakeClient; engine: FakeEngine; network: FakeNetwork; volumes: FakeVolumes; context: NodeContext; events: string[] }

/** A node whose agent can be "restarted" by passing the former one. Its directory goes with the process. */
export function fakeNode(former?: FakeNode): FakeNode {
  const client = former?.client ?? new FakeClient()
  const engine = former?.engine ?? new FakeEngine()
  const network = former?.network ?? new FakeNetwork()
  const volumes = former?.volumes ?? new FakeVolumes()
  const dir = former === undefined ? mkdtempSync(join(tmpdir(), 'gantry-agent-')) : former.context.dataDir
  if (former === undefined) directories.push(dir)
  const events: string[] = former?.events ?? []
  const images = engine.asEngine()
  const c = client.asClient()
  const context: NodeContext = {
    nodeName: 'n1', hostIP: '192.0.2.1', cgroup: '/gantry-test/n1', memoryBytes: 8 * 1024 ** 3, oomFloor: 0, allocatable: { cpu: '2', memory: '8Gi' },
    clusterDomain: 'cluster.local', dataDir: dir, engine: images, network: network.asNetwork(), volumes: volumes.asVolumes(), client: c,
    refs: new Refs(c, dir, () => {}), tokens: new Tokens(c), puller: new ImagePuller(images.images),
    events: { record: (_about, _type, reason, message) => { events.push(`${reason}: ${message}`) } },
    limiter: new Limiter(8), logger: { info() {}, warn() {}, error() {} }, services: () => [],
  }
  return { client, engine, network, volumes, context, events }
}

/** Resolves when `condition` holds; rejects after a second, naming it. */
export async function until(condition: () => boolean, timeoutMs = 1000): Promise<void> {
  const endMs = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${String(condition)}`)
    await new Promise(resolve => { setTimeout(resolve, 2) })
  }
}
