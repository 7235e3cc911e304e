/** The engine's events to its users. What happens before the first user listens is kept for it. */
import type { EngineEvent } from '../engine.ts'

type Handler = (e: EngineEvent) => void

export class EventHub {
  readonly #handlers = new Set<Handler>()
  readonly #internal = new Set<Handler>()
  #early: EngineEvent[] | undefined = []

  emit(e: EngineEvent): void {
    for (const h of this.#internal) h(e)
    if (this.#early !== undefined) this.#early.push(e)
    else for (const h of this.#handlers) h(e)
  }

  /** For users of the engine; the first is told also what happened before. */
  subscribe(handler: Handler): () => void {
    this.#handlers.add(handler)
    const early = this.#early
    this.#early = undefined
    if (early !== undefined) queueMicrotask(() => { for (const e of early) handler(e) })
    return () => { this.#handlers.delete(handler) }
  }

  /** For the engine's own parts. */
  on(handler: Handler): () => void {
    this.#internal.add(handler)
    return () => { this.#internal.delete(handler) }
  }
}
