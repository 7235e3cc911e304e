/** A level-triggered loop: informers put keys on a queue, workers make each key's desired state true. */
import { keyOf } from './client.ts'
import type { Informer, WatchEventType } from './client.ts'
import type { ApiObject } from './types/index.ts'
import { WorkQueue } from './workqueue.ts'
import type { Clock } from './workqueue.ts'

/** What of an informer leads to which keys. Made by {@link watch}. */
export interface Source {
  readonly synced: Promise<void>
  start(enqueue: (key: string) => void): () => void
}

/**
 * Enqueues `keys(object, old, type)` for each change; by default the object's own key. Of a change from one owner to
 * another both must be returned, hence `old`.
 */
export function watch<T extends ApiObject>(
  informer: Informer<T>,
  keys: (object: T, old: T | undefined, type: WatchEventType) => Iterable<string> = object => [keyOf(object)],
): Source {
  return {
    synced: informer.synced,
    start: enqueue => informer.on((type, object, old) => {
      for (const key of keys(object, old, type)) enqueue(key)
    }),
  }
}

export interface ControllerOptions {
  name: string
  sources: Source[]
  /** Makes one key's state true. A rejection is logged and retried with back-off. Never called twice at a time for a key. */
  reconcile(key: string): Promise<void>
  /** How many keys are worked on at a time. Default 1. */
  workers?: number
  /** Longest delay between retries of a failing key. Default 60 000. */
  maxDelayMs?: number
  /** Told of each failed attempt. */
  onError(error: unknown, key: string): void
  clock?: Clock
}

export class Controller {
  readonly #options: ControllerOptions
  readonly #queue: WorkQueue
  #unsubscribe: (() => void)[] = []
  #workers: Promise<void>[] = []
  #stopped = false

  constructor(options: ControllerOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      ...(options.clock && { clock: options.clock }), ...(options.maxDelayMs !== undefined && { maxDelayMs: options.maxDelayMs }),
    })
  }

  /** Subscribes at once and works from the moment every source has its first list. Resolves then. */
  async start(): Promise<void> {
    this.#unsubscribe = this.#options.sources.map(source => source.start(key => this.#queue.add(key)))
    await Promise.all(this.#options.sources.map(source => source.synced))
    if (this.#stopped) return
    this.#workers = Array.from({ length: this.#options.workers ?? 1 }, () => this.#work())
  }

  enqueue(key: string): void { this.#queue.add(key) }
  /** For what no event will tell: a deadline, an expiry. */
  enqueueAfter(key: string, delayMs: number): void { this.#queue.addAfter(key, delayMs) }

  /** Takes no further key; resolves when the attempts under way have ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const off of this.#unsubscribe.splice(0)) off()
    this.#queue.shutDown()
    await Promise.all(this.#workers)
  }

  async #work(): Promise<void> {
    for (;;) {
      const key = await this.#queue.get()
      if (key === undefined) return
      try {
        await this.#options.reconcile(key)
        this.#queue.forget(key)
      } catch (error) {
        if (!this.#stopped) {
          this.#options.onError(error, key)
          this.#queue.addRateLimited(key)
        }
      } finally {
        this.#queue.done(key)
      }
    }
  }
}
