/** What an engine asks of registries besides pulling and pushing: logging in, searching, looking at a reference. */
import { EngineError } from '../engine.ts'
import type { RegistryAuth } from '../engine.ts'
import { parseDocument } from '../images/content.ts'
import { isIndexType } from '../images/media-types.ts'
import type { ConfigFile, Index, Manifest, Platform } from '../images/media-types.ts'
import { parseReference } from '../images/reference.ts'
import { Authorizer } from './auth.ts'
import { Repository } from './client.ts'
import { Endpoints } from './endpoints.ts'
import type { RegistryOptions } from './endpoints.ts'
import { http, readBody } from './http.ts'
import { Mirrored, parseMirror } from './mirrored.ts'
import { noCredentials } from './source.ts'
import type { RepositorySource } from './source.ts'

export type { RegistryOptions } from './endpoints.ts'

interface RepositoryRequest { auth?: RegistryAuth; insecure?: boolean; stallMs?: number }

export interface SearchResult { name: string; description: string; stars: number; official: boolean; automated: boolean }

const MAX_ANSWER_BYTES = 8 << 20
const HUB_HOST = 'docker.io'
const SEARCH_HOST = 'index.docker.io'

export class Registries {
  readonly endpoints: Endpoints
  /** Of Docker Hub. */
  readonly mirrors: URL[]

  /** Throws `invalid` for a malformed network or mirror. */
  constructor(options: RegistryOptions = {}) {
    this.endpoints = new Endpoints(options)
    this.mirrors = (options.mirrors ?? []).map(parseMirror)
  }

  /** To write to. */
  repository(host: string, path: string, options: RepositoryRequest = {}): Repository {
    return new Repository(host, path, { ...options, endpoints: this.endpoints })
  }

  /** To read from, which a mirror may serve. */
  reader(host: string, path: string, options: RepositoryRequest = {}): RepositorySource {
    const own = this.repository(host, path, options)
    if (host !== HUB_HOST || this.mirrors.length === 0) return own
    const { stallMs } = options
    const mirrors = this.mirrors.map(m => this.repository(m.host, path, { insecure: m.protocol === 'http:', ...(stallMs === undefined ? {} : { stallMs }) }))
    return new Mirrored(mirrors, own)
  }

  /**
   * Tries credentials. `server` as users write it: a host, or a URL; '' is Docker Hub. Resolves with a refresh token if the
   * registry gave one, else ''. Rejects with a RegistryError (`unauthorized`) if they are refused.
   */
  async login(server: string, auth: RegistryAuth, signal?: AbortSignal): Promise<string> {
    const host = registryHost(server)
    const { base, agent } = await this.endpoints.resolve(host, false, signal)
    const url = new URL('/v2/', base)
    const authorizer = new Authorizer(auth, { ...(agent === undefined ? {} : { agent }), wantsRefresh: true })
    for (let attempt = 0; ; attempt++) {
      const authorization = authorizer.header('')
      const answer = await http({
        method: 'GET', url, headers: authorization === undefined ? {} : { authorization }, ...(agent === undefined ? {} : { agent }), ...(signal === undefined ? {} : { signal }),
      })
      answer.body.resume()
      if (answer.status === 200) return authorizer.refreshToken ?? ''
      const challenge = answer.headers['www-authenticate']
      if (answer.status === 401 && attempt === 0 && challenge !== undefined) {
        if (await authorizer.answer(challenge, [], base.protocol === 'https:', signal)) continue
        throw noCredentials('Get', url)
      }
      throw new EngineError('failed', `login attempt to ${url.href} failed with status: ${answer.status} ${answer.statusText}`)
    }
  }

  /** `term` may begin with a registry's host. Docker's search service where there is one, else the names of the registry's catalogue. */
  async search(term: string, options: { limit?: number; auth?: RegistryAuth; signal?: AbortSignal } = {}): Promise<SearchResult[]> {
    const slash = term.indexOf('/')
    const first = slash < 0 ? '' : term.slice(0, slash)
    const named = first !== '' && (/[.:]/.test(first) || first === 'localhost')
    const host = named ? first : SEARCH_HOST
    const words = named ? term.slice(slash + 1) : term
    const limit = options.limit ?? 25
    const { base, agent } = await this.endpoints.resolve(host, false, options.signal)
    const url = new URL('/v1/search', base)
    url.searchParams.set('q', words)
    url.searchParams.set('n', String(limit))
    const { username, password } = options.auth ?? {}
    const answer = await http({
      method: 'GET', url, ...(agent === undefined ? {} : { agent }), ...(options.signal === undefined ? {} : { signal: options.signal }),
      headers: username === undefined ? {} : { authorization: `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}` },
    })
    const body = await readBody(answer.body, MAX_ANSWER_BYTES, `the search answer of ${host}`)
    if (answer.status === 404 && named) return this.#catalogue(host, words, limit, options)
    if (answer.status !== 200) throw new EngineError('failed', `Unexpected status code ${answer.status}`)
    const { results } = parseDocument<{ results?: Record<string, unknown>[] }>(body, `the search answer of ${host}`)
    return (Array.isArray(results) ? results : []).slice(0, limit).map(r => ({
      name: `${named ? `${host}/` : ''}${String(r['name'])}`, description: String(r['description'] ?? ''), stars: Number(r['star_count'] ?? 0),
      official: r['is_official'] === true, automated: r['is_automated'] === true,
    }))
  }

  async #catalogue(host: string, words: string, limit: number, options: { auth?: RegistryAuth; signal?: AbortSignal }): Promise<SearchResult[]> {
    const names = await this.repository(host, '', options.auth === undefined ? {} : { auth: options.auth }).catalogue(options.signal)
    return names.filter(n => n.includes(words.toLowerCase())).slice(0, limit)
      .map(n => ({ name: `${host}/${n}`, description: '', stars: 0, official: false, automated: false }))
  }

  /** What a registry has under a reference, nothing of it stored. */
  async inspect(reference: string, auth?: RegistryAuth): Promise<{ mediaType: string; digest: string; sizeBytes: number; platforms: Platform[] }> {
    const parsed = parseReference(reference)
    const repository = this.reader(parsed.host, parsed.path, auth === undefined ? {} : { auth })
    const found = await repository.manifest(parsed.digest ?? parsed.tag ?? 'latest')
    const out = { mediaType: found.mediaType, digest: found.digest, sizeBytes: found.bytes.length }
    if (isIndexType(found.mediaType)) {
      const index = parseDocument<Index>(found.bytes, found.digest)
      return { ...out, platforms: index.manifests.flatMap(m => (m.platform === undefined ? [] : [m.platform])) }
    }
    const { config } = parseDocument<Manifest>(found.bytes, found.digest)
    const bytes = await readBody((await repository.blob(config, 0)).stream, MAX_ANSWER_BYTES, `the configuration of ${reference}`)
    const { os, architecture, variant } = parseDocument<ConfigFile>(bytes, config.digest)
    return { ...out, platforms: [{ os, architecture, ...(variant === undefined ? {} : { variant }) }] }
  }
}

/** `https://index.docker.io/v1/` and '' are Docker Hub; else the host of a URL, or the text itself. */
export function registryHost(server: string): string {
  const host = server.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
  return host === '' || host === SEARCH_HOST || host === 'registry-1.docker.io' ? HUB_HOST : host
}
