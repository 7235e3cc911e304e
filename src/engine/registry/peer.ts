/** A peer node as a source of images: the same protocol, with the registry's host in the query. */
import type { Tagging } from '../images/store.ts'
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import type { PeerEndpoint } from '../engine.ts'
import { ACCEPT_MANIFESTS } from '../images/media-types.ts'
import type { Descriptor } from '../images/media-types.ts'
import type { Reference } from '../images/reference.ts'
import { guarded } from './http.ts'
import { blobAnswer, readManifest, statusError } from './source.ts'
import type { FetchedManifest, Source } from './source.ts'

/** Header with the time (ms) a tag was given to its image where that happened first: the newest of several peers is right. */
export const TAGGED_HEADER = 'gantry-tagged-at'
/** Header with where the image came from first: `registry` or `local`. */
export const ORIGIN_HEADER = 'gantry-origin'
const STALL_MS = 10_000

export class Peer implements Source {
  readonly name: string
  readonly #endpoint: PeerEndpoint
  readonly #reference: Reference

  constructor(endpoint: PeerEndpoint, reference: Reference) {
    this.#endpoint = endpoint
    this.#reference = reference
    this.name = `peer ${endpoint.name}`
  }

  /** The manifest with the time its tag was set. */
  async tagged(reference: string): Promise<FetchedManifest & Tagging> {
    const answer = await this.#get(`manifests/${reference}`, { accept: ACCEPT_MANIFESTS })
    if (answer.status !== 200) {
      answer.body.destroy()
      throw statusError(answer.status, `${this.name}: ${reference}`)
    }
    const manifest = await readManifest(answer, reference, this.name)
    const at = Number(answer.headers[TAGGED_HEADER])
    return { ...manifest, taggedAtMs: Number.isFinite(at) ? at : 0, origin: answer.headers[ORIGIN_HEADER] === 'registry' ? 'registry' : 'local' }
  }

  manifest(reference: string): Promise<FetchedManifest> {
    return this.tagged(reference)
  }

  async blob(descriptor: Descriptor, offset: number): Promise<{ stream: Readable; offset: number }> {
    const answer = await this.#get(`blobs/${descriptor.digest}`, offset > 0 ? { range: `bytes=${offset}-` } : {})
    return blobAnswer(answer, descriptor, offset, this.name)
  }

  async #get(rest: string, headers: Record<string, string>): Promise<{ status: number; headers: Record<string, string>; body: Readable }> {
    const path = `/v2/${this.#reference.path}/${rest}?ns=${encodeURIComponent(this.#reference.host)}`
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => { reject(new EngineError('unavailable', `${this.name} did not answer for ${STALL_MS / 1000} s`)) }, STALL_MS)
    try {
      const asked = this.#endpoint.fetch(path, headers)
      late.catch(() => { asked.then(a => a.body.destroy(), () => undefined) })
      const answer = await Promise.race([asked, late])
      return { ...answer, body: guarded(answer.body, STALL_MS, this.name) }
    } catch (e) {
      if (e instanceof EngineError) throw e
      throw new EngineError('unavailable', `${this.name} could not be reached: ${(e as Error).message}`)
    } finally {
      clearTimeout(timer)
    }
  }
}
