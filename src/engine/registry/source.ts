/** Where manifests and blobs come from: a registry, or a peer that speaks the same protocol. */
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import { MAX_DOCUMENT_BYTES, sha256 } from '../images/content.ts'
import { isIndexType, isManifestType } from '../images/media-types.ts'
import type { Descriptor } from '../images/media-types.ts'
import { readBody } from './http.ts'

export interface FetchedManifest { mediaType: string; digest: string; bytes: Buffer }

export interface Source {
  /** For messages. */
  readonly name: string
  /** `reference` is a tag or digest. `not-found` if the source lacks it. */
  manifest(reference: string, signal?: AbortSignal): Promise<FetchedManifest>
  /** A blob from `offset` on; the answer may begin at 0 if the source cannot seek. */
  blob(descriptor: Descriptor, offset: number, signal?: AbortSignal): Promise<{ stream: Readable; offset: number }>
}

interface Answer { status: number; headers: Record<string, string>; body: Readable }

/** Checks a manifest answer: size, type and digest (that asked for, or that announced). */
export async function readManifest(answer: Answer, reference: string, from: string): Promise<FetchedManifest> {
  const bytes = await readBody(answer.body, MAX_DOCUMENT_BYTES, `the manifest ${reference} of ${from}`)
  const digest = sha256(bytes)
  const announced = reference.startsWith('sha256:') ? reference : answer.headers['docker-content-digest']
  if (announced !== undefined && announced !== digest) {
    throw new EngineError('failed', `${from} gave a manifest of digest ${digest} where ${announced} was expected`)
  }
  let mediaType = (answer.headers['content-type'] ?? '').split(';')[0]!.trim()
  if (!isIndexType(mediaType) && !isManifestType(mediaType)) {
    // Simple servers give a generic type: the document says itself what it is.
    let inside: unknown
    try {
      inside = (JSON.parse(bytes.toString()) as { mediaType?: unknown }).mediaType
    } catch { /* reported below */ }
    if (typeof inside === 'string' && (isIndexType(inside) || isManifestType(inside))) mediaType = inside
  }
  if (/docker\.distribution\.manifest\.v1\+/.test(mediaType)) {
    throw new EngineError('failed', `${from} has ${reference} only in the withdrawn manifest format schema 1: push it again with a current client`)
  }
  if (!isIndexType(mediaType) && !isManifestType(mediaType)) throw new EngineError('failed', `${from} answered with "${mediaType}", which is no image manifest`)
  return { mediaType, digest, bytes }
}

/** Reads where a blob's answer begins; refuses other statuses. */
export function blobAnswer(answer: Answer, descriptor: Descriptor, offset: number, from: string): { stream: Readable; offset: number } {
  if (answer.status === 200) return { stream: answer.body, offset: 0 }
  if (answer.status === 206) {
    const start = Number(/^bytes (\d+)-/.exec(answer.headers['content-range'] ?? '')?.[1] ?? offset)
    return { stream: answer.body, offset: start }
  }
  answer.body.destroy()
  throw statusError(answer.status, `${from}: blob ${descriptor.digest}`)
}

/** An EngineError for a status that is no success. */
export function statusError(status: number, what: string, detail = ''): EngineError {
  const text = detail === '' ? '' : `: ${detail}`
  if (status === 404) return new EngineError('not-found', `${what} not found${text}`)
  if (status === 401 || status === 403) return new EngineError('failed', `${what}: access denied (${status})${text}`)
  if (status === 408 || status === 429 || status >= 500) return new EngineError('unavailable', `${what}: the server answered ${status}${text}`)
  return new EngineError('failed', `${what}: the server answered ${status}${text}`)
}
