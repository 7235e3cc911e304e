/** The distribution protocol, reading side, for peers: manifests and blobs of the images known here. */
import { Readable } from 'node:stream'
import type { ImageContext } from './assemble.ts'
import { blobStream, readDocument } from './content.ts'
import { isIndexType } from './media-types.ts'
import type { Index } from './media-types.ts'
import { isDigest } from './reference.ts'
import { ORIGIN_HEADER, TAGGED_HEADER } from '../registry/peer.ts'
import type { ImageRecord } from './store.ts'
import { orAbsent } from '../containerd/index.ts'

interface Answer { status: number; headers: Record<string, string>; body?: Readable }

function refuse(status: number, code: string, message: string): Answer {
  const body = JSON.stringify({ errors: [{ code, message }] })
  return { status, headers: { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }, body: Readable.from([Buffer.from(body)], { objectMode: false }) }
}

const notFound = (what: string): Answer => refuse(404, what.startsWith('blob') ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', `${what} is not here`)

export class PeerServer {
  readonly #x: ImageContext
  /** Digest → media type of everything the known images consist of; made again when the names change. */
  #known: Promise<Map<string, string>> | undefined

  constructor(x: ImageContext) {
    this.#x = x
    x.store.onChange(() => { this.#known = undefined })
  }

  /** `path` with its query. Only GET and HEAD; bodies are streams from the content store. */
  async serve(method: string, path: string, headers: Record<string, string>): Promise<Answer> {
    const url = new URL(path, 'http://peer')
    if (method !== 'GET' && method !== 'HEAD') return refuse(405, 'UNSUPPORTED', 'this registry is read-only')
    if (url.pathname === '/v2/' || url.pathname === '/v2') {
      return { status: 200, headers: { 'docker-distribution-api-version': 'registry/2.0', 'content-length': '0' } }
    }
    const m = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(url.pathname)
    if (m === null) return refuse(404, 'UNSUPPORTED', 'no such resource')
    const [, name, kind, reference] = m as unknown as [string, string, string, string]
    const answer = kind === 'manifests'
      ? await this.#manifest(decodeURIComponent(name), url.searchParams.get('ns'), decodeURIComponent(reference))
      : await this.#blob(decodeURIComponent(reference), headers['range'])
    if (method === 'HEAD' && answer.body !== undefined) {
      answer.body.destroy()
      delete answer.body
    }
    return answer
  }

  async #manifest(name: string, ns: string | null, reference: string): Promise<Answer> {
    let digest = reference
    let record: ImageRecord | undefined
    if (!isDigest(reference)) {
      // Without a host in the query the name may hold it itself; else Docker's default host is meant.
      const hosts = ns === null ? ['docker.io/', ''] : [`${ns}/`]
      record = hosts.map(h => this.#x.store.record(`${h}${name}:${reference}`)).find(r => r !== undefined)
      if (record === undefined) return notFound(`${name}:${reference}`)
      digest = record.targetDigest
    }
    const mediaType = (await this.#digests()).get(digest)
    if (mediaType === undefined || mediaType === '') return notFound(`${name}@${digest}`)
    // A name whose content is not whole would make the peer fail half-way.
    if (record !== undefined && await this.#x.store.resolve(record.target).catch(() => undefined) === undefined) return notFound(`${name}:${reference}`)
    const info = await orAbsent(this.#x.containerd.content.info(digest))
    if (info === undefined) return notFound(`${name}@${digest}`)
    return {
      status: 200, body: blobStream(this.#x.containerd, digest),
      headers: {
        'content-type': mediaType, 'content-length': String(info.size), 'docker-content-digest': digest,
        ...(record === undefined ? {} : { [TAGGED_HEADER]: String(record.taggedAtMs), [ORIGIN_HEADER]: record.origin }),
      },
    }
  }

  async #blob(digest: string, range: string | undefined): Promise<Answer> {
    if (!isDigest(digest)) return refuse(400, 'DIGEST_INVALID', 'no valid digest')
    if (!(await this.#digests()).has(digest)) return notFound(`blob ${digest}`)
    const info = await orAbsent(this.#x.containerd.content.info(digest))
    if (info === undefined) return notFound(`blob ${digest}`)
    const common = { 'content-type': 'application/octet-stream', 'docker-content-digest': digest, 'accept-ranges': 'bytes' }
    const part = range === undefined ? undefined : parseRange(range, info.size)
    if (part === 'unsatisfiable') return { status: 416, headers: { ...common, 'content-range': `bytes */${info.size}`, 'content-length': '0' } }
    if (part === undefined) {
      return { status: 200, headers: { ...common, 'content-length': String(info.size) }, body: blobStream(this.#x.containerd, digest) }
    }
    return {
      status: 206, headers: { ...common, 'content-length': String(part.size), 'content-range': `bytes ${part.offset}-${part.offset + part.size - 1}/${info.size}` },
      body: blobStream(this.#x.containerd, digest, part),
    }
  }

  #digests(): Promise<Map<string, string>> {
    this.#known ??= this.#collect()
    return this.#known
  }

  async #collect(): Promise<Map<string, string>> {
    const known = new Map<string, string>()
    await Promise.all([...this.#x.store.records()].map(async r => {
      const resolved = await this.#x.store.resolve(r.target).catch(() => undefined)
      if (resolved === undefined) return
      for (const d of resolved.digests) if (!known.has(d)) known.set(d, '')
      known.set(r.targetDigest, r.target.mediaType)
      known.set(resolved.manifestDescriptor.digest, resolved.manifestDescriptor.mediaType)
      if (!isIndexType(r.target.mediaType)) return
      // Manifests of other platforms may be here as well (loaded from an archive).
      for (const m of (await readDocument<Index>(this.#x.containerd, r.targetDigest)).manifests) if (!known.has(m.digest)) known.set(m.digest, m.mediaType)
    }))
    return known
  }
}

/** One range of bytes; undefined (the whole) for forms not understood, as HTTP wants it. */
export function parseRange(text: string, size: number): { offset: number; size: number } | 'unsatisfiable' | undefined {
  const m = /^bytes=(\d*)-(\d*)$/.exec(text.trim())
  if (m === null || (m[1] === '' && m[2] === '')) return undefined
  if (m[1] === '') {
    const last = Math.min(Number(m[2]), size)
    return last === 0 ? 'unsatisfiable' : { offset: size - last, size: last }
  }
  const offset = Number(m[1])
  const end = m[2] === '' ? size - 1 : Math.min(Number(m[2]), size - 1)
  if (offset >= size) return 'unsatisfiable'
  return end < offset ? undefined : { offset, size: end - offset + 1 }
}
