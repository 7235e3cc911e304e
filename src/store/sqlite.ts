/**
 * The store of a single server: one SQLite file, written by a worker thread. Revisions and preconditions are settled here,
 * in memory, against what has been asked for so far; the worker only makes it durable, many writes with one fsync.
 */
import { Worker } from 'node:worker_threads'
import type { CommitMessage, FromWorker, ToWorker } from './sqlite-protocol.ts'
import { PreconditionFailed } from './store.ts'
import type { Change, Entry, Precondition, Snapshot, Store } from './store.ts'

/** Changes kept for a subscriber that starts at an older revision than the newest. */
const LOG_MAX = 2000

interface PendingWrite {
  number: number
  key: string
  revision: number
  previousRevision: number
  /** Undefined: a delete. */
  value: Uint8Array | undefined
  resolve(revision: number): void
  reject(e: Error): void
}

interface Pages { pages: Entry[][]; revision: number }

/**
 * Opens or creates the database at `path` (mode 0600). Rejects if it is in use, or not a database of ours. `onLost` is called
 * if the writing thread dies: from then on every write is refused, and only opening anew helps.
 */
export async function openSqliteStore(path: string, onLost: (e: Error) => void = () => {}): Promise<Store> {
  const worker = new Worker(new URL('./sqlite-worker.ts', import.meta.url), {
    workerData: { path }, resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 8 },
  })
  const first = await new Promise<FromWorker>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  if (first.type !== 'open') {
    await worker.terminate()
    throw new Error(`cannot open the database ${path}: ${first.type === 'failed-open' ? first.message : first.type}`)
  }
  const store = new SqliteStore(worker, first.revision, onLost)
  await store.readHeads()
  return store
}

class SqliteStore implements Store {
  readonly #worker: Worker
  /** Revision of every live key, pending writes included. */
  readonly #heads = new Map<string, number>()
  #lastRevision: number
  #durableRevision: number
  #lastNumber = 0
  #epoch = 0
  /** Sent or about to be sent, not yet durable; in order. */
  #pending: PendingWrite[] = []
  #unsent: PendingWrite[] = []
  #flushScheduled = false
  #log: Change[] = []
  /** Changes up to this revision are no longer in the log. */
  #logFloor: number
  readonly #subscribers = new Set<(changes: Change[]) => void>()
  #load: { entries: Entry[][]; wake(): void; end: { revision: number } | { error: Error } | undefined } | undefined
  #firstLoad: Pages | undefined
  #broken: Error | undefined
  readonly #onLost: (e: Error) => void
  /** Of the last group, if it could not be written. */
  #failure: string | undefined
  #closed: (() => void) | undefined

