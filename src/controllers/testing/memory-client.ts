/**
 * A small API in memory for unit tests: revisions and conflicts, generations, finalizers, deletion with grace, bindings and
 * informers whose news comes a moment after the write, as it does in a real cluster.
 */
import { keyOf, type Client, type DeleteOptions, type Informer, type InformerOptions, type Key, type ListOptions, type PatchType, type WatchEventType, type WriteOptions } from '../../core/client.ts'
import { clone, equal, isRecord } from '../../core/clone.ts'
import { alreadyExists, conflict, notFound } from '../../core/errors.ts'
import { InformerCache } from '../../core/informer-cache.ts'
import { namespaces, pods, type Kind } from '../../core/kinds.ts'
import { parseLabelSelector } from '../../core/selectors.ts'
import { formatTime } from '../../core/time.ts'
import type { ApiObject, Namespace, ObjectList, Pod } from '../../core/types/index.ts'
import { systemClock, type Clock } from '../../core/workqueue.ts'

type Verb = 'get' | 'list' | 'create' | 'update' | 'patch' | 'delete' | 'bind'
interface Subscriber { kind: string; cache: InformerCache<ApiObject>; pending: [WatchEventType, ApiObject][] }

export class MemoryClient implements Client {
  readonly #stores = new Map<string, Map<string, ApiObject>>()
  readonly #subscribers = new Set<Subscriber>()
  readonly #clock: Clock
  #revision = 0
  #uid = 0
  #held = false
  #flushing = false
  /** Writes by verb and kind, e.g. `create Pod`. */
  readonly calls: string[] = []
  /** Thrown instead of doing what was asked, when it returns an error. */
  fail: (verb: Verb, kind: Kind, name: string) => Error | undefined = () => undefined

