/** Exponential back-off with jitter, so that the clients of a restarted server do not come back in one wave. */

export interface BackoffOptions {
  /** First delay. */
  minMs: number
  maxMs: number
}

export class Backoff {
  readonly #minMs: number
  readonly #maxMs: number
  #nextMs: number

  constructor({ minMs, maxMs }: BackoffOptions) {
    this.#minMs = minMs
    this.#maxMs = maxMs
    this.#nextMs = minMs
  }

  /** The next delay in ms: between half of the current step and the whole of it; the step doubles up to the maximum. */
  next(): number {
    const step = this.#nextMs
    this.#nextMs = Math.min(step * 2, this.#maxMs)
    return step * (0.5 + Math.random() / 2)
  }

  reset(): void { this.#nextMs = this.#minMs }
}

/** Resolves after `ms`, or at once when `signal` fires; never rejects. Does not keep the process alive when `unref` is set. */
export function sleep(ms: number, signal?: AbortSignal, unref = false): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    if (unref) timer.unref()
    signal?.addEventListener('abort', done, { once: true })
  })
}
