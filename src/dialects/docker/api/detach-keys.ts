/** The keys that leave a terminal: `ctrl-p,ctrl-q` unless the client names others. */
import { DockerError } from '../errors.ts'

export const DEFAULT_DETACH_KEYS: readonly number[] = [16, 17]

/** `ctrl-` with one of `a-z@[\]^_`, or single characters, separated by commas. */
export function parseDetachKeys(text: string | undefined): readonly number[] {
  if (text === undefined || text === '') return DEFAULT_DETACH_KEYS
  return text.split(',').map(key => {
    if (key.length === 1) return key.charCodeAt(0)
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key)
    if (control === null) throw new DockerError('invalid', `Invalid detach keys (${text}) provided`)
    // Control characters are the letters less their upper three bits.
    return control[1]!.charCodeAt(0) & 0x1f
  })
}

/** Holds back what may become the sequence, over reads; gives it out again when it does not. */
export class DetachFilter {
  readonly #keys: readonly number[]
  #matched = 0

  constructor(keys: readonly number[]) { this.#keys = keys }

  /** What is to be passed on, and whether the sequence is complete: then nothing of the rest counts. */
  push(chunk: Buffer): { data: Buffer; detached: boolean } {
    if (this.#matched === 0 && !chunk.includes(this.#keys[0]!)) return { data: chunk, detached: false }
    const out: number[] = []
    for (const byte of chunk) {
      while (this.#matched > 0 && byte !== this.#keys[this.#matched]) this.#release(out)
      if (byte !== this.#keys[this.#matched]) {
        out.push(byte)
        continue
      }
      if (++this.#matched === this.#keys.length) {
        this.#matched = 0
        return { data: Buffer.from(out), detached: true }
      }
    }
    return { data: Buffer.from(out), detached: false }
  }

  /** Gives out the oldest held keys until the rest is a beginning of the sequence again. */
  #release(out: number[]): void {
    const held = this.#keys.slice(0, this.#matched)
    do out.push(held.shift()!)
    while (held.length > 0 && held.some((k, i) => k !== this.#keys[i]))
    this.#matched = held.length
  }
}