  constructor(clock: Clock = systemClock) { this.#clock = clock }

  /** While held, informers learn nothing: a lagging cache. */
  hold(): void { this.#held = true }
  release(): void {
    this.#held = false
    this.#flush()
  }

  /** What is stored, at once and without a copy. */
  all<T extends ApiObject>(kind: Kind<T>): T[] { return [...this.#store(kind).values()] as T[] }
  find<T extends ApiObject>(kind: Kind<T>, name: string, namespace = 'default'): T | undefined {
    return this.#store(kind).get(kind.namespaced ? `${namespace}/${name}` : name) as T | undefined
  }

  async get<T extends ApiObject>(kind: Kind<T>, key: Key): Promise<T> {
    this.#call('get', kind, key.name)
    return this.#need(kind, key)
  }

  async list<T extends ApiObject>(kind: Kind<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    this.#call('list', kind, '')
    const matches = parseLabelSelector(options.labelSelector ?? '')
    const items = this.all(kind).filter((o) =>
      (options.namespace === undefined || o.metadata.namespace === options.namespace) && matches(o.metadata.labels))
    return { apiVersion: kind.apiVersion, kind: `${kind.kind}List`, metadata: { resourceVersion: String(this.#revision) }, items: items.slice(0, options.limit) }
  }

  async create<T extends ApiObject>(kind: Kind<T>, object: T): Promise<T> {
    const made = clone(object)
    if (!made.metadata.name) made.metadata.name = `${made.metadata.generateName}${(this.#uid + 1).toString(36).padStart(5, 'x')}`
    this.#call('create', kind, made.metadata.name)
    if (kind.namespaced) made.metadata.namespace ??= 'default'
    const key = keyOf(made)
    if (this.#store(kind).has(key)) throw alreadyExists(kind, made.metadata.name)
    Object.assign(made.metadata, { uid: `uid-${++this.#uid}`, generation: 1, creationTimestamp: formatTime(this.#clock.now()) })
    if (kind.kind === namespaces.kind) (made as unknown as Namespace).spec ??= { finalizers: ['kubernetes'] }
    if (kind.kind === pods.kind) (made as unknown as Pod).status ??= { phase: 'Pending' }
    return this.#put(kind, key, made)
  }

  async update<T extends ApiObject>(kind: Kind<T>, object: T, options: WriteOptions = {}): Promise<T> {
    this.#call('update', kind, object.metadata.name)
    const old = this.#need(kind, object.metadata)
    return this.#replace(kind, old, object, options.subresource)
  }

  async updateStatus<T extends ApiObject>(kind: Kind<T>, object: T): Promise<T> {
    return this.update(kind, object, { subresource: 'status' })
  }

  async patch<T extends ApiObject>(kind: Kind<T>, key: Key, type: PatchType, body: unknown, options: WriteOptions = {}): Promise<T> {
    this.#call('patch', kind, key.name)
    const old = this.#need(kind, key)
    const patch = body as { metadata?: { uid?: string; resourceVersion?: string } }
    if (patch.metadata?.uid !== undefined && patch.metadata.uid !== old.metadata.uid) throw conflict(kind, key.name)
    const next = merge(old, body, type === 'strategic') as T
    if (patch.metadata?.resourceVersion === undefined) next.metadata = { ...next.metadata, resourceVersion: old.metadata.resourceVersion! }
    return this.#replace(kind, old, next, options.subresource)
  }

  async delete<T extends ApiObject>(kind: Kind<T>, key: Key, options: DeleteOptions = {}): Promise<void> {
    this.#call('delete', kind, key.name)
    const old = this.#need(kind, key)
    if (options.preconditions?.uid !== undefined && options.preconditions.uid !== old.metadata.uid) throw conflict(kind, key.name, 'uid differs')
    const next = clone(old)
    const finalizers = new Set(next.metadata.finalizers)
    if (options.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion')
    if (options.propagationPolicy === 'Orphan') finalizers.add('orphan')
    next.metadata.finalizers = [...finalizers]
    const pod = old as unknown as Pod
    const isRunningPod = kind.kind === pods.kind && pod.spec.nodeName !== undefined && pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed'
    const grace = isRunningPod ? options.gracePeriodSeconds ?? 30 : 0
    const isHeldNamespace = kind.kind === namespaces.kind && ((old as unknown as Namespace).spec?.finalizers?.length ?? 0) > 0
    if (grace > 0 || finalizers.size > 0 || isHeldNamespace) {
      next.metadata.deletionTimestamp ??= formatTime(this.#clock.now() + grace * 1000)
      next.metadata.deletionGracePeriodSeconds = grace
      if (isHeldNamespace) (next as unknown as Namespace).status = { phase: 'Terminating' }
      this.#put(kind, keyOf(old), next)
    } else {
      this.#remove(kind, old)
    }
  }

  async bind(pod: { namespace: string; name: string; uid?: string }, nodeName: string): Promise<void> {
    this.#call('bind', pods, pod.name)
    const old = this.#need(pods, pod)
    if (old.spec.nodeName !== undefined || pod.uid !== undefined && pod.uid !== old.metadata.uid) throw conflict(pods, pod.name)
    this.#put(pods, keyOf(old), { ...old, metadata: { ...old.metadata }, spec: { ...old.spec, nodeName } })
  }

  informer<T extends ApiObject>(kind: Kind<T>, options: InformerOptions<T> = {}): Informer<T> {
    const cache = new InformerCache<T>(options.indexes)
    const subscriber = { kind: idOf(kind), cache: cache as unknown as InformerCache<ApiObject>, pending: [] as [WatchEventType, ApiObject][] }
    const synced = new Promise<void>((resolve) => setImmediate(() => {
      cache.replace(this.all(kind))
      this.#subscribers.add(subscriber)
      resolve()
    }))
    return {
      synced,
      get: (key) => cache.get(key),
      list: () => cache.list(),
      get size() { return cache.size },
      byIndex: (index, value) => cache.byIndex(index, value),
      on: (handler) => cache.on(handler),
      stop: () => { this.#subscribers.delete(subscriber) },
    }
  }

  #replace<T extends ApiObject>(kind: Kind<T>, old: T, object: T, subresource: string | undefined): T {
    const revision = object.metadata.resourceVersion
    if (revision !== undefined && revision !== old.metadata.resourceVersion) throw conflict(kind, old.metadata.name)
    const next = clone(object) as T & { spec?: unknown; status?: unknown }
    const before = old as T & { spec?: unknown; status?: unknown }
    if (subresource === 'status') {
      const { status } = next
      Object.assign(next, clone(old))
      next.status = status
    } else if (kind.subresources?.includes('status') === true && subresource !== 'finalize') {
      if (before.status === undefined) delete next.status
      else next.status = before.status
    }
    const { uid, creationTimestamp, deletionTimestamp, generation } = old.metadata
    Object.assign(next.metadata, { uid, creationTimestamp, generation: equal(next.spec, before.spec) ? generation : generation! + 1 })
    if (deletionTimestamp !== undefined) next.metadata.deletionTimestamp = deletionTimestamp
    if (equal(next, old)) return old
    const isFree = (next.metadata.finalizers?.length ?? 0) === 0
      && !(kind.kind === namespaces.kind && ((next as unknown as Namespace).spec?.finalizers?.length ?? 0) > 0)
    const waitsForAgent = kind.kind === pods.kind && (old.metadata.deletionGracePeriodSeconds ?? 0) > 0
    if (deletionTimestamp !== undefined && isFree && !waitsForAgent) return this.#remove(kind, next)
    return this.#put(kind, keyOf(old), next)
  }

  #put<T extends ApiObject>(kind: Kind<T>, key: string, object: T): T {
    object.metadata.resourceVersion = String(++this.#revision)
    const type = this.#store(kind).has(key) ? 'MODIFIED' : 'ADDED'
    this.#store(kind).set(key, object)
    this.#emit(kind, type, object)
    return object
  }

  #remove<T extends ApiObject>(kind: Kind<T>, object: T): T {
    this.#store(kind).delete(keyOf(object))
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#revision) } }
    this.#emit(kind, 'DELETED', last)
    return last
  }

  #emit(kind: Kind, type: WatchEventType, object: ApiObject): void {
    for (const s of this.#subscribers) if (s.kind === idOf(kind)) s.pending.push([type, object])
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#held) return
    for (const s of this.#subscribers) for (const [type, object] of s.pending.splice(0)) s.cache.apply(type, object)
  }

  #call(verb: Verb, kind: Kind, name: string): void {
    if (verb !== 'get' && verb !== 'list') this.calls.push(`${verb} ${kind.kind}`)
    const error = this.fail(verb, kind, name)
    if (error !== undefined) throw error
  }

  #need<T extends ApiObject>(kind: Kind<T>, key: Key): T {
    const found = this.#store(kind).get(kind.namespaced ? `${key.namespace ?? 'default'}/${key.name}` : key.name)
    if (found === undefined) throw notFound(kind, key.name)
    return found as T
  }

  #store(kind: Kind): Map<string, ApiObject> {
    let store = this.#stores.get(idOf(kind))
    if (store === undefined) this.#stores.set(idOf(kind), store = new Map())
    return store
  }
}

function idOf(kind: Kind): string { return `${kind.apiVersion}/${kind.kind}` }

/** JSON merge patch; with `byType` lists of conditions are merged by their type, as strategic merge does. */
function merge(target: unknown, patch: unknown, byType: boolean): unknown {
  if (!isRecord(patch)) return patch
  const out: Record<string, unknown> = isRecord(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key]
    else if (byType && key === 'conditions') out[key] = mergeConditions(out[key] as { type: string }[] | undefined, value as { type: string }[])
    else if (value !== undefined) out[key] = merge(out[key], value, byType)
  }
  return out
}

function mergeConditions(old: { type: string }[] | undefined, patch: { type: string }[]): { type: string }[] {
  const rest = (old ?? []).filter((c) => !patch.some((p) => p.type === c.type))
  return [...rest, ...patch.map((p) => ({ ...old?.find((c) => c.type === p.type), ...p }))]
}
