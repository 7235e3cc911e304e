/**
 * Writes that the shared cache does not show yet, by the key of the work they belong to. A loop that decides from its cache
 * waits until its own last writes have arrived there, else it would do them twice.
 */
import { keyOf, type Informer } from '../core/client.ts'
import type { ApiObject } from '../core/types/index.ts'

/** A revision may be overtaken by another writer's before it is seen; then waiting ends here. */
const TIMEOUT_MS = 5_000

export class PendingWrites<T extends ApiObject> {
  readonly #informer: Informer<T>
  readonly #now: () => number
  readonly #pending = new Map<string, Map<string, { revision: string; atMs: number }>>()

  constructor(informer: Informer<T>, now: () => number) {
    this.#informer = informer
    this.#now = now
  }

  wrote(work: string, object: T): void {
    const key = keyOf(object)
    if (this.#informer.get(key)?.metadata.resourceVersion === object.metadata.resourceVersion) return
    let pending = this.#pending.get(work)
    if (pending === undefined) this.#pending.set(work, pending = new Map())
    pending.set(key, { revision: object.metadata.resourceVersion ?? '', atMs: this.#now() })
  }

  /** Milliseconds to wait at most before looking again; 0: the cache is up to date with what was written. */
  waitMs(work: string): number {
    const pending = this.#pending.get(work)
    if (pending === undefined) return 0
    let wait = 0
    for (const [key, { revision, atMs }] of pending) {
      const left = atMs + TIMEOUT_MS - this.#now()
      if (left <= 0 || this.#informer.get(key)?.metadata.resourceVersion === revision) pending.delete(key)
      else wait = Math.max(wait, left)
    }
    if (pending.size === 0) this.#pending.delete(work)
    return wait
  }

  forget(work: string): void { this.#pending.delete(work) }
}
