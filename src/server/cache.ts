/**
 * The watch cache: every object in memory, by kind, and each kind's recent changes. All reads and watches are served from
 * here; the store is only written. What it holds is durable.
 */
import { ApiError } from '../core/errors.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject } from '../core/types/index.ts'
import type { Change, Store } from '../store/store.ts'
import { Cached } from './cached.ts'
import { Codec, kindPrefix, kindPrefixOf } from './codec.ts'
import type { Logger } from '../core/log.ts'

/** Changes of a kind are kept this long, but no more than so many. */
const HISTORY_MS = 5 * 60_000
const HISTORY_MAX = 10_000
/** How long a read waits for a revision this server has not seen. */
const FUTURE_WAIT_MS = 3000

/** One change as watches see it. */
export interface CacheEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED'
  /** `namespace/name`, or `name` for cluster-scoped kinds. */
  key: string
  revision: number
  /** For DELETED the last state, with the deletion's revision. */
  current: Cached
  /** The state before; undefined for ADDED. */
  previous: Cached | undefined
  atMs: number
  /** The event's line of a watch stream, made once for all watchers. */
  line?: Buffer
}

export type CacheListener = (events: readonly CacheEvent[]) => void

const expired = (asked: number, oldest: number): ApiError =>
  new ApiError('Expired', `too old resource version: ${asked} (${oldest})`)

/** The objects of one kind. */
export class KindCache {
  readonly kind: Kind
  readonly codec: Codec
  /** Revision of the kind's newest change; what was derived from the kind's objects holds until it changes. */
  version: number
  readonly #objects = new Map<string, Cached>()
  readonly #namespaces = new Map<string, Map<string, Cached>>()
  readonly #listeners = new Set<CacheListener>()
  #sorted: Cached[] | undefined
  readonly #sortedByNamespace = new Map<string, Cached[]>()
  /** Changes in order, from `#start` on. */
  #history: CacheEvent[] = []
  #start = 0
  /** Every change after this revision is in the history. */
  #floor: number

  constructor(kind: Kind, codec: Codec, revision: number) {
    this.kind = kind
    this.codec = codec
    this.version = this.#floor = revision
  }

