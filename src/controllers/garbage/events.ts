/**
 * Events live for an hour after they were last seen. All are looked through once a minute: one timer and a minute's
 * imprecision instead of a timer and an informer's copy for each.
 */
import { keyOf } from '../../core/client.ts'
import { isReason } from '../../core/errors.ts'
import { events } from '../../core/kinds.ts'
import type { Event } from '../../core/types/index.ts'
import { eachLimited, errorLog, type Context, type Running } from '../context.ts'

const LIFE_MS = 3_600_000
const SWEEP_MS = 60_000
/** A storm's end must not take the store from those that write news. */
const PARALLEL = 4

export class EventCollector implements Running {
  readonly #context: Context
  readonly #report: (error: unknown, key: string) => void
  #timer: unknown
  #sweeping: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(context: Context) {
    this.#context = context
    this.#report = errorLog(context.logger, 'event-collector')
  }

  async start(): Promise<void> { this.#schedule() }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#context.clock.clearTimeout(this.#timer)
    await this.#sweeping
  }

  #schedule(): void {
    if (this.#stopped) return
    this.#timer = this.#context.clock.setTimeout(() => {
      this.#sweeping = this.#sweep().catch((e: unknown) => this.#report(e, '')).then(() => this.#schedule())
    }, SWEEP_MS)
  }

  async #sweep(): Promise<void> {
    const before = this.#context.clock.now() - LIFE_MS
    const { items } = await this.#context.client.list(events)
    await eachLimited(items.filter(e => lastSeenMs(e) <= before), PARALLEL, async e => {
      if (this.#stopped) return
      try {
        await this.#context.client.delete(events, e.metadata, { preconditions: { uid: e.metadata.uid! } })
      } catch (error) {
        if (!isReason(error, 'NotFound')) this.#report(error, keyOf(e))
      }
    })
  }
}

function lastSeenMs(e: Event): number {
  return Date.parse(e.lastTimestamp ?? '') || Date.parse(e.eventTime ?? '') || Date.parse(e.metadata.creationTimestamp ?? '') || 0
}
