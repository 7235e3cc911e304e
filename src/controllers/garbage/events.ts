/** Events live for an hour after they were last seen. */
import { Controller, watch } from '../../core/controller.ts'
import { keyOf, parseKey } from '../../core/client.ts'
import { events } from '../../core/kinds.ts'
import type { Event } from '../../core/types/index.ts'
import { errorLog, type Context, type Running } from '../context.ts'

const LIFE_MS = 3_600_000

export class EventCollector implements Running {
  readonly #context: Context
  readonly #controller: Controller

  constructor(context: Context) {
    this.#context = context
    this.#controller = new Controller({
      name: 'event-collector',
      sources: [watch(context.informers.of(events), (e, _, type) => type === 'ADDED' ? [keyOf(e)] : [])],
      reconcile: (key) => this.#reconcile(key),
      workers: 2,
      onError: errorLog(context.logger, 'event-collector'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  async #reconcile(key: string): Promise<void> {
    const event = this.#context.informers.of(events).get(key)
    if (event === undefined) return
    const leftMs = lastSeenMs(event) + LIFE_MS - this.#context.clock.now()
    if (leftMs > 0) return this.#controller.enqueueAfter(key, leftMs)
    await this.#context.client.delete(events, parseKey(key), { preconditions: { uid: event.metadata.uid! } })
  }
}

function lastSeenMs(e: Event): number {
  return Date.parse(e.lastTimestamp ?? '') || Date.parse(e.eventTime ?? '') || Date.parse(e.metadata.creationTimestamp ?? '') || 0
}
