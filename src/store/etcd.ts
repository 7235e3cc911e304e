/**
 * The store of several servers: etcd ≥ 3.4. Every write is one transaction that compares the key's revision; etcd itself
 * groups them into fsyncs. etcd's revision is ours.
 */
import type { ClientDuplexStream } from '@grpc/grpc-js'
import { EtcdClient } from './etcd-client.ts'
import type { EtcdOptions, WatchResponse } from './etcd-client.ts'
import { PreconditionFailed } from './store.ts'
import type { Change, Entry, Precondition, Snapshot, Store } from './store.ts'

const PAGE = 500
const RETRY_MS = { first: 100, max: 3000 }

/** `prefix` keeps clusters in one etcd apart; keys are `PREFIX/o/KEY`, leases `PREFIX/lease/NAME`. Rejects if no member answers. */
export async function openEtcdStore(options: EtcdOptions & { prefix: string }): Promise<Store> {
  const client = new EtcdClient(options)
  const prefix = options.prefix.replace(/\/+$/, '')
  try {
    const { header } = await client.range({ key: Buffer.from(`${prefix}/o/`), limit: 1 })
    return new EtcdStore(client, prefix, header.revision)
  } catch (e) {
    client.close()
    throw new Error(`etcd at ${options.endpoints.join(', ')} does not answer: ${e instanceof Error ? e.message : String(e)}`)
  }
}

interface Waiter { revision: number; resolve(): void }

class EtcdStore implements Store {
  readonly #client: EtcdClient
  readonly #keys: string
  readonly #prefix: string
  #revision: number
  /** Changes up to this revision were handed to the subscriber. */
  #delivered = 0
  /** Own writes whose change the subscriber has not seen yet. */
  #waiters: Waiter[] = []
  /** Values on their way, by key: the change hands out the writer's own bytes. */
  readonly #writing = new Map<string, Uint8Array>()
  readonly #leases = new Map<string, number>()
  #failure: string | undefined
  #subscriber: { stop(): void } | undefined
  #closed = false

  constructor(client: EtcdClient, prefix: string, revision: number) {
    this.#client = client
    this.#prefix = prefix
    this.#keys = `${prefix}/o/`
    this.#revision = revision
  }

  #key(key: string): Buffer { return Buffer.from(this.#keys + key) }
  #nameOf(key: Buffer): string { return key.toString('utf8', Buffer.byteLength(this.#keys)) }
  /** The first key behind all of ours. */
  get #end(): Buffer { return Buffer.from(`${this.#prefix}/o0`) }
  #saw(revision: number): void { if (revision > this.#revision) this.#revision = revision }

