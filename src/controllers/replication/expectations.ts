/**
 * What a controller has written and its cache has not shown yet. Until all of it is seen the controller must not count Pods:
 * it would create or delete them twice.
 */

/** News that never comes (a Pod created and gone between two relists) holds a controller up no longer than this. */
const TIMEOUT_MS = 30_000

interface Expected { creates: number; deletes: Set<string>; sinceMs: number }

export class Expectations {
  readonly #expected = new Map<string, Expected>()
  readonly #now: () => number

  constructor(now: () => number) { this.#now = now }

  /** Milliseconds to wait at most; 0: everything has been seen. */
  pendingMs(owner: string): number {
    const e = this.#expected.get(owner)
    if (e === undefined || e.creates <= 0 && e.deletes.size === 0) return 0
    return Math.max(0, e.sinceMs + TIMEOUT_MS - this.#now())
  }

  expectCreates(owner: string, n: number): void { this.#fresh(owner).creates += n }
  expectDelete(owner: string, uid: string): void { this.#fresh(owner).deletes.add(uid) }

  /** A Pod of this owner appeared, or its creation failed. */
  created(owner: string): void {
    const e = this.#expected.get(owner)
    if (e !== undefined && e.creates > 0) e.creates--
  }

  /** A Pod is gone or marked for deletion, or its deletion failed. */
  deleted(owner: string, uid: string): void { this.#expected.get(owner)?.deletes.delete(uid) }

  forget(owner: string): void { this.#expected.delete(owner) }

  #fresh(owner: string): Expected {
    let e = this.#expected.get(owner)
    if (e === undefined || this.pendingMs(owner) === 0) this.#expected.set(owner, e = { creates: 0, deletes: new Set(), sinceMs: this.#now() })
    return e
  }
}
