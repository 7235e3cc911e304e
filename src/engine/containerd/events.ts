/**
 * A subscription that survives restarts of containerd. containerd neither numbers nor replays events, so after each
 * (re)connection the user must compare with the truth: `onConnected` is called for that, when events are already flowing.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Any, CallOptions, Envelope } from './types.ts'

export interface WatchOptions {
  /** Topics to hear, e.g. `/tasks/exit`; all when empty. */
  topics: string[]
  onEvent(e: Envelope): void
  /** Events from now on are seen: list and reconcile. Its rejection makes the watch connect again. */
  onConnected(): Promise<void>
  onDisconnected?(e: Error): void
}

export interface EventWatch {
  /** Resolves after the first successful `onConnected`. */
  readonly first: Promise<void>
  close(): void
}

interface Source {
  subscribe(filters: string[], o?: CallOptions): AsyncGenerator<Envelope>
  publish(topic: string, event: Any, o?: CallOptions): Promise<void>
  ready(timeoutMs: number): Promise<void>
}

const RETRY_MS = 100
const MARKER = '/gantry/subscribed'

export function watchEvents(source: Source, namespace: string, w: WatchOptions): EventWatch {
  const abort = new AbortController()
  const { promise: first, resolve: setFirst } = Promise.withResolvers<void>()
  void run()
  return { first, close: () => { abort.abort() } }

  async function run(): Promise<void> {
    while (!abort.signal.aborted) {
      try {
        await source.ready(60_000)
        await once()
      } catch (e) {
        if (abort.signal.aborted) return
        w.onDisconnected?.(e as Error)
        await sleep(RETRY_MS, undefined, { signal: abort.signal }).catch(() => undefined)
      }
    }
  }

  async function once(): Promise<void> {
    const marker = `${MARKER}/${randomBytes(8).toString('hex')}`
    const topics = w.topics.length === 0 ? [''] : [...w.topics, marker].map((t) => `,topic=="${t}"`)
    const filters = topics.map((t) => `namespace==${namespace}${t}`)
    const connection = new AbortController()
    const signal = AbortSignal.any([abort.signal, connection.signal])
    let seen = false
    let failure: Error | undefined
    // A subscription takes effect some time after the call: an event of our own shows when.
    const announce = async (): Promise<void> => {
      const event = { type_url: 'google.protobuf.Empty', value: Buffer.alloc(0) }
      for (let pause = 5; !seen; pause = Math.min(pause * 2, 1000)) {
        await source.publish(marker, event, { signal })
        await sleep(pause, undefined, { signal })
      }
      await w.onConnected()
      setFirst()
    }
    const announced = announce().catch((e: unknown) => {
      failure = e as Error
      connection.abort()
    })
    try {
      for await (const e of source.subscribe(filters, { signal })) {
        if (e.topic === marker) seen = true
        else if (!e.topic.startsWith(MARKER)) w.onEvent(e)
      }
      throw new Error('containerd ended the event stream')
    } catch (e) {
      throw failure ?? e
    } finally {
      connection.abort()
      await announced
    }
  }
}
