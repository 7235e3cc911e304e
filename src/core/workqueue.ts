/**
 * The queue between informers and a reconcile loop: a key waits at most once, is never worked on twice at a time, and a
 * failed one comes back after a growing delay.
 */

/** The process's timers and clock, or a test's. Times are milliseconds. */
export interface Clock {
  now(): number
  setTimeout(f: () => void, ms: number): unknown
  clearTimeout(handle: unknown): void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (f, ms) => setTimeout(f, ms),
  clearTimeout: handle => clearTimeout(handle as NodeJS.Timeout),
}

export interface WorkQueueOptions {
  /** Delay before the first retry of a key. Default 5. */
  baseDelayMs?: number
  /** Longest delay between retries. Default 60 000. */
  maxDelayMs?: number
  clock?: Clock
}

interface Waiting { atMs: number; timer: unknown }

export class WorkQueue {
  readonly #baseDelayMs: number
  readonly #maxDelayMs: number
  readonly #clock: Clock
  /** In order of arrival; a Set, so that a key waits once. */
  readonly #queue = new Set<string>()
  readonly #working = new Set<string>()
  /** Keys added while being worked on: they go back when done. */
  readonly #again = new Set<string>()
  readonly #waiting = new Map<string, Waiting>()
  readonly #failures = new Map<string, number>()
  readonly #getters: ((key: string | undefined) => void)[] = []
  #shut = false

  constructor({ baseDelayMs = 5, maxDelayMs = 60_000, clock = systemClock }: WorkQueueOptions = {}) {
    this.#baseDelayMs = baseDelayMs
    this.#maxDelayMs = maxDelayMs
    this.#clock = clock
  }

  /** Keys ready to be taken. */
  get length(): number { return this.#queue.size }

  add(key: string): void {
    if (this.#shut) return
    if (this.#working.has(key)) {
      this.#again.add(key)
      return
    }
    const getter = this.#queue.size === 0 ? this.#getters.shift() : undefined
    if (getter) {
      this.#working.add(key)
      getter(key)
    } else this.#queue.add(key)
  }

  /** Adds `key` after `delayMs`; of several delays for one key the earliest counts. */
  addAfter(key: string, delayMs: number): void {
    if (this.#shut) return
    if (delayMs <= 0) {
      this.add(key)
      return
    }
    const atMs = this.#clock.now() + delayMs
    const waiting = this.#waiting.get(key)
    if (waiting) {
      if (waiting.atMs <= atMs) return
      this.#clock.clearTimeout(waiting.timer)
    }
    const timer = this.#clock.setTimeout(() => {
      this.#waiting.delete(key)
      this.add(key)
    }, Math.min(delayMs, 0x7fffffff))
    this.#waiting.set(key, { atMs, timer })
  }

  /** Adds a failed key after baseDelay · 2ⁿ, n being how often it has failed since {@link forget}. */
  addRateLimited(key: string): void {
    const failures = this.#failures.get(key) ?? 0
    this.#failures.set(key, failures + 1)
    this.addAfter(key, Math.min(this.#baseDelayMs * 2 ** Math.min(failures, 40), this.#maxDelayMs))
  }

  /** Ends a key's back-off: it has succeeded. */
  forget(key: string): void { this.#failures.delete(key) }

  /** The next key, to be given back with {@link done}; undefined once the queue is shut. */
  get(): Promise<string | undefined> {
    if (this.#shut) return Promise.resolve(undefined)
    for (const key of this.#queue) {
      this.#queue.delete(key)
      this.#working.add(key)
      return Promise.resolve(key)
    }
    return new Promise(resolve => { this.#getters.push(resolve) })
  }

  done(key: string): void {
    this.#working.delete(key)
    if (this.#again.delete(key)) this.add(key)
  }

  /** Drops what waits and lets every {@link get} end. */
  shutDown(): void {
    this.#shut = true
    for (const { timer } of this.#waiting.values()) this.#clock.clearTimeout(timer)
    this.#waiting.clear()
    this.#queue.clear()
    this.#again.clear()
    for (const getter of this.#getters.splice(0)) getter(undefined)
  }
}
