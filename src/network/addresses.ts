/** Which addresses of the pod range are in use. Memory only: the truth is the namespaces that exist. */
import type { Cidr } from './ipv4.ts'
import { NetworkError } from './network.ts'

/** Offsets into the range: 0 is the network (and VXLAN) address, 1 the gateway, the last one is left free as broadcast. */
export class Addresses {
  readonly #used = new Set<number>()
  readonly #first = 2
  readonly #last: number
  #next = 2

  constructor(range: Cidr) {
    this.#last = range.size - 2
    if (this.#last < this.#first) throw new NetworkError('invalid', `a pod range needs a prefix of at most /30, not /${range.prefix}`)
  }

  get free(): number {
    return this.#last - this.#first + 1 - this.#used.size
  }

  /** The next free one in turn, so that a released address rests as long as possible before it is used again. */
  take(): number {
    for (let tried = this.#first; tried <= this.#last; tried++) {
      const candidate = this.#next
      this.#next = candidate >= this.#last ? this.#first : candidate + 1
      if (!this.#used.has(candidate)) {
        this.#used.add(candidate)
        return candidate
      }
    }
    throw new NetworkError('exhausted', `all ${this.#used.size} pod addresses of this machine are in use`)
  }

  /** False if it is in use or not assignable. */
  claim(offset: number): boolean {
    if (offset < this.#first || offset > this.#last || this.#used.has(offset)) return false
    this.#used.add(offset)
    return true
  }

  release(offset: number): void {
    this.#used.delete(offset)
  }

  /** New addresses are taken from behind this one; used after a restart, when the last ones given out are known. */
  continueAfter(offset: number): void {
    this.#next = offset >= this.#last || offset < this.#first ? this.#first : offset + 1
  }
}
