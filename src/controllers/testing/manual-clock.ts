/** A clock that stands still until a test moves it. */
import type { Clock } from '../../core/workqueue.ts'

export class ManualClock implements Clock {
  #now = Date.parse('2026-01-01T00:00:00Z')
  #timers = new Map<number, { atMs: number; f: () => void }>()
  #next = 1

  now(): number { return this.#now }
  get timers(): number { return this.#timers.size }

  setTimeout(f: () => void, ms: number): unknown {
    this.#timers.set(this.#next, { atMs: this.#now + ms, f })
    return this.#next++
  }

  clearTimeout(handle: unknown): void { this.#timers.delete(handle as number) }

  /** Moves on, running what falls due in order of time, and lets the process settle after each. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await settle()
      const due = [...this.#timers].filter(([, t]) => t.atMs <= end).sort((a, b) => a[1].atMs - b[1].atMs || a[0] - b[0])[0]
      if (due === undefined) break
      this.#timers.delete(due[0])
      this.#now = Math.max(this.#now, due[1].atMs)
      due[1].f()
    }
    this.#now = end
    await settle()
  }
}

/** Lets everything that is ready run, without any time passing. */
export async function settle(turns = 12): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => { setImmediate(resolve) })
}