  constructor(worker: Worker, revision: number, onLost: (e: Error) => void) {
    this.#worker = worker
    this.#onLost = onLost
    this.#lastRevision = this.#durableRevision = this.#logFloor = revision
    worker.on('message', (m: FromWorker) => this.#onMessage(m))
    worker.on('error', e => this.#onDeath(e instanceof Error ? e : new Error(String(e))))
    worker.on('exit', code => this.#onDeath(new Error(`its thread ended with code ${code}`)))
  }

  /** Learns which keys exist. The pages read for it serve the first load, if nothing is written before. */
  async readHeads(): Promise<void> {
    const pages = await this.#readPages()
    for (const page of pages.pages) for (const e of page) this.#heads.set(e.key, e.revision)
    this.#firstLoad = pages
  }

  revision(): number { return this.#durableRevision }

  async load(): Promise<Snapshot> {
    const first = this.#firstLoad
    this.#firstLoad = undefined
    const { pages, revision } = first?.revision === this.#lastRevision ? first : await this.#readPages()
    async function* entries(): AsyncIterable<Entry> {
      for (let page = pages.shift(); page !== undefined; page = pages.shift()) yield* page
    }
    return { revision, entries: entries() }
  }

  async #readPages(): Promise<Pages> {
    if (this.#load !== undefined) throw new Error('the store is being loaded already')
    const pages: Entry[][] = []
    // The worker answers in order, so the snapshot is the state after every write sent before this point.
    this.#flush()
    const load = { entries: pages, wake: () => {}, end: undefined as { revision: number } | { error: Error } | undefined }
    this.#load = load
    this.#send({ type: 'load' })
    while (load.end === undefined) await new Promise<void>(resolve => { load.wake = resolve })
    this.#load = undefined
    if ('error' in load.end) throw load.end.error
    return { pages, revision: load.end.revision }
  }

  put(key: string, value: Uint8Array, expect: Precondition): Promise<number> { return this.#write(key, value, expect) }

  delete(key: string, expect: Precondition): Promise<number> {
    return this.#write(key, undefined, expect ?? { revision: this.#heads.get(key) ?? -1 })
  }

  #write(key: string, value: Uint8Array | undefined, expect: Precondition): Promise<number> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken)
    const head = this.#heads.get(key) ?? 0
    if (expect !== undefined && ('exists' in expect ? head !== 0 : head !== expect.revision)) {
      return Promise.reject(new PreconditionFailed(key, head))
    }
    const revision = ++this.#lastRevision
    if (value === undefined) this.#heads.delete(key)
    else this.#heads.set(key, revision)
    this.#firstLoad = undefined
    return new Promise((resolve, reject) => {
      const w = { number: ++this.#lastNumber, key, revision, previousRevision: head, value, resolve, reject }
      this.#pending.push(w)
      this.#unsent.push(w)
      if (!this.#flushScheduled) {
        this.#flushScheduled = true
        setImmediate(() => this.#flush())
      }
    })
  }

  #send(m: ToWorker, transfer: ArrayBuffer[] = []): void { this.#worker.postMessage(m, transfer) }

  #flush(): void {
    this.#flushScheduled = false
    const writes = this.#unsent
    if (writes.length === 0) return
    this.#unsent = []
    let size = 0
    for (const w of writes) size += w.value?.length ?? 0
    const data = new Uint8Array(size)
    const m: CommitMessage = {
      type: 'commit', through: writes.at(-1)!.number, epoch: this.#epoch, keys: [], revisions: [], lengths: [], data: data.buffer,
    }
    let offset = 0
    for (const w of writes) {
      m.keys.push(w.key)
      m.revisions.push(w.revision)
      m.lengths.push(w.value?.length ?? -1)
      if (w.value !== undefined) {
        data.set(w.value, offset)
        offset += w.value.length
      }
    }
    this.#send(m, [data.buffer])
  }

  #onMessage(m: FromWorker): void {
    switch (m.type) {
      case 'committed': return this.#onCommitted(m.through, m.deleted)
      case 'failed':
        this.#failure = m.message
        if (m.epoch === this.#epoch) this.#fail(new Error(`the store could not write: ${m.message}`))
        return
      case 'page':
        this.#load?.entries.push(m.keys.map((key, i) => ({ key, revision: m.revisions[i]!, value: m.values[i]! })))
        return
      case 'loaded':
      case 'failed-load':
        if (this.#load === undefined) return
        this.#load.end = m.type === 'loaded' ? { revision: m.revision } : { error: new Error(`cannot read the store: ${m.message}`) }
        return this.#load.wake()
      case 'closed': return this.#closed?.()
    }
  }

  #onCommitted(through: number, deleted: Uint8Array[]): void {
    this.#failure = undefined
    const count = through - this.#pending[0]!.number + 1
    const writes = this.#pending.splice(0, count)
    let d = 0
    const changes = writes.map((w): Change => ({
      type: w.value === undefined ? 'DELETE' : 'PUT', key: w.key, revision: w.revision, previousRevision: w.previousRevision,
      value: w.value ?? deleted[d++]!,
    }))
    this.#durableRevision = writes.at(-1)!.revision
    this.#log.push(...changes)
    if (this.#log.length > 2 * LOG_MAX) this.#trimLog(this.#log.length - LOG_MAX)
    for (const s of this.#subscribers) s(changes)
    for (const w of writes) w.resolve(w.revision)
  }

  #trimLog(count: number): void {
    if (count > 0) this.#logFloor = this.#log.splice(0, count).at(-1)!.revision
  }

  /** Rejects every write that is not durable: later ones were checked against heads that no longer hold. */
  #fail(e: Error): void {
    this.#epoch++
    this.#unsent = []
    const writes = this.#pending
    this.#pending = []
    for (let i = writes.length - 1; i >= 0; i--) {
      const w = writes[i]!
      if (w.previousRevision === 0) this.#heads.delete(w.key)
      else this.#heads.set(w.key, w.previousRevision)
    }
    for (const w of writes) w.reject(e)
  }

  #onDeath(cause: Error): void {
    if (this.#broken !== undefined) return
    this.#broken = new Error(this.#closed === undefined ? `the store is lost: ${cause.message}` : 'the store is closed')
    this.#fail(this.#broken)
    if (this.#load !== undefined) {
      this.#load.end ??= { error: this.#broken }
      this.#load.wake()
    }
    if (this.#closed === undefined) this.#onLost(this.#broken)
    else this.#closed()
  }

  failing(): string | undefined { return this.#broken?.message ?? this.#failure }

  subscribe(revision: number, onChanges: (changes: Change[]) => void, onBroken: (e: Error) => void): () => void {
    if (revision < this.#logFloor) {
      const timer = setImmediate(() => onBroken(new Error(`changes after revision ${revision} are no longer kept`)))
      return () => clearImmediate(timer)
    }
    const missed = this.#log.filter(c => c.revision > revision)
    if (missed.length > 0) onChanges(missed)
    this.#subscribers.add(onChanges)
    return () => { this.#subscribers.delete(onChanges) }
  }

  async compact(revision: number): Promise<void> {
    const keep = this.#log.findIndex(c => c.revision > revision)
    this.#trimLog(keep === -1 ? this.#log.length : keep)
  }

  async lease(): Promise<boolean> { return true }

  /** Finishes what was asked for, then closes the file. */
  async close(): Promise<void> {
    if (this.#broken !== undefined) return
    this.#flush()
    const closed = new Promise<void>(resolve => { this.#closed = resolve })
    this.#send({ type: 'close' })
    await closed
    this.#broken = new Error('the store is closed')
    await this.#worker.terminate()
  }
}
