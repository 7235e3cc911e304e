/** One repository of a registry: the distribution protocol, version 2. */
import { isIP } from 'node:net'
import { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import type { RegistryAuth } from '../engine.ts'
import { ACCEPT_MANIFESTS } from '../images/media-types.ts'
import type { Descriptor } from '../images/media-types.ts'
import { Authorizer } from './auth.ts'
import { http, readBody } from './http.ts'
import type { HttpRequest, HttpResponse } from './http.ts'
import { blobAnswer, readManifest, statusError } from './source.ts'
import type { FetchedManifest, Source } from './source.ts'

export interface RegistryOptions {
  auth?: RegistryAuth
  /** Plain HTTP for hosts other than this machine's loopback. */
  insecure?: boolean
  /** Silence after which a transfer counts as stalled. */
  stallMs?: number
}

export type Uploaded = 'exists' | 'mounted' | 'pushed'

/** Loopback registries are spoken to by plain HTTP, as Docker allows them to be. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '')
  return name === 'localhost' || name === '[::1]' || (isIP(name) === 4 && name.startsWith('127.'))
}

export class Repository implements Source {
  readonly name: string
  readonly #base: URL
  readonly #path: string
  readonly #authorizer: Authorizer
  readonly #stallMs: number | undefined

  /** `host` as in references: `docker.io`, `localhost:5000`. */
  constructor(host: string, path: string, options: RegistryOptions = {}) {
    const plain = options.insecure === true || isLoopback(host)
    this.#base = new URL(`${plain ? 'http' : 'https'}://${host === 'docker.io' ? 'registry-1.docker.io' : host}`)
    this.#path = path
    this.#authorizer = new Authorizer(options.auth)
    this.#stallMs = options.stallMs
    this.name = `${host}/${path}`
  }

  async manifest(reference: string, signal?: AbortSignal): Promise<FetchedManifest> {
    const answer = await this.#request({ method: 'GET', url: this.#url(`manifests/${reference}`), headers: { accept: ACCEPT_MANIFESTS }, signal }, 'pull')
    if (answer.status !== 200) throw await this.#error(answer, `manifest for ${this.name}:${reference}`)
    return readManifest(answer, reference, this.name)
  }

  async blob(descriptor: Descriptor, offset: number, signal?: AbortSignal): Promise<{ stream: Readable; offset: number }> {
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {}
    const answer = await this.#request({ method: 'GET', url: this.#url(`blobs/${descriptor.digest}`), headers, signal }, 'pull')
    return blobAnswer(answer, descriptor, offset, this.name)
  }

  async hasBlob(digest: string, signal?: AbortSignal): Promise<boolean> {
    const answer = await this.#request({ method: 'HEAD', url: this.#url(`blobs/${digest}`), signal }, 'push')
    answer.body.resume()
    if (answer.status === 200) return true
    if (answer.status === 404) return false
    throw statusError(answer.status, `${this.name}: blob ${digest}`)
  }

  /** Uploads a blob unless it is there; `mountFrom`: a repository of the same registry that is known to have it. */
  async upload(
    descriptor: Descriptor, open: () => Readable,
    options: { mountFrom?: string; signal?: AbortSignal; onBytes?(n: number): void } = {},
  ): Promise<Uploaded> {
    const { mountFrom, signal } = options
    if (await this.hasBlob(descriptor.digest, signal)) return 'exists'
    const start = this.#url('blobs/uploads/')
    const extra: string[] = []
    if (mountFrom !== undefined) {
      start.searchParams.set('mount', descriptor.digest)
      start.searchParams.set('from', mountFrom)
      extra.push(`repository:${mountFrom}:pull`)
    }
    const begun = await this.#request({ method: 'POST', url: start, body: Buffer.alloc(0), signal }, 'push', extra)
    if (begun.status === 201) {
      begun.body.resume()
      return 'mounted'
    }
    if (begun.status !== 202) throw await this.#error(begun, `upload to ${this.name}`)
    begun.body.resume()
    const location = begun.headers['location']
    if (location === undefined) throw new EngineError('failed', `${this.name} gave no place to upload to`)
    const target = new URL(location, begun.url)
    if (target.protocol !== begun.url.protocol) {
      // Registries behind a proxy that ends TLS often do not know it.
      if (target.hostname !== begun.url.hostname) throw new EngineError('failed', `${this.name} wants the upload at ${target.origin}, which is another protocol`)
      target.protocol = begun.url.protocol
    }
    target.searchParams.set('digest', descriptor.digest)
    let sent = 0
    const done = await this.#request({
      method: 'PUT', url: target, follow: false, signal,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(descriptor.size) },
      body: () => {
        const source = open()
        sent = 0
        return Readable.from(async function* () {
          for await (const chunk of source as AsyncIterable<Buffer>) {
            yield chunk
            sent += chunk.length
            options.onBytes?.(sent)
          }
        }(), { objectMode: false, highWaterMark: 256 * 1024 })
      },
    }, 'push', extra)
    if (done.status !== 201) throw await this.#error(done, `upload of ${descriptor.digest} to ${this.name}`)
    done.body.resume()
    return 'pushed'
  }

  /** Resolves with the digest the registry stored it under. */
  async putManifest(reference: string, mediaType: string, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    const answer = await this.#request({
      method: 'PUT', url: this.#url(`manifests/${reference}`), headers: { 'content-type': mediaType }, body: bytes, signal,
    }, 'push')
    if (answer.status !== 201 && answer.status !== 200) throw await this.#error(answer, `manifest of ${this.name}:${reference}`)
    answer.body.resume()
  }

  #url(rest: string): URL {
    return new URL(`/v2/${this.#path}/${rest}`, this.#base)
  }

  async #request(r: HttpRequest, action: 'pull' | 'push', extraScopes: string[] = []): Promise<HttpResponse> {
    const scopes = [`repository:${this.#path}:${action === 'push' ? 'pull,push' : 'pull'}`, ...extraScopes]
    // Uploads may be sent to storage elsewhere, whose address carries its own permission.
    const own = r.url.host === this.#base.host
    for (let attempt = 0; ; attempt++) {
      const authorization = own ? this.#authorizer.header(scopes.join(' ')) : undefined
      const headers = { ...r.headers, ...(authorization === undefined ? {} : { authorization }) }
      const response = await http({ ...r, headers, ...(this.#stallMs === undefined ? {} : { stallMs: this.#stallMs }) })
      const challenge = response.headers['www-authenticate']
      if (response.status !== 401 || attempt === 2 || challenge === undefined || !own) return response
      if (!await this.#authorizer.answer(challenge, scopes, this.#base.protocol === 'https:', r.signal)) return response
      response.body.resume()
    }
  }

  /** The registry's own words, where it gives some. */
  async #error(answer: HttpResponse, what: string): Promise<EngineError> {
    let detail = ''
    try {
      const body = JSON.parse((await readBody(answer.body, 64 << 10, 'the error')).toString()) as { errors?: { code?: string; message?: string }[] }
      detail = (body.errors ?? []).map(e => e.message ?? e.code ?? '').filter(t => t !== '').join('; ')
    } catch { /* no JSON: the status alone must do */ }
    return statusError(answer.status, what, detail)
  }
}
