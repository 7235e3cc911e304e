/**
 * The remote informer: keeps an InformerCache equal to the server's objects of one kind. It begins with a streaming list
 * (WatchList; list + watch where the server refuses that), follows the watch, and after any break goes on from the last
 * revision it applied, so that no change is lost, doubled or reordered. Only when the server no longer knows that revision
 * (410) is everything read again; the cache then reports the differences.
 */
import type { Informer, InformerHandler, InformerOptions } from '../core/client.ts'
import { keyOf } from '../core/client.ts'
import { ApiError } from '../core/errors.ts'
import { InformerCache } from '../core/informer-cache.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject, ObjectList } from '../core/types/index.ts'
import { errorOfAnswer, errorOfStatus } from './answers.ts'
import { Backoff, sleep } from './backoff.ts'
import { collectionPath, listQuery, withQuery } from './paths.ts'
import { readText } from './transport.ts'
import type { Transport } from './transport.ts'
import { readWatch } from './watch.ts'

const INITIAL_EVENTS_END = 'k8s.io/initial-events-end'
/** Watches end by themselves after five to ten minutes, which spreads clients over restarted servers again. */
const MIN_WATCH_S = 300
const RESPONSE_TIMEOUT_MS = 20_000
/** A watch that ends sooner without an event counts as failed. */
const SHORT_WATCH_MS = 1000
const PAGE_SIZE = 500
/** So many answers "that revision is in the future" mean that the server has lost it, not that it lags. */
const MAX_FUTURE_ANSWERS = 3

export class RemoteInformer<T extends ApiObject> implements Informer<T> {
  readonly synced: Promise<void>
  readonly #transport: Transport
  readonly #kind: Kind<T>
  readonly #options: InformerOptions<T>
  readonly #cache: InformerCache<T>
  readonly #onStop: () => void
  readonly #abort = new AbortController()
  readonly #backoff = new Backoff({ minMs: 50, maxMs: 3000 })
  readonly #connectionHandlers = new Set<(connected: boolean) => void>()
  #setSynced!: () => void
  /** Everything up to here is in the cache; undefined when it has to be read anew. */
  #revision: string | undefined
  #connected: boolean | undefined
  #listFirst = false
  #futureAnswers = 0

