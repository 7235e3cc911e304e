/**
 * Between objects and stored bytes. An object is turned into JSON once: the stored form lacks `metadata.resourceVersion`,
 * and the form that clients get is the same bytes with it spliced in.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject } from '../core/types/index.ts'

/** First byte of an encrypted value; JSON never begins with it. Then 12 bytes nonce, 16 bytes tag, ciphertext. */
const ENCRYPTED = 0x01
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** `core/pods/default/web`; see the store's Entry. */
export function storeKey(kind: Kind, namespace: string | undefined, name: string): string {
  return `${kind.group === '' ? 'core' : kind.group}/${kind.plural}/${kind.namespaced ? namespace ?? '' : ''}/${name}`
}

/** `core/pods`, of a store key. */
export function kindPrefixOf(key: string): string { return key.slice(0, key.indexOf('/', key.indexOf('/') + 1)) }

export function kindPrefix(kind: Kind): string { return `${kind.group === '' ? 'core' : kind.group}/${kind.plural}` }

const revisionMember = (revision: number): string => `"resourceVersion":"${revision}",`

export class Codec {
  readonly kind: Kind
  /** What every encoded object of the kind begins with; the revision goes behind it. */
  readonly #head: Buffer
  readonly #headText: string
  readonly #key: Buffer | undefined

  /** With `key` (32 bytes), values are encrypted at rest with AES-256-GCM, bound to their store key. */
  constructor(kind: Kind, key?: Buffer) {
    this.kind = kind
    this.#key = key
    this.#headText = `{"apiVersion":${JSON.stringify(kind.apiVersion)},"kind":${JSON.stringify(kind.kind)},"metadata":{`
    this.#head = Buffer.from(this.#headText)
  }

  /** JSON for clients, without a revision. `object.metadata.resourceVersion` must be undefined. */
  encode(object: ApiObject): Buffer {
    const { apiVersion: _version, kind: _kind, metadata, ...rest } = object as ApiObject & Record<string, unknown>
    return Buffer.from(JSON.stringify({ apiVersion: this.kind.apiVersion, kind: this.kind.kind, metadata, ...rest }))
  }

  /** JSON with the revision in its metadata, between `before` and `after`. `plain` is {@link encode}'s. */
  withRevision(plain: Buffer, revision: number, before = '', after = ''): Buffer {
    const head = `${before}${this.#headText}${revisionMember(revision)}`
    const rest = plain.length - this.#head.length
    const out = Buffer.allocUnsafe(head.length + rest + after.length)
    out.write(head, 0, 'latin1')
    plain.copy(out, head.length, this.#head.length)
    out.write(after, head.length + rest, 'latin1')
    return out
  }

  /** What stands before and after the revision that {@link withRevision} put in. */
  aroundRevision(bytes: Buffer, revision: number): [Buffer, Buffer] {
    const at = this.#head.length
    return [bytes.subarray(0, at), bytes.subarray(at + revisionMember(revision).length)]
  }

  /** What the store keeps. */
  seal(key: string, plain: Buffer): Uint8Array {
    if (this.#key === undefined) return plain
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(key))
    const body = Buffer.concat([cipher.update(plain), cipher.final()])
    return Buffer.concat([Buffer.of(ENCRYPTED), nonce, cipher.getAuthTag(), body])
  }

  /** The reverse of {@link seal}. Throws if the value was changed, moved to another key or sealed with another secret. */
  unseal(key: string, value: Uint8Array): Buffer {
    if (value[0] !== ENCRYPTED) return this.#normal(Buffer.from(value.buffer, value.byteOffset, value.byteLength))
    if (this.#key === undefined) throw new Error(`${key} is encrypted, and this server has no secrets key`)
    const nonce = value.subarray(1, 1 + NONCE_BYTES)
    const decipher = createDecipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(key))
    decipher.setAuthTag(value.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES))
    try {
      return this.#normal(Buffer.concat([decipher.update(value.subarray(1 + NONCE_BYTES + TAG_BYTES)), decipher.final()]))
    } catch {
      throw new Error(`${key} cannot be decrypted: it was stored with another secrets key, or changed`)
    }
  }

  /** Values written by another version of Gantry may begin otherwise. */
  #normal(plain: Buffer): Buffer {
    return plain.subarray(0, this.#head.length).equals(this.#head) ? plain : this.encode(JSON.parse(plain.toString()) as ApiObject)
  }
}
