/** One revision of one object, shared by every reader: the frozen object, and its JSON made at most once. */
import type { ApiObject } from '../core/types/index.ts'
import type { Codec } from './codec.ts'

/** managedFields are left out: half the parts of a Pod, and only core/patch reads them, which copies what it changes. */
function freeze(value: object): void {
  if (Object.isFrozen(value)) return
  Object.freeze(value)
  for (const key in value) {
    const part = (value as Record<string, unknown>)[key]
    if (typeof part === 'object' && part !== null && key !== 'managedFields') freeze(part)
  }
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
    const plain = this.#takePlain()
    return this.#bytes = this.revision === 0 ? plain : this.#codec.withRevision(plain, this.revision)
  }

  /** {@link bytes} between two texts of one-byte characters; who asks for this first spares the copy for both. */
  framed(before: string, after: string): Buffer {
    if (this.#bytes !== undefined || this.revision === 0) return Buffer.concat([Buffer.from(before, 'latin1'), this.bytes, Buffer.from(after, 'latin1')])
    const line = this.#codec.withRevision(this.#takePlain(), this.revision, before, after)
    this.#bytes = line.subarray(before.length, line.length - after.length)
    return line
  }

  /** What the store keeps, JSON without `metadata.resourceVersion`, in one or two parts. */
  plainParts(): Buffer[] {
    if (this.#plain !== undefined) return [this.#plain]
    return this.revision === 0 ? [this.bytes] : this.#codec.aroundRevision(this.bytes, this.revision)
  }

  /** It is dropped here: bytes are made of it, once, and give it back if it is asked for again. */
  #takePlain(): Buffer {
    encodings.count++
    const plain = this.#plain ?? this.#codec.encode({ ...this.object, metadata: { ...this.object.metadata, resourceVersion: undefined } })
    this.#plain = undefined
    return plain
  }

  /** The same state under another revision: what a deletion shows. */
  at(revision: number): Cached {
    const metadata = { ...this.object.metadata }
    const plain = this.#plain ?? (this.#bytes === undefined ? undefined : Buffer.concat(this.plainParts()))
    return new Cached(this.#codec, { ...this.object, metadata }, revision, plain)
  }
}
