/** One repository of a registry: the distribution protocol, version 2. */
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import type { RegistryAuth } from '../engine.ts'
import { ACCEPT_MANIFESTS } from '../images/media-types.ts'
import type { Descriptor } from '../images/media-types.ts'
import { Authorizer } from './auth.ts'
import { Endpoints } from './endpoints.ts'
import type { Endpoint } from './endpoints.ts'
import { http, readBody } from './http.ts'
import type { HttpRequest, HttpResponse } from './http.ts'
import { blobAnswer, noCredentials, readManifest, statusError } from './source.ts'
import type { FetchedManifest, RegistryError, RepositorySource } from './source.ts'

export interface RepositoryOptions {
  auth?: RegistryAuth
  /** Plain HTTP, or unchecked TLS, for a host that nobody declared insecure. */
  insecure?: boolean
  /** Silence after which a transfer counts as stalled. */
  stallMs?: number
  /** How registries are reached; default: with nothing of their own declared. */
  endpoints?: Endpoints
}

export type Uploaded = 'exists' | 'mounted' | 'pushed'

/** Answers with lists longer than this are cut off: a registry could go on for ever. */
const MAX_LISTED = 100_000
const LIST_BYTES = 8 << 20

export class Repository implements RepositorySource {
  readonly name: string
  readonly #host: string
  readonly #path: string
  readonly #options: RepositoryOptions
  readonly #endpoints: Endpoints
  #endpoint: Promise<{ endpoint: Endpoint; authorizer: Authorizer }> | undefined

  /** `host` as in references: `docker.io`, `localhost:5000`. */
  constructor(host: string, path: string, options: RepositoryOptions = {}) {
    this.#host = host
    this.#path = path
    this.#options = options
    this.#endpoints = options.endpoints ?? new Endpoints()
    this.name = `${host}/${path}`
  }