  constructor(transport: Transport, kind: Kind<T>, options: InformerOptions<T>, onStop: () => void) {
    this.#transport = transport
    this.#kind = kind
    this.#options = options
    this.#onStop = onStop
    this.#cache = new InformerCache(options.indexes)
    this.synced = new Promise((resolve) => { this.#setSynced = resolve })
    void this.#run()
  }

  get(key: string): T | undefined { return this.#cache.get(key) }
  list(): Iterable<T> { return this.#cache.list() }
  get size(): number { return this.#cache.size }
  byIndex(index: string, value: string): Iterable<T> { return this.#cache.byIndex(index, value) }
  on(handler: InformerHandler<T>): () => void { return this.#cache.on(handler) }

  /** A new handler is told the state at once, if there is one yet. */
  onConnection(handler: (connected: boolean) => void): void {
    this.#connectionHandlers.add(handler)
    if (this.#connected !== undefined) handler(this.#connected)
  }

  stop(): void {
    this.#abort.abort()
    this.#onStop()
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      try {
        if (this.#revision === undefined && this.#listFirst) await this.#list()
        const lasted = await this.#watch()
        if (lasted) continue
      } catch (e) {
        if (signal.aborted) return
        if (this.#recover(e)) continue
      }
      await sleep(this.#backoff.next(), signal)
    }
  }

  /** Prepares the next attempt after a failure; true if it may be made at once. */
  #recover(e: unknown): boolean {
    const reason = e instanceof ApiError ? e.reason : undefined
    if (reason === 'Expired') {
      const again = this.#revision !== undefined
      this.#revision = undefined
      return again
    }
    if (this.#revision === undefined && !this.#listFirst && (reason === 'Invalid' || reason === 'BadRequest')) {
      this.#listFirst = true
      return true
    }
    if (reason === 'Timeout' && this.#revision !== undefined && ++this.#futureAnswers >= MAX_FUTURE_ANSWERS) {
      this.#revision = undefined
    }
    // A watch that only broke off is tried again before anyone is told.
    if (e instanceof BrokenWatch) return e.lasted
    this.#setConnected(false)
    return false
  }

  async #list(): Promise<void> {
    const items: T[] = []
    let next: string | undefined
    let revision: string
    do {
      const query = listQuery({ ...this.#options, limit: PAGE_SIZE, continue: next })
      const answer = await this.#get(query)
      const list = JSON.parse(await readText(answer)) as ObjectList<T>
      for (const item of list.items) {
        item.apiVersion ??= this.#kind.apiVersion
        item.kind ??= this.#kind.kind
        items.push(item)
      }
      next = list.metadata.continue
      revision = list.metadata.resourceVersion
    } while (next)
    this.#cache.replace(items)
    this.#revision = revision
    this.#setSynced()
  }

  /** Follows one watch to its end. Resolves with false when it was so short that waiting is better. */
  async #watch(): Promise<boolean> {
    const startedAt = Date.now()
    let events = 0
    /** The streaming list's objects until its end is marked. */
    let initial: Map<string, T> | undefined
    const query = listQuery({ labelSelector: this.#options.labelSelector, fieldSelector: this.#options.fieldSelector })
    query.set('watch', '1')
    query.set('allowWatchBookmarks', 'true')
    query.set('timeoutSeconds', String(Math.floor(MIN_WATCH_S * (1 + Math.random()))))
    if (this.#revision === undefined) {
      initial = new Map()
      query.set('sendInitialEvents', 'true')
      query.set('resourceVersionMatch', 'NotOlderThan')
    } else {
      query.set('resourceVersion', this.#revision)
    }
    const body = await this.#get(query)
    this.#futureAnswers = 0
    if (initial === undefined) this.#setConnected(true)
    const lasted = () => events > 0 || Date.now() - startedAt >= SHORT_WATCH_MS
    try {
      await readWatch<T>(body, ({ type, object }) => {
        if (type === 'ERROR') throw errorOfStatus(object)
        events++
        const revision = object.metadata.resourceVersion
        if (initial !== undefined) {
          if (type === 'DELETED') initial.delete(keyOf(object))
          else if (type !== 'BOOKMARK') initial.set(keyOf(object), object)
          else if (object.metadata.annotations?.[INITIAL_EVENTS_END] === 'true') {
            this.#cache.replace(initial.values())
            initial = undefined
            this.#revision = revision
            this.#setSynced()
            this.#setConnected(true)
          }
          return
        }
        if (type !== 'BOOKMARK') this.#cache.apply(type, object)
        this.#revision = revision
        if (events === 1) this.#backoff.reset()
      })
    } catch (e) {
      if (e instanceof ApiError) throw e
      throw new BrokenWatch((e as Error).message, lasted())
    } finally {
      body.destroy()
    }
    if (lasted()) this.#backoff.reset()
    return lasted()
  }

  async #get(query: URLSearchParams) {
    const { status, body } = await this.#transport.send('GET', withQuery(this.#path, query), {
      headers: { accept: 'application/json' }, signal: this.#abort.signal, timeoutMs: RESPONSE_TIMEOUT_MS,
    })
    if (status >= 400) throw errorOfAnswer(status, await readText(body))
    return body
  }

  get #path(): string { return collectionPath(this.#kind, this.#options.namespace) }

  #setConnected(connected: boolean): void {
    if (this.#connected === connected) return
    this.#connected = connected
    for (const handler of this.#connectionHandlers) handler(connected)
  }
}

/** The stream of events ended without its end. `lasted`: it had worked before. */
class BrokenWatch extends Error {
  readonly lasted: boolean
  constructor(message: string, lasted: boolean) {
    super(message)
    this.lasted = lasted
  }
}