  get size(): number { return this.#objects.size }

  /** By `namespace/name`, or `name` for cluster-scoped kinds. */
  get(key: string): Cached | undefined { return this.#objects.get(key) }

  /** In key order. Do not change the array. */
  list(namespace?: string): readonly Cached[] {
    if (namespace === undefined || namespace === '') return this.#sorted ??= sort([...this.#objects.entries()])
    let sorted = this.#sortedByNamespace.get(namespace)
    if (sorted === undefined) {
      sorted = sort([...this.#namespaces.get(namespace)?.entries() ?? []])
      this.#sortedByNamespace.set(namespace, sorted)
    }
    return sorted
  }

  /**
   * Calls `listener` with the changes after `revision`: those that happened already before this returns, later ones as
   * they become durable. Throws Expired (410) if some are no longer known.
   */
  watch(revision: number, listener: CacheListener): () => void {
    if (revision < this.#floor) throw expired(revision, this.#floor)
    let low = this.#start
    for (let high = this.#history.length; low < high;) {
      const middle = (low + high) >> 1
      if (this.#history[middle]!.revision <= revision) low = middle + 1
      else high = middle
    }
    if (low < this.#history.length) listener(this.#history.slice(low))
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  get watchers(): number { return this.#listeners.size }

  /** Of the first load only: no event, no history. */
  seed(key: string, cached: Cached): void {
    this.#set(key, cached)
    this.#sorted = undefined
    this.#sortedByNamespace.clear()
  }

  /** The event of a change, applied to the objects; undefined if it changes nothing. */
  apply(key: string, cached: Cached | undefined, revision: number, atMs: number): CacheEvent | undefined {
    const previous = this.#objects.get(key)
    let event: CacheEvent
    if (cached === undefined) {
      if (previous === undefined) return undefined
      event = { type: 'DELETED', key, revision, current: previous.at(revision), previous, atMs }
      this.#objects.delete(key)
      const { namespace = '', name } = previous.object.metadata
      const inNamespace = this.#namespaces.get(namespace)
      inNamespace?.delete(name)
      if (inNamespace?.size === 0) this.#namespaces.delete(namespace)
    } else {
      event = { type: previous === undefined ? 'ADDED' : 'MODIFIED', key, revision, current: cached, previous, atMs }
      this.#set(key, cached)
    }
    this.version = revision
    this.#sorted = undefined
    this.#sortedByNamespace.delete(event.current.object.metadata.namespace ?? '')
    this.#history.push(event)
    this.#trim(atMs)
    return event
  }

  notify(events: readonly CacheEvent[]): void {
    for (const listener of this.#listeners) listener(events)
  }

  #set(key: string, cached: Cached): void {
    const { namespace, name } = cached.object.metadata
    this.#objects.set(key, cached)
    if (namespace === undefined) return
    let inNamespace = this.#namespaces.get(namespace)
    if (inNamespace === undefined) this.#namespaces.set(namespace, inNamespace = new Map())
    inNamespace.set(name, cached)
  }

  #trim(nowMs: number): void {
    const history = this.#history
    while (history.length - this.#start > HISTORY_MAX || (this.#start < history.length && history[this.#start]!.atMs < nowMs - HISTORY_MS)) {
      this.#floor = history[this.#start++]!.revision
    }
    if (this.#start > 1000 && this.#start > history.length / 2) {
      this.#history = history.slice(this.#start)
      this.#start = 0
    }
  }
}

function sort(entries: [string, Cached][]): Cached[] {
  return entries.sort((a, b) => a[0] < b[0] ? -1 : 1).map(e => e[1])
}

/** What a writer knows about the value it puts: spares the cache from parsing it again. */
interface Written { object: ApiObject; plain: Buffer; cached?: Cached }

export class Cache {
  readonly #store: Store
  readonly #kinds = new Map<string, KindCache>()
  /** The same by the Kind itself, for those who ask often. */
  readonly #byKind = new Map<Kind, KindCache>()
  readonly #secretsKey: Buffer | undefined
  readonly #log: Logger
  /** Objects of values on their way through the store. */
  readonly #written = new WeakMap<Uint8Array, Written>()
  #waiting: { revision: number; wake: () => void }[] = []
  #revision = 0
  #unsubscribe: (() => void) | undefined
  #stopped = false
  #compaction: NodeJS.Timeout | undefined

  constructor(store: Store, kinds: readonly Kind[], secretsKey: Buffer | undefined, log: Logger) {
    this.#store = store
    this.#secretsKey = secretsKey
    this.#log = log
    for (const kind of kinds) this.#addKind(kind)
  }

  #addKind(kind: Kind): KindCache {
    const codec = new Codec(kind, kind.group === '' && kind.plural === 'secrets' ? this.#secretsKey : undefined)
    const cache = new KindCache(kind, codec, this.#revision)
    this.#kinds.set(kindPrefix(kind), cache)
    this.#byKind.set(kind, cache)
    return cache
  }

  /** Reads the store. To be called once, before anything else. */
  async start(): Promise<void> {
    const { revision, entries } = await this.#store.load()
    this.#revision = revision
    for (const k of [...this.#kinds.values()]) this.#addKind(k.kind)
    for await (const { key, revision: r, value } of entries) {
      const kind = this.#kinds.get(kindPrefixOf(key))
      // Objects of a kind no dialect serves any more stay in the store, unseen.
      if (kind !== undefined) kind.seed(objectKey(kind.kind, key), this.#decode(kind, key, value, r))
    }
    this.#subscribe()
    // History in the store is only needed by servers that fall behind.
    let compactTo = this.#revision
    this.#compaction = setInterval(() => {
      const through = compactTo
      compactTo = this.#revision
      this.#store.compact(through).catch((e: unknown) => this.#log.warn('the store could not be compacted', { error: String(e) }))
    }, HISTORY_MS)
    this.#compaction.unref()
  }

  #subscribe(): void {
    this.#unsubscribe = this.#store.subscribe(this.#revision, changes => this.#apply(changes), e => void this.#reload(e))
  }

  /** The newest revision that reads include. */
  revision(): number { return this.#revision }

  of(kind: Kind): KindCache {
    return this.#byKind.get(kind) ?? this.#kinds.get(kindPrefix(kind)) ?? this.#addKind(kind)
  }

  /** Resolves when reads include `revision`. Throws Timeout (504) after 3 s: it is from the future. */
  async waitFor(revision: number, timeoutMs = FUTURE_WAIT_MS): Promise<void> {
    if (this.#revision >= revision) return
    await new Promise<void>((resolve, reject) => {
      const waiter = { revision, wake: () => { clearTimeout(timer); resolve() } }
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter(w => w !== waiter)
        reject(new ApiError('Timeout', `Too large resource version: ${revision}, current: ${this.#revision}`, {
          causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1,
        }))
      }, timeoutMs)
      this.#waiting.push(waiter)
    })
  }

  /**
   * Makes `object` (taken over; without resourceVersion) durable and resolves with what reads now give. Rejects with
   * PreconditionFailed. `known`: what the codec would make of it.
   */
  async put(
    kind: KindCache, key: string, object: ApiObject, expect: { exists: false } | { revision: number }, known?: Buffer,
  ): Promise<Cached> {
    object.metadata.resourceVersion = undefined
    const plain = known ?? kind.codec.encode(object)
    const value = kind.codec.seal(key, plain)
    const written: Written = { object, plain }
    this.#written.set(value, written)
    const revision = await this.#store.put(key, value, expect)
    if (written.cached !== undefined) return written.cached
    return this.#decode(kind, key, value, revision)
  }

  /** Resolves with the deletion's revision. */
  delete(key: string, revision: number): Promise<number> { return this.#store.delete(key, { revision }) }

  /** Resolves when reads include all this server's store has seen, or after a moment: before a retry. */
  async catchUp(): Promise<void> { await this.waitFor(this.#store.revision(), 100).catch(() => {}) }

  stop(): void {
    this.#stopped = true
    clearInterval(this.#compaction)
    this.#unsubscribe?.()
  }

  #decode(kind: KindCache, key: string, value: Uint8Array, revision: number): Cached {
    const written = this.#written.get(value)
    if (written !== undefined) return written.cached = new Cached(kind.codec, written.object, revision, written.plain)
    const plain = kind.codec.unseal(key, value)
    return new Cached(kind.codec, JSON.parse(plain.toString()) as ApiObject, revision, plain)
  }

  #apply(changes: readonly Change[]): void {
    const atMs = Date.now()
    const events = new Map<KindCache, CacheEvent[]>()
    for (const { key, revision, value, type } of changes) {
      this.#revision = revision
      const kind = this.#kinds.get(kindPrefixOf(key))
      if (kind === undefined) continue
      const cached = type === 'PUT' ? this.#decode(kind, key, value, revision) : undefined
      const event = kind.apply(objectKey(kind.kind, key), cached, revision, atMs)
      if (event === undefined) continue
      const list = events.get(kind)
      if (list === undefined) events.set(kind, [event])
      else list.push(event)
    }
    for (const [kind, list] of events) kind.notify(list)
    if (this.#waiting.length > 0) {
      const [ready, still] = [this.#waiting.filter(w => w.revision <= this.#revision), this.#waiting.filter(w => w.revision > this.#revision)]
      this.#waiting = still
      for (const w of ready) w.wake()
    }
  }

  /** The store's stream broke: what changed meanwhile is found by comparing. */
  async #reload(cause: Error): Promise<void> {
    this.#log.warn('reading the store again', { because: cause.message })
    for (let waitMs = 100; !this.#stopped; waitMs = Math.min(waitMs * 2, 5000)) {
      try {
        const { revision, entries } = await this.#store.load()
        const seen = new Set<string>()
        const changes: Change[] = []
        for await (const e of entries) {
          seen.add(e.key)
          if (e.revision > this.#revision) changes.push({ ...e, type: 'PUT', previousRevision: 0 })
        }
        changes.sort((a, b) => a.revision - b.revision)
        for (const k of this.#kinds.values()) {
          for (const c of k.list()) {
            const key = `${kindPrefix(k.kind)}/${c.object.metadata.namespace ?? ''}/${c.object.metadata.name}`
            if (!seen.has(key)) changes.push({ type: 'DELETE', key, revision, previousRevision: c.revision, value: new Uint8Array() })
          }
        }
        this.#apply(changes)
        this.#revision = revision
        if (!this.#stopped) this.#subscribe()
        return
      } catch (e) {
        this.#log.error('the store cannot be read', { error: String(e) })
        await new Promise(resolve => setTimeout(resolve, waitMs))
      }
    }
  }
}

/** `namespace/name` or `name`, of a store key. */
function objectKey(kind: Kind, key: string): string {
  const rest = key.slice(kindPrefix(kind).length + 1)
  return kind.namespaced ? rest : rest.slice(1)
}
