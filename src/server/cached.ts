/** One revision of one object, shared by every reader: the frozen object, and its JSON made at most once. */
import type { ApiObject } from '../core/types/index.ts'
import type { Codec } from './codec.ts'

function freeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return
  Object.freeze(value)
  for (const key in value) freeze((value as Record<string, unknown>)[key])
}

const encodings = { count: 0 }
/** How many times an object's JSON was put together since the start; tests hold sharing to it. */
export function encodingCount(): number { return encodings.count }

export class Cached {
  readonly object: ApiObject
  readonly revision: number
  readonly #codec: Codec
  #plain: Buffer | undefined
  #bytes: Buffer | undefined

  /** Takes `object` over: sets its resourceVersion and freezes it (parts that are frozen already are shared). */
  constructor(codec: Codec, object: ApiObject, revision: number, plain?: Buffer) {
    object.metadata.resourceVersion = revision === 0 ? undefined : String(revision)
    freeze(object)
    this.object = object
    this.revision = revision
    this.#codec = codec
    this.#plain = plain
  }

  /** JSON with `metadata.resourceVersion`. */
  get bytes(): Buffer {
    if (this.#bytes !== undefined) return this.#bytes
    encodings.count++
    const plain = this.#plain ?? this.#codec.encode({ ...this.object, metadata: { ...this.object.metadata, resourceVersion: undefined } })
    this.#plain = undefined
    return this.#bytes = this.revision === 0 ? plain : this.#codec.withRevision(plain, this.revision)
  }

  /** The same state under another revision: what a deletion shows. */
  at(revision: number): Cached {
    const metadata = { ...this.object.metadata }
    return new Cached(this.#codec, { ...this.object, metadata }, revision, this.#plain)
  }
}
