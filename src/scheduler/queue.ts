/**
 * Pods that wait for a node: active (by priority, then age), backing off (by time), and unschedulable (until something happens
 * that may help). Times are milliseconds on the caller's clock.
 */
import type { Pod } from '../core/types/index.ts'
import { Heap } from './heap.ts'
import { dependsOnPods } from './placer.ts'
import type { PodClass } from './pod-class.ts'

const FIRST_BACKOFF_MS = 1_000
const MAX_BACKOFF_MS = 10_000
/** Unschedulable Pods are tried again after this long even if no event said so. */
const UNSCHEDULABLE_MS = 60_000

export interface Waiting {
  uid: string
  pod: Pod
  cls: PodClass
  /** Order of arrival. */
  seq: number
  failures: number
  retryAtMs: number
  /** Why it last did not fit, as reported to its status and event. */
  reported: string | undefined
  /** The node where its victims are leaving. */
  nominated: string | undefined
  place: 'active' | 'backoff' | 'unschedulable' | 'popped'
}

export class SchedulingQueue {
  readonly #waiting = new Map<string, Waiting>()
  readonly #active = new Heap<Waiting>((a, b) => b.cls.priority - a.cls.priority || a.seq - b.seq)
  readonly #backoff = new Heap<Waiting>((a, b) => a.retryAtMs - b.retryAtMs)
  readonly #unschedulable = new Set<Waiting>()
  readonly #watchdog = new Heap<{ w: Waiting; parking: number; atMs: number }>((a, b) => a.atMs - b.atMs)
  #seq = 0

  get size(): number { return this.#waiting.size }
  get(uid: string): Waiting | undefined { return this.#waiting.get(uid) }

  add(pod: Pod, cls: PodClass): Waiting {
    const w: Waiting = {
      uid: pod.metadata.uid!, pod, cls, seq: this.#seq++, failures: 0, retryAtMs: 0, reported: undefined, nominated: undefined,
      place: 'active',
    }
    this.#waiting.set(w.uid, w)
    this.#active.push(w)
    return w
  }

  /** The Pod is bound or gone. Heaps drop their entries when these come up. */
  remove(uid: string): Waiting | undefined {
    const w = this.#waiting.get(uid)
    if (w === undefined) return undefined
    this.#waiting.delete(uid)
    this.#unschedulable.delete(w)
    return w
  }

  /** The next Pod to place, or undefined. The caller ends with {@link remove}, {@link retry} or {@link park}. */
  pop(nowMs: number): Waiting | undefined {
    for (let b = this.#backoff.peek(); b !== undefined && b.retryAtMs <= nowMs; b = this.#backoff.peek()) {
      this.#backoff.pop()
      if (b.place === 'backoff' && this.#waiting.get(b.uid) === b) this.#activate(b)
    }
    for (let d = this.#watchdog.peek(); d !== undefined && d.atMs <= nowMs; d = this.#watchdog.peek()) {
      this.#watchdog.pop()
      // Parked again since then: a later entry watches over it.
      if (d.parking === d.w.failures && this.#unschedulable.delete(d.w)) this.#activate(d.w)
    }
    for (let w = this.#active.pop(); w !== undefined; w = this.#active.pop()) {
      if (w.place !== 'active' || this.#waiting.get(w.uid) !== w) continue
      w.place = 'popped'
      return w
    }
    return undefined
  }

  /** Tries again after a back-off: 1 s, doubled with each failure, at most 10 s. */
  retry(w: Waiting, nowMs: number): void {
    w.failures++
    this.#delay(w, nowMs + backoffMs(w.failures))
  }

  /** Waits for {@link released}; the back-off holds from now all the same, unless room is being made for it (`atOnce`). */
  park(w: Waiting, nowMs: number, atOnce = false): void {
    w.failures++
    w.place = 'unschedulable'
    w.retryAtMs = atOnce ? nowMs : nowMs + backoffMs(w.failures)
    this.#unschedulable.add(w)
    this.#watchdog.push({ w, parking: w.failures, atMs: nowMs + UNSCHEDULABLE_MS })
  }

  /** Something happened that may help parked Pods; with `onlyPodDependent`, only those whose rules look at other Pods. */
  released(nowMs: number, onlyPodDependent = false): void {
    for (const w of this.#unschedulable) {
      if (onlyPodDependent && !dependsOnPods(w.cls)) continue
      this.#unschedulable.delete(w)
      if (w.retryAtMs <= nowMs) this.#activate(w)
      else this.#delay(w, w.retryAtMs)
    }
  }

  /** Milliseconds on the clock at which something becomes due by itself; undefined: nothing. */
  nextDueMs(): number | undefined {
    const first = this.#backoff.peek()?.retryAtMs
    const dog = this.#watchdog.peek()?.atMs
    return first === undefined ? dog : dog === undefined ? first : Math.min(first, dog)
  }

  #activate(w: Waiting): void {
    w.place = 'active'
    this.#active.push(w)
  }

  #delay(w: Waiting, atMs: number): void {
    w.place = 'backoff'
    w.retryAtMs = atMs
    this.#backoff.push(w)
  }
}

function backoffMs(failures: number): number { return Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (failures - 1)) }
