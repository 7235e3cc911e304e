/** Keeps some namespaces ready, so that a sandbox never waits for the kernel to make one. */
import type { Addresses } from './addresses.ts'
import type { Namespace, NamespaceContext } from './kernel/namespaces.ts'
import { makeNamespaces, removeNamespaces } from './kernel/namespaces.ts'
import { NetworkError } from './network.ts'

const defaultSize = 8
const maxBatch = 8
const maxHelpers = 2
const retryMs = 2000

interface Waiter {
  resolve: (namespace: Namespace) => void
  reject: (error: unknown) => void
}

export class NamespacePool {
  readonly #context: NamespaceContext
  readonly #addresses: Addresses
  readonly #ready: Namespace[]
  readonly #size: number
  /** Below this the pool is filled up again: fewer and larger batches than after every take. */
  readonly #lowWater: number
  readonly #waiters: Waiter[] = []
  readonly #helpers = new Set<Promise<void>>()
  #making = 0
  #retry: NodeJS.Timeout | undefined
  #closed = false
  #doomed: { namespace: Namespace; done: () => void; failed: (error: unknown) => void }[] = []
  #removal: Promise<void> | undefined

  /** `ready`: complete namespaces without a sandbox that a former process left; their addresses are claimed already. */
  constructor(context: NamespaceContext, addresses: Addresses, ready: Namespace[], size = defaultSize) {
    this.#context = context
    this.#addresses = addresses
    this.#ready = ready
    this.#size = size
    this.#lowWater = size >> 1
    this.#fill()
  }

  take(): Promise<Namespace> {
    const namespace = this.#ready.shift()
    if (namespace !== undefined) {
      if (this.#ready.length < this.#lowWater) this.#fill()
      return Promise.resolve(namespace)
    }
    if (this.#addresses.free === 0 && this.#making <= this.#waiters.length) {
      return Promise.reject(new NetworkError('exhausted', 'all pod addresses of this machine are in use'))
    }
    const { promise, resolve, reject } = Promise.withResolvers<Namespace>()
    this.#waiters.push({ resolve, reject })
    this.#fill()
    return promise
  }

  /** One with a certain address: out of the pool if it is there, else made for it. `conflict` if a sandbox has the address. */
  async takeAt(offset: number): Promise<Namespace> {
    for (;;) {
      const index = this.#ready.findIndex((namespace) => namespace.offset === offset)
      if (index >= 0) return this.#ready.splice(index, 1)[0]!
      if (this.#addresses.claim(offset)) break
      // It may be on its way into the pool.
      const [helper] = this.#helpers
      if (helper === undefined) throw new NetworkError('conflict', 'the address is in use or cannot be assigned')
      await helper
    }
    try {
      const [namespace] = await makeNamespaces(this.#context, [offset])
      return namespace!
    } catch (error) {
      this.#addresses.release(offset)
      throw error
    }
  }

  /** Removes a namespace for good: what ran in it may have changed it. Calls at the same time share one step. */
  remove(namespace: Namespace): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#doomed.push({ namespace, done: resolve, failed: reject })
    this.#removal ??= this.#removeDoomed()
    return promise
  }

  /** Gives back one that was never used. */
  giveBack(namespace: Namespace): void {
    this.#ready.push(namespace)
  }

  /** Stops making; resolves when no helper runs any more. What is ready stays. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    await Promise.all([...this.#helpers, this.#removal])
  }

  async #removeDoomed(): Promise<void> {
    // Lets the callers of this turn join the first batch.
    await Promise.resolve()
    while (this.#doomed.length > 0) {
      const batch = this.#doomed
      this.#doomed = []
      try {
        await removeNamespaces(batch.map(({ namespace }) => namespace))
        for (const { namespace, done } of batch) {
          this.#addresses.release(namespace.offset)
          done()
        }
      } catch (error) {
        for (const { failed } of batch) failed(error)
      }
    }
    this.#removal = undefined
  }

  #fill(): void {
    while (!this.#closed && this.#helpers.size < maxHelpers) {
      const wanted = this.#size + this.#waiters.length - this.#ready.length - this.#making
      const count = Math.min(wanted, maxBatch, this.#addresses.free)
      if (count <= 0) return
      const offsets = Array.from({ length: count }, () => this.#addresses.take())
      const helper = this.#make(offsets).finally(() => {
        this.#helpers.delete(helper)
        if (this.#waiters.length > 0 || this.#ready.length < this.#lowWater) this.#fill()
      })
      this.#helpers.add(helper)
    }
  }

  async #make(offsets: number[]): Promise<void> {
    this.#making += offsets.length
    try {
      for (const namespace of await makeNamespaces(this.#context, offsets)) {
        const waiter = this.#waiters.shift()
        if (waiter === undefined) this.#ready.push(namespace)
        else waiter.resolve(namespace)
      }
    } catch (error) {
      for (const offset of offsets) this.#addresses.release(offset)
      for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
      // Without this pause a lasting fault would be retried in a tight loop.
      this.#backOff()
    } finally {
      this.#making -= offsets.length
    }
  }

  #backOff(): void {
    if (this.#closed || this.#retry !== undefined) return
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      this.#fill()
    }, retryMs)
    this.#retry.unref()
  }
}
