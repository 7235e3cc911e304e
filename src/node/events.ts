/**
 * Events to the API: sent in the background, repeats counted on the one object. The queue is bounded: when the server is
 * away for long, the oldest wait in vain.
 */
import { randomBytes } from 'node:crypto'
import type { Client } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import { events } from '../core/kinds.ts'
import type { Event, ObjectReference } from '../core/types/index.ts'
import { time } from './time.ts'

const MAX_QUEUED = 1000
const MAX_KNOWN = 2048
/** Status writes of a burst go first, and repeats within this time are one write. */
const SEND_DELAY_MS = 100
const RETRY_DELAY_MS = 5000
const PARALLEL = 4

interface Known { name: string; namespace: string; count: number; created: boolean }
interface Queued { event: Event; key: string }

export class EventRecorder {
  readonly #client: Client
  readonly #nodeName: string
  readonly #component: string
  /** By what makes an event a repeat; oldest first. */
  readonly #known = new Map<string, Known>()
  readonly #queue = new Map<string, Queued>()
  #timer: NodeJS.Timeout | undefined
  #sending = false
  #closed = false

  constructor(client: Client, nodeName: string, component = 'gantry-agent') {
    this.#client = client
    this.#nodeName = nodeName
    this.#component = component
  }

  record(about: ObjectReference, type: 'Normal' | 'Warning', reason: string, message: string): void {
    if (this.#closed) return
    const nowMs = Date.now()
    const key = `${about.uid}|${about.fieldPath ?? ''}|${type}|${reason}|${message}`
    const queued = this.#queue.get(key)
    let known = this.#known.get(key)
    this.#known.delete(key)
    known ??= {
      name: `${about.name}.${nowMs.toString(16)}${randomBytes(3).toString('hex')}`, namespace: about.namespace ?? 'default',
      count: 0, created: false,
    }
    known.count++
    this.#known.set(key, known)
    if (this.#known.size > MAX_KNOWN) this.#known.delete(this.#known.keys().next().value!)
    const event: Event = {
      apiVersion: 'v1', kind: 'Event', metadata: { name: known.name, namespace: known.namespace },
      involvedObject: about, reason, message: message.slice(0, 1024), type, count: known.count,
      source: { component: this.#component, host: this.#nodeName },
      firstTimestamp: queued?.event.firstTimestamp ?? time(nowMs), lastTimestamp: time(nowMs),
      reportingComponent: this.#component, reportingInstance: this.#nodeName,
    }
    this.#queue.set(key, { event, key })
    if (this.#queue.size > MAX_QUEUED) this.#queue.delete(this.#queue.keys().next().value!)
    this.#schedule(SEND_DELAY_MS)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#queue.clear()
  }

  #schedule(delayMs: number): void {
    if (this.#sending || this.#closed) return
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.#send()
    }, delayMs)
  }

  async #send(): Promise<void> {
    this.#sending = true
    let failed = false
    const worker = async (): Promise<void> => {
      for (;;) {
        const next = this.#queue.entries().next().value
        if (next === undefined || failed || this.#closed) return
        this.#queue.delete(next[0])
        if (!await this.#sendOne(next[1])) {
          if (!this.#queue.has(next[0])) this.#queue.set(...next)
          failed = true
        }
      }
    }
    await Promise.all(Array.from({ length: PARALLEL }, worker))
    this.#sending = false
    if (this.#queue.size > 0) this.#schedule(failed ? RETRY_DELAY_MS : 0)
  }

  /** False: to be tried again later. */
  async #sendOne({ event, key }: Queued): Promise<boolean> {
    const known = this.#known.get(key)
    try {
      if (known?.created === true) {
        const body = { count: event.count, lastTimestamp: event.lastTimestamp, message: event.message }
        try {
          await this.#client.patch(events, event.metadata, 'merge', body)
          return true
        } catch (e) {
          if (!isReason(e, 'NotFound')) throw e
        }
      }
      await this.#client.create(events, event)
      if (known !== undefined) known.created = true
      return true
    } catch (e) {
      // Only an absent server is worth another try; a refusal (a namespace that is going away …) is final.
      return !(isReason(e, 'ServiceUnavailable') || isReason(e, 'Timeout') || isReason(e, 'TooManyRequests'))
    }
  }
}