  revision(): number { return this.#revision }

  async load(): Promise<Snapshot> {
    const first = await this.#client.range({ key: this.#key(''), range_end: this.#end, limit: PAGE })
    const { revision } = first.header
    this.#saw(revision)
    const client = this.#client
    const [end, nameOf] = [this.#end, (k: Buffer): string => this.#nameOf(k)]
    async function* entries(): AsyncIterable<Entry> {
      for (let page = first; ;) {
        for (const kv of page.kvs) yield { key: nameOf(kv.key), revision: kv.mod_revision, value: kv.value }
        const last = page.kvs.at(-1)
        if (!page.more || last === undefined) return
        // Paged at the first page's revision: one state, whatever is written meanwhile.
        page = await client.range({ key: Buffer.concat([last.key, Buffer.of(0)]), range_end: end, limit: PAGE, revision })
      }
    }
    return { revision, entries: entries() }
  }

  async put(key: string, value: Uint8Array, expect: Precondition): Promise<number> {
    const name = this.#key(key)
    this.#writing.set(key, value)
    try {
      return await this.#write(key, name, { request_put: { key: name, value } }, expect)
    } finally {
      if (this.#writing.get(key) === value) this.#writing.delete(key)
    }
  }

  async delete(key: string, expect: Precondition): Promise<number> {
    const name = this.#key(key)
    return this.#write(key, name, { request_delete_range: { key: name } }, expect ?? 'any')
  }

  async #write(key: string, name: Buffer, operation: object, expect: Precondition | 'any'): Promise<number> {
    if (this.#closed) throw new Error('the store is closed')
    const compare = expect === undefined ? []
      : expect === 'any' ? [{ result: 'GREATER', target: 'VERSION', key: name, version: 0 }]
        : 'exists' in expect ? [{ result: 'EQUAL', target: 'VERSION', key: name, version: 0 }]
          // Revision 0 would match a missing key.
          : [{ result: 'EQUAL', target: 'MOD', key: name, mod_revision: expect.revision > 0 ? expect.revision : -1 }]
    const answer = await this.#noting(this.#client.txn({ compare, success: [operation], failure: [{ request_range: { key: name } }] }))
    const { revision } = answer.header
    this.#saw(revision)
    if (!answer.succeeded) throw new PreconditionFailed(key, answer.responses[0]?.response_range?.kvs[0]?.mod_revision ?? 0)
    if (this.#subscriber !== undefined && this.#delivered < revision) {
      await new Promise<void>(resolve => this.#waiters.push({ revision, resolve }))
    }
    return revision
  }

  /** Remembers whether etcd answered. */
  async #noting<T>(call: Promise<T>): Promise<T> {
    try {
      const answer = await call
      this.#failure = undefined
      return answer
    } catch (e) {
      this.#failure = `etcd does not answer: ${e instanceof Error ? e.message : String(e)}`
      throw e
    }
  }

  failing(): string | undefined { return this.#failure }

  #deliver(revision: number): void {
    if (revision <= this.#delivered) return
    this.#delivered = revision
    if (this.#waiters.length === 0) return
    const ready = this.#waiters.filter(w => w.revision <= revision)
    this.#waiters = this.#waiters.filter(w => w.revision > revision)
    for (const w of ready) w.resolve()
  }

  subscribe(revision: number, onChanges: (changes: Change[]) => void, onBroken: (e: Error) => void): () => void {
    let stopped = false
    let stream: ClientDuplexStream<object, WatchResponse> | undefined
    let timer: NodeJS.Timeout | undefined
    let waitMs = RETRY_MS.first
    const subscriber = {
      stop: (): void => {
        stopped = true
        clearTimeout(timer)
        stream?.cancel()
        if (this.#subscriber === subscriber) this.#subscriber = undefined
        // Nobody is told any more: what is durable is done.
        this.#deliver(Infinity)
        this.#delivered = 0
      },
    }
    this.#subscriber = subscriber
    this.#delivered = revision
    const open = (): void => {
      const s = stream = this.#client.watch()
      let ended = false
      const again = (): void => {
        if (stopped || ended) return
        ended = true
        s.cancel()
        timer = setTimeout(open, waitMs)
        waitMs = Math.min(waitMs * 2, RETRY_MS.max)
      }
      s.on('data', (m: WatchResponse) => {
        if (stopped || ended) return
        if (m.compact_revision > 0) {
          subscriber.stop()
          return onBroken(new Error(`changes after revision ${this.#delivered} are no longer kept (etcd is compacted to ${m.compact_revision})`))
        }
        if (m.canceled) return again()
        waitMs = RETRY_MS.first
        if (m.events.length === 0) return
        this.#saw(m.header.revision)
        onChanges(m.events.map(e => this.#changeOf(e)))
        this.#deliver(m.events.at(-1)!.kv.mod_revision)
      })
      s.on('error', again)
      s.on('end', again)
      s.write({ create_request: { key: this.#key(''), range_end: this.#end, start_revision: this.#delivered + 1, prev_kv: true } })
    }
    open()
    return subscriber.stop
  }

  #changeOf({ type, kv, prev_kv }: WatchResponse['events'][number]): Change {
    const key = this.#nameOf(kv.key)
    const own = this.#writing.get(key)
    const value = type === 'DELETE' ? prev_kv?.value ?? Buffer.alloc(0) : own !== undefined && kv.value.equals(own) ? own : kv.value
    return { type, key, revision: kv.mod_revision, previousRevision: prev_kv?.mod_revision ?? 0, value }
  }

  async compact(revision: number): Promise<void> {
    try {
      await this.#client.compact(revision)
    } catch (e) {
      // Another server did it.
      if (!/has been compacted/.test(String(e))) throw e
    }
  }

  async lease(name: string, holder: string, ttlMs: number): Promise<boolean> {
    const held = this.#leases.get(name)
    if (held !== undefined) {
      if (await this.#noting(this.#client.keepAlive(held)) > 0) return true
      this.#leases.delete(name)
    }
    const key = Buffer.from(`${this.#prefix}/lease/${name}`)
    const { ID } = await this.#noting(this.#client.grant(Math.max(1, Math.ceil(ttlMs / 1000))))
    const answer = await this.#client.txn({
      compare: [{ result: 'EQUAL', target: 'VERSION', key, version: 0 }],
      success: [{ request_put: { key, value: Buffer.from(holder), lease: ID } }], failure: [],
    })
    if (answer.succeeded) {
      this.#leases.set(name, ID)
      return true
    }
    await this.#client.revoke(ID)
    return false
  }

  /** Gives its leases back, so that another server need not wait for them to run out. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#subscriber?.stop()
    await Promise.allSettled([...this.#leases.values()].map(id => this.#client.revoke(id)))
    this.#client.close()
  }
}
