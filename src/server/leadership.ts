/** Controllers and the scheduler run on one server at a time: the one that holds the store's lease. */
import type { Logger } from '../core/log.ts'
import type { Store } from '../store/store.ts'

const TTL_MS = 10_000
const RENEW_MS = 3000

export class Leadership {
  readonly #store: Store
  readonly #name: string
  readonly #holder: string
  readonly #log: Logger
  /** Starts what only the leader runs; resolves with a function that stops it. */
  readonly #lead: () => Promise<() => Promise<void>>
  #timer: NodeJS.Timeout | undefined
  #stopLeading: (() => Promise<void>) | undefined
  /** Until when the lease surely is ours. */
  #validUntilMs = 0
  #turn: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(store: Store, name: string, holder: string, log: Logger, lead: () => Promise<() => Promise<void>>) {
    this.#store = store
    this.#name = name
    this.#holder = holder
    this.#log = log
    this.#lead = lead
  }

  start(): void { this.#next(0) }

  #next(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#turn = this.#run().finally(() => { if (!this.#stopped) this.#next(RENEW_MS) })
    }, delayMs)
    this.#timer.unref()
  }

  async #run(): Promise<void> {
    const askedMs = performance.now()
    let held = false
    try {
      held = await this.#store.lease(this.#name, this.#holder, TTL_MS)
    } catch (e) {
      // The lease is ours until it runs out: a hiccup of the store stops nothing.
      this.#log.warn('the leader lease could not be renewed', { error: String(e) })
      held = this.#stopLeading !== undefined && askedMs + RENEW_MS < this.#validUntilMs
      if (!held) return this.#step(false)
      return
    }
    if (held) this.#validUntilMs = askedMs + TTL_MS
    await this.#step(held)
  }

  async #step(held: boolean): Promise<void> {
    if (this.#stopped) return
    if (held && this.#stopLeading === undefined) {
      this.#log.info('leading', { holder: this.#holder })
      try {
        this.#stopLeading = await this.#lead()
      } catch (e) {
        this.#log.error('controllers could not start', { error: e instanceof Error ? e.stack ?? e.message : String(e) })
      }
    } else if (!held && this.#stopLeading !== undefined) {
      this.#log.warn('no longer leading')
      const stop = this.#stopLeading
      this.#stopLeading = undefined
      await stop()
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#turn
    await this.#stopLeading?.()
    this.#stopLeading = undefined
  }
}
