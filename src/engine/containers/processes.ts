/**
 * Processes run in a task by containerd: their exits come as events, matched by container and exec id. Exits that arrive
 * before somebody asks are kept by whoever registered first, so register before starting.
 */
import type { Exited } from '../containerd/index.ts'

export class ExitWaiters {
  readonly #waiting = new Map<string, (e: Exited) => void>()

  /** Resolves with the exit of this exec; `forget` when it was never started. */
  register(container: string, exec: string): { exited: Promise<Exited>; forget(): void } {
    const { promise, resolve } = Promise.withResolvers<Exited>()
    const key = `${container}/${exec}`
    this.#waiting.set(key, resolve)
    return { exited: promise, forget: () => { this.#waiting.delete(key) } }
  }

  /** Called for every exit event of an exec, and by reconciliation. */
  settle(container: string, exec: string, exit: Exited): void {
    const key = `${container}/${exec}`
    this.#waiting.get(key)?.(exit)
    this.#waiting.delete(key)
  }

  pending(): { container: string; exec: string }[] {
    return [...this.#waiting.keys()].map((k) => {
      const slash = k.lastIndexOf('/')
      return { container: k.slice(0, slash), exec: k.slice(slash + 1) }
    })
  }
}
