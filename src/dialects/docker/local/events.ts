/** The stream of events: a ring of what was, and who listens to what comes. The ring is kept on disk, so that it outlives this process. */
import { appendFile, readFile } from 'node:fs/promises'
import { replaceFile } from '../../../files/replace.ts'
import type { EventsBackend } from '../backend.ts'
import type { EventMessage, StringMap } from '../model.ts'
import { eventFilter } from '../shared/filters.ts'
import { nowMs } from '../shared/time.ts'
import type { EventSink } from './parts.ts'

const RING = 1024
/** A listener that has this many unread is passed over until it has read. */
const MAX_UNREAD = 4096
const FLUSH_MS = 200

export class Events implements EventSink, EventsBackend {
  readonly #path: string
  #ring: EventMessage[] = []
  readonly #listeners = new Set<(e: EventMessage) => void>()
  #unwritten: string[] = []
  #linesOnDisk = 0
  #flushing: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined
  #lastNano = 0n

  constructor(path: string) { this.#path = path }

  /** Reads what the last process left. */
  async open(): Promise<void> {
    const text = await readFile(this.#path, 'utf8').catch(() => '')
    const lines = text.split('\n').slice(0, -1)
    this.#linesOnDisk = lines.length
    for (const line of lines.slice(-RING)) {
      try {
        this.#ring.push(JSON.parse(line) as EventMessage)
      } catch { /* a line that a crash cut off */ }
    }
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    this.#flush()
    await this.#flushing
  }

  emit(type: EventMessage['Type'], action: string, id: string, attributes: StringMap = {}): void {
    const nano = this.#stamp()
    const e: EventMessage = {
      ...(type === 'container' ? { status: action, id, from: attributes['image'] ?? '' } : type === 'image' ? { status: action, id } : {}),
      Type: type, Action: action, Actor: { ID: id, Attributes: attributes }, scope: 'local', time: Number(nano / 1_000_000_000n), timeNano: Number(nano),
    }
    this.#ring.push(e)
    if (this.#ring.length > RING * 2) this.#ring = this.#ring.slice(-RING)
    for (const listener of this.#listeners) listener(e)
    this.#unwritten.push(JSON.stringify(e))
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#flush()
    }, FLUSH_MS).unref()
  }

  /** Grows, so that the order of events is the order of their times, also after they became JSON numbers. */
  #stamp(): bigint {
    const now = BigInt(Math.floor(nowMs() * 1000)) * 1000n
    // A JSON number of this size tells 256 ns apart.
    this.#lastNano = now > this.#lastNano + 512n ? now : this.#lastNano + 512n
    return this.#lastNano
  }

  #flush(): void {
    if (this.#unwritten.length === 0) return
    const lines = this.#unwritten
    this.#unwritten = []
    this.#flushing = this.#flushing.then(async () => {
      this.#linesOnDisk += lines.length
      if (this.#linesOnDisk > RING * 4) {
        const kept = this.#ring.slice(-RING)
        this.#linesOnDisk = kept.length
        await replaceFile(this.#path, kept.map((e) => `${JSON.stringify(e)}\n`).join(''))
      } else {
        await appendFile(this.#path, `${lines.join('\n')}\n`, { mode: 0o600 })
      }
    }).catch(() => { /* a full disk costs the past of events, not the present */ })
  }

  async* subscribe(
    options: { sinceNs?: bigint; untilNs?: bigint; filters: Parameters<EventsBackend['subscribe']>[0]['filters'] }, signal: AbortSignal,
  ): AsyncGenerator<EventMessage> {
    const wanted = eventFilter(options.filters)
    const { sinceNs, untilNs } = options
    const unread: EventMessage[] = []
    let wake = Promise.withResolvers<void>()
    const listener = (e: EventMessage): void => {
      if (unread.length >= MAX_UNREAD || !wanted(e)) return
      unread.push(e)
      wake.resolve()
    }
    if (sinceNs !== undefined || untilNs !== undefined) {
      for (const e of this.#ring) {
        const at = BigInt(e.timeNano)
        if ((sinceNs === undefined || at >= sinceNs) && (untilNs === undefined || at <= untilNs) && wanted(e)) unread.push(e)
      }
    }
    const stop = (): void => { wake.resolve() }
    let timer: NodeJS.Timeout | undefined
    const over = (): boolean => signal.aborted || (untilNs !== undefined && BigInt(Math.floor(nowMs() * 1000)) * 1000n >= untilNs)
    if (untilNs !== undefined && !over()) {
      const leftMs = Number(untilNs / 1_000_000n) - Date.now() + 1
      if (leftMs < 2 ** 31) timer = setTimeout(stop, Math.max(1, leftMs))
    }
    signal.addEventListener('abort', stop, { once: true })
    this.#listeners.add(listener)
    try {
      for (;;) {
        wake = Promise.withResolvers()
        for (let e = unread.shift(); e !== undefined; e = unread.shift()) {
          if (untilNs !== undefined && BigInt(e.timeNano) > untilNs) return
          yield e
        }
        if (over()) return
        await wake.promise
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      this.#listeners.delete(listener)
    }
  }
}
