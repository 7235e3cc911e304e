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

/** One repository to read from, behind whatever leads to it. */
export interface RepositorySource extends Source {
  /** All tags, in the registry's order. */
  tags(signal?: AbortSignal): Promise<string[]>
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
    throw new EngineError('failed', `[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported. `
      + `Ask the author of ${from}:${reference} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2`)
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

export type RegistryReason = 'unauthorized' | 'denied' | 'manifest-unknown' | 'name-unknown' | 'no-credentials' | 'other'

/** A registry's refusal. `detail` is what it said, as dockerd shows it: `manifest unknown: manifest unknown`. */
export class RegistryError extends EngineError {
  readonly reason: RegistryReason
  readonly detail: string
  constructor(code: EngineError['code'], message: string, reason: RegistryReason, detail: string) {
    super(code, message)
    this.reason = reason
    this.detail = detail
  }
}

/** The registry wants a password and none was given. */
export function noCredentials(method: string, url: URL): RegistryError {
  const text = `${method} "${url.href}": no basic auth credentials`
  return new RegistryError('failed', text, 'no-credentials', text)
}

/** An error for a status that is no success; `errors` are the registry's own. */
export function statusError(status: number, what: string, errors: { code?: string; message?: string }[] = []): RegistryError {
  const said = errors.map(e => [(e.code ?? '').toLowerCase().replaceAll('_', ' '), e.message ?? ''].filter(t => t !== '').join(': ')).filter(t => t !== '')
  const text = said.length === 0 ? '' : `: ${said.join('; ')}`
  const codes = errors.map(e => e.code)
  if (status === 404) {
    const reason = codes.includes('NAME_UNKNOWN') ? 'name-unknown' : 'manifest-unknown'
    return new RegistryError('not-found', `${what} not found${text}`, reason, said[0] ?? 'manifest unknown')
  }
  if (status === 401 || status === 403) {
    const [reason, otherwise] = codes.includes('DENIED') || status === 403
      ? ['denied', 'denied: requested access to the resource is denied'] as const : ['unauthorized', 'unauthorized: authentication required'] as const
    return new RegistryError('failed', `${what}: access denied (${status})${text}`, reason, said[0] ?? otherwise)
  }
  const passing = status === 408 || status === 429 || status >= 500
  const message = `${what}: the server answered ${status}${text}`
  return new RegistryError(passing ? 'unavailable' : 'failed', message, 'other', said[0] ?? `received unexpected HTTP status: ${status}`)
}
