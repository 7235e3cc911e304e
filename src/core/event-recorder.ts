/**
 * Writes Event objects in the background: never in the way of the work they tell of, one object for repeated news, and
 * nothing lost but what a stopped process still had in hand.
 */
import type { Client } from './client.ts'
import { isReason } from './errors.ts'
import { flat } from './flat.ts'
import { events } from './kinds.ts'
import { formatTime } from './time.ts'
import type { ApiObject, Event, ObjectReference } from './types/index.ts'
import { systemClock } from './workqueue.ts'
import type { Clock } from './workqueue.ts'

/** Writes at a time: they share one commit of the store; more would compete with the writes that matter. */
const IN_FLIGHT = 16
/** News that repeats is counted on the same Event for this long. */
const REPEAT_MS = 10 * 60_000
/** Subjects remembered for counting. */
const REMEMBERED = 4_096
/** Events that wait at most; with an API that is out of reach the oldest are dropped. */
const WAITING = 20_000
/** A moment's delay, so that a burst of work is done before its news is written, and repeats within it are one write. */
const DELAY_MS = 500
/** Between attempts while the API is away. */
const RETRY_MS = 5_000
const MAX_MESSAGE = 1024

interface Pending { event: Event; written: boolean; lastMs: number }

export interface RecorderOptions {
  /** The Event's source, e.g. `default-scheduler`. */
  component: string
  /** The node it runs on, where that matters. */
  host?: string
  clock?: Clock
}

export class EventRecorder {
  readonly #client: Client
  readonly #component: string
  readonly #host: string | undefined
  readonly #clock: Clock
  readonly #known = new Map<string, Pending>()
  readonly #queue = new Set<Pending>()
  #inFlight = 0
  #timer: unknown
  /** The API did not answer: nothing is sent before the timer has run. */
  #away = false
  /** Tells apart the names that two recorders give in the same millisecond. */
  #serial = Math.floor(Math.random() * 0x1000000)
  #stopped = false

  constructor(client: Client, { component, host, clock = systemClock }: RecorderOptions) {
    this.#client = client
    this.#component = component
    this.#host = host
    this.#clock = clock
  }

  /** `about` is the object, or a reference to a part of it (`fieldPath`). Messages are cut at 1024 characters. */
  record(about: ApiObject | ObjectReference, type: 'Normal' | 'Warning', reason: string, message: string): void {
    if (this.#stopped) return
    const subject = 'metadata' in about ? referenceTo(about) : about
    const id = `${subject.uid ?? `${subject.kind} ${subject.namespace ?? ''}/${subject.name}`} ${subject.fieldPath ?? ''} ${type} ${reason} ${message}`
    const now = this.#clock.now()
    let p = this.#known.get(id)
    if (p !== undefined && now - p.lastMs < REPEAT_MS) {
      p.lastMs = now
      p.event = { ...p.event, count: (p.event.count ?? 1) + 1, lastTimestamp: formatTime(now) }
    } else {
      p = { event: this.#make(subject, type, reason, message, now), written: false, lastMs: now }
    }
    this.#known.delete(id)
    this.#known.set(id, p)
    if (this.#known.size > REMEMBERED) this.#known.delete(this.#known.keys().next().value!)
    this.#queue.add(p)
    if (this.#queue.size > WAITING) this.#queue.delete(this.#queue.values().next().value!)
    this.#schedule(DELAY_MS)
  }

  stop(): void {
    this.#stopped = true
    this.#queue.clear()
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer)
  }

  #schedule(delayMs: number): void {
    if (this.#stopped || this.#timer !== undefined) return
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = undefined
      this.#away = false
      this.#pump()
    }, delayMs)
  }

  #pump(): void {
    for (const p of this.#queue) {
      if (this.#inFlight >= IN_FLIGHT || this.#away) return
      this.#queue.delete(p)
      this.#inFlight++
      void this.#write(p).catch((e: unknown) => {
        // A refusal (the namespace is going) is final and worth an error to nobody; an API that is away is worth another try.
        if (!isAway(e) || this.#stopped) return
        this.#queue.add(p)
        this.#away = true
        this.#schedule(RETRY_MS)
      }).then(() => {
        this.#inFlight--
        if (!this.#stopped) this.#pump()
      })
    }
  }

  async #write(p: Pending): Promise<void> {
    const key = { namespace: p.event.metadata.namespace, name: p.event.metadata.name }
    if (p.written) {
      const { count, lastTimestamp } = p.event
      try {
        await this.#client.patch(events, key, 'merge', { count, lastTimestamp })
        return
      } catch (e) {
        if (!isReason(e, 'NotFound')) throw e
      }
    }
    await this.#client.create(events, p.event)
    p.written = true
  }

  #make(about: ObjectReference, type: 'Normal' | 'Warning', reason: string, message: string, nowMs: number): Event {
    const now = formatTime(nowMs)
    const serial = (this.#serial++ & 0xffffff).toString(16).padStart(6, '0')
    return {
      apiVersion: 'v1', kind: 'Event',
      metadata: { name: flat(`${(about.name ?? '').slice(0, 220)}.${nowMs.toString(16)}${serial}`), namespace: about.namespace ?? 'default' },
      involvedObject: about,
      reason, message: flat(message.slice(0, MAX_MESSAGE)), type, count: 1, firstTimestamp: now, lastTimestamp: now,
      source: { component: this.#component, ...(this.#host !== undefined && { host: this.#host }) },
      reportingComponent: this.#component, reportingInstance: this.#host ?? '',
    }
  }
}

function isAway(e: unknown): boolean {
  return isReason(e, 'ServiceUnavailable') || isReason(e, 'Timeout') || isReason(e, 'TooManyRequests')
}

function referenceTo({ apiVersion, kind, metadata: { name, namespace, uid, resourceVersion } }: ApiObject): ObjectReference {
  return {
    apiVersion, kind, name, ...(namespace !== undefined && { namespace }), ...(uid !== undefined && { uid }),
    ...(resourceVersion !== undefined && { resourceVersion }),
  }
}
