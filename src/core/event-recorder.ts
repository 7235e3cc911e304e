/**
 * Writes Event objects in the background: never in the way of the work they tell of, one object for repeated news, and
 * nothing lost but what a stopped process still had in hand.
 */
import { keyOf } from './client.ts'
import type { Client } from './client.ts'
import { isReason } from './errors.ts'
import { events } from './kinds.ts'
import type { ApiObject, Event } from './types/index.ts'
import { systemClock } from './workqueue.ts'
import type { Clock } from './workqueue.ts'

/** Writes at a time; more would compete with the writes that matter. */
const IN_FLIGHT = 4
/** News that repeats is counted on the same Event for this long. */
const REPEAT_MS = 10 * 60_000
/** Subjects remembered for counting. */
const REMEMBERED = 4_096
/** Events that wait at most; with an API that is out of reach the oldest are dropped. */
const WAITING = 20_000
/** A moment's delay, so that a burst of work is done before its news is written. */
const DELAY_MS = 50

interface Pending { event: Event; written: boolean; lastMs: number }

export class EventRecorder {
  readonly #client: Client
  readonly #component: string
  readonly #clock: Clock
  readonly #known = new Map<string, Pending>()
  readonly #queue = new Set<Pending>()
  #inFlight = 0
  #timer: unknown
  #serial = 0
  #stopped = false

  /** `component` is the Event's source, e.g. `default-scheduler`. */
  constructor(client: Client, component: string, clock: Clock = systemClock) {
    this.#client = client
    this.#component = component
    this.#clock = clock
  }

  record(about: ApiObject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    if (this.#stopped) return
    const id = `${about.metadata.uid ?? keyOf(about)} ${type} ${reason} ${message}`
    const now = this.#clock.now()
    let p = this.#known.get(id)
    if (p !== undefined && now - p.lastMs < REPEAT_MS) {
      p.lastMs = now
      p.event = { ...p.event, count: (p.event.count ?? 1) + 1, lastTimestamp: timeOf(now) }
    } else {
      p = { event: this.#make(about, type, reason, message, now), written: false, lastMs: now }
    }
    this.#known.delete(id)
    this.#known.set(id, p)
    if (this.#known.size > REMEMBERED) this.#known.delete(this.#known.keys().next().value!)
    this.#queue.add(p)
    if (this.#queue.size > WAITING) this.#queue.delete(this.#queue.values().next().value!)
    this.#timer ??= this.#clock.setTimeout(() => {
      this.#timer = undefined
      this.#pump()
    }, DELAY_MS)
  }

  stop(): void {
    this.#stopped = true
    this.#queue.clear()
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer)
  }

  #pump(): void {
    for (const p of this.#queue) {
      if (this.#inFlight >= IN_FLIGHT) return
      this.#queue.delete(p)
      this.#inFlight++
      // An Event that cannot be written (its namespace is going, the API is away) is not worth an error to anybody.
      void this.#write(p).catch(() => {}).finally(() => {
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

  #make(about: ApiObject, type: 'Normal' | 'Warning', reason: string, message: string, nowMs: number): Event {
    const { name, uid, resourceVersion } = about.metadata
    const namespace = about.metadata.namespace ?? 'default'
    const now = timeOf(nowMs)
    return {
      apiVersion: 'v1', kind: 'Event',
      metadata: { name: `${name.slice(0, 220)}.${nowMs.toString(16)}${(this.#serial++ & 0xffff).toString(16).padStart(4, '0')}`, namespace },
      involvedObject: {
        apiVersion: about.apiVersion, kind: about.kind, name,
        ...(about.metadata.namespace !== undefined && { namespace }), ...(uid !== undefined && { uid }),
        ...(resourceVersion !== undefined && { resourceVersion }),
      },
      reason, message, type, count: 1, firstTimestamp: now, lastTimestamp: now,
      source: { component: this.#component }, reportingComponent: this.#component, reportingInstance: '',
    }
  }
}

/** RFC 3339 with whole seconds. */
export function timeOf(ms: number): string { return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z') }