  #open(signal?: AbortSignal): Promise<{ endpoint: Endpoint; authorizer: Authorizer }> {
    if (this.#endpoint === undefined) {
      const opening = this.#endpoints.resolve(this.#host, this.#options.insecure, signal, this.#options.stallMs).then(endpoint => ({
        endpoint, authorizer: new Authorizer(this.#options.auth, endpoint.agent === undefined ? {} : { agent: endpoint.agent }),
      }))
      this.#endpoint = opening
      opening.catch(() => { this.#endpoint = undefined })
    }
    return this.#endpoint
  }

  async manifest(reference: string, signal?: AbortSignal): Promise<FetchedManifest> {
    const answer = await this.#request({ method: 'GET', path: `manifests/${reference}`, headers: { accept: ACCEPT_MANIFESTS }, signal }, 'pull')
    if (answer.status !== 200) throw await this.#error(answer, `manifest for ${this.name}:${reference}`)
    return readManifest(answer, reference, this.name)
  }

  async blob(descriptor: Descriptor, offset: number, signal?: AbortSignal): Promise<{ stream: Readable; offset: number }> {
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {}
    const answer = await this.#request({ method: 'GET', path: `blobs/${descriptor.digest}`, headers, signal }, 'pull')
    return blobAnswer(answer, descriptor, offset, this.name)
  }

  async hasBlob(digest: string, signal?: AbortSignal): Promise<boolean> {
    const answer = await this.#request({ method: 'HEAD', path: `blobs/${digest}`, signal }, 'push')
    answer.body.resume()
    if (answer.status === 200) return true
    if (answer.status === 404) return false
    throw statusError(answer.status, `${this.name}: blob ${digest}`)
  }

  async tags(signal?: AbortSignal): Promise<string[]> {
    const names: string[] = []
    await this.#list(`/v2/${this.#path}/tags/list`, `repository:${this.#path}:pull`, 'tags', names, signal)
    return names
  }

  /** Names of all repositories of the registry, where it tells. */
  async catalogue(signal?: AbortSignal): Promise<string[]> {
    const names: string[] = []
    await this.#list('/v2/_catalog', 'registry:catalog:*', 'repositories', names, signal)
    return names
  }

  async #list(path: string, scope: string, key: string, names: string[], signal?: AbortSignal): Promise<void> {
    const { endpoint } = await this.#open(signal)
    let url: URL | undefined = new URL(path, endpoint.base)
    while (url !== undefined) {
      const answer: HttpResponse = await this.#request({ method: 'GET', path: url, signal }, 'pull', [], scope)
      if (answer.status !== 200) throw await this.#error(answer, `list of ${key} of ${this.name}`)
      const page = JSON.parse((await readBody(answer.body, LIST_BYTES, `the list of ${key}`)).toString()) as Record<string, unknown>
      const part = page[key]
      const before = names.length
      if (Array.isArray(part)) for (const n of part) if (typeof n === 'string') names.push(n)
      const next = /<([^>]+)>\s*;\s*rel="?next/.exec(answer.headers['link'] ?? '')?.[1]
      // A page that brings nothing is the last one: others like it could follow for ever.
      url = next === undefined || names.length === before || names.length >= MAX_LISTED ? undefined : new URL(next, url)
      if (url !== undefined && url.host !== endpoint.base.host) throw new EngineError('failed', `${this.name} continues its list at ${url.host}`)
    }
  }

  /** Where a blob that is here under some digest is mounted from, begun as an upload otherwise. */
  async begin(mount?: { digest: string; from: string }, signal?: AbortSignal): Promise<'mounted' | URL> {
    const { endpoint } = await this.#open(signal)
    const start = new URL(`/v2/${this.#path}/blobs/uploads/`, endpoint.base)
    const extra: string[] = []
    if (mount !== undefined) {
      start.searchParams.set('mount', mount.digest)
      start.searchParams.set('from', mount.from)
      extra.push(`repository:${mount.from}:pull`)
    }
    const begun = await this.#request({ method: 'POST', path: start, body: Buffer.alloc(0), signal }, 'push', extra)
    if (begun.status !== 201 && begun.status !== 202) throw await this.#error(begun, `upload to ${this.name}`)
    begun.body.resume()
    return begun.status === 201 && mount !== undefined ? 'mounted' : this.#location(begun)
  }

  /** Where an upload goes on. */
  #location(answer: HttpResponse): URL {
    const location = answer.headers['location']
    if (location === undefined) throw new EngineError('failed', `${this.name} gave no place to upload to`)
    const target = new URL(location, answer.url)
    if (target.protocol !== answer.url.protocol) {
      // Registries behind a proxy that ends TLS often do not know it.
      if (target.hostname !== answer.url.hostname) throw new EngineError('failed', `${this.name} wants the upload at ${target.origin}, which is another protocol`)
      target.protocol = answer.url.protocol
    }
    return target
  }

  /** Uploads a blob unless it is there; `mountFrom`: a repository of the same registry that is known to have it. */
  async upload(
    descriptor: Descriptor, open: () => Readable,
    options: { mountFrom?: string; signal?: AbortSignal; onBytes?(n: number): void } = {},
  ): Promise<Uploaded> {
    const { mountFrom, signal } = options
    if (await this.hasBlob(descriptor.digest, signal)) return 'exists'
    const target = await this.begin(mountFrom === undefined ? undefined : { digest: descriptor.digest, from: mountFrom }, signal)
    if (target === 'mounted') return 'mounted'
    target.searchParams.set('digest', descriptor.digest)
    const done = await this.#request({
      method: 'PUT', path: target, follow: false, signal,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(descriptor.size) },
      body: () => counted(open(), options.onBytes),
    }, 'push')
    if (done.status !== 201) throw await this.#error(done, `upload of ${descriptor.digest} to ${this.name}`)
    done.body.resume()
    return 'pushed'
  }

  /** Uploads bytes whose digest is known only at their end; `end` gives it then. */
  async uploadStream(
    open: () => Readable, end: () => string, options: { signal?: AbortSignal; onBytes?(n: number): void } = {},
  ): Promise<void> {
    const target = await this.begin(undefined, options.signal) as URL
    const sent = await this.#request({
      method: 'PATCH', path: target, follow: false, signal: options.signal, headers: { 'content-type': 'application/octet-stream' },
      body: () => counted(open(), options.onBytes),
    }, 'push')
    if (sent.status !== 202 && sent.status !== 204) throw await this.#error(sent, `upload to ${this.name}`)
    sent.body.resume()
    const finish = this.#location(sent)
    finish.searchParams.set('digest', end())
    const done = await this.#request({ method: 'PUT', path: finish, follow: false, body: Buffer.alloc(0), signal: options.signal }, 'push')
    if (done.status !== 201) throw await this.#error(done, `upload of ${end()} to ${this.name}`)
    done.body.resume()
  }

  /** Resolves with the digest the registry stored it under. */
  async putManifest(reference: string, mediaType: string, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    const answer = await this.#request({
      method: 'PUT', path: `manifests/${reference}`, headers: { 'content-type': mediaType }, body: bytes, signal,
    }, 'push')
    if (answer.status !== 201 && answer.status !== 200) throw await this.#error(answer, `manifest of ${this.name}:${reference}`)
    answer.body.resume()
  }

  /** `path`: below the repository, or a whole address. */
  async #request(
    r: Omit<HttpRequest, 'url' | 'agent' | 'stallMs'> & { path: string | URL }, action: 'pull' | 'push', extraScopes: string[] = [],
    scope = `repository:${this.#path}:${action === 'push' ? 'pull,push' : 'pull'}`,
  ): Promise<HttpResponse> {
    const { endpoint, authorizer } = await this.#open(r.signal)
    const { stallMs } = this.#options
    const url = typeof r.path === 'string' ? new URL(`/v2/${this.#path}/${r.path}`, endpoint.base) : r.path
    const scopes = [scope, ...extraScopes]
    // Uploads may be sent to storage elsewhere, whose address carries its own permission.
    const own = url.host === endpoint.base.host
    for (let attempt = 0; ; attempt++) {
      const authorization = own ? authorizer.header(scopes.join(' ')) : undefined
      const headers = { ...r.headers, ...(authorization === undefined ? {} : { authorization }) }
      const response = await http({
        ...r, url, headers, ...(own && endpoint.agent !== undefined ? { agent: endpoint.agent } : {}), ...(stallMs === undefined ? {} : { stallMs }),
      })
      const challenge = response.headers['www-authenticate']
      if (response.status !== 401 || attempt === 2 || challenge === undefined || !own) return response
      // Another request of the same repository has got what this one lacked.
      const newer = authorizer.header(scopes.join(' '))
      if (newer !== undefined && newer !== authorization) {
        response.body.resume()
        continue
      }
      if (!await authorizer.answer(challenge, scopes, endpoint.base.protocol === 'https:', r.signal)) {
        if (authorizer.hasPassword || !/^basic/i.test(challenge)) return response
        response.body.destroy()
        throw noCredentials(r.method === 'GET' ? 'Head' : r.method, url)
      }
      response.body.resume()
    }
  }

  /** The registry's own words, where it gives some. */
  async #error(answer: HttpResponse, what: string): Promise<RegistryError> {
    let errors: { code?: string; message?: string }[] = []
    try {
      const body = JSON.parse((await readBody(answer.body, 64 << 10, 'the error')).toString()) as { errors?: unknown }
      if (Array.isArray(body.errors)) errors = body.errors as typeof errors
    } catch { /* no JSON: the status alone must do */ }
    return statusError(answer.status, what, errors)
  }
}

function counted(source: Readable, onBytes: ((n: number) => void) | undefined): Readable {
  if (onBytes === undefined) return source
  let sent = 0
  source.on('data', (chunk: Buffer) => {
    sent += chunk.length
    onBytes(sent)
  })
  source.pause()
  return source
}
