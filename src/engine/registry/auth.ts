/** The distribution protocol's authentication: Basic, and tokens from the service a 401 points to. */
import { EngineError } from '../engine.ts'
import type { RegistryAuth } from '../engine.ts'
import type { Agent } from 'node:https'
import { http, readBody } from './http.ts'
import { RegistryError } from './source.ts'

export interface Challenge { scheme: string; parameters: Record<string, string> }

/** `Bearer realm="…",service="…"`; several schemes may share the header. */
export function parseChallenges(header: string): Challenge[] {
  const out: Challenge[] = []
  const token = /([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/g
  for (const m of header.matchAll(token)) {
    const [, name, quoted, bare] = m
    if (quoted === undefined && bare === undefined) out.push({ scheme: name!.toLowerCase(), parameters: {} })
    else if (out.length > 0) out.at(-1)!.parameters[name!.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? bare!
  }
  return out
}

const TOKEN_TIMEOUT_MS = 15_000
/** Tokens without a life time are good for this long, by the specification. */
const DEFAULT_SECONDS = 60

/** One registry's credentials and the tokens got with them. */
export class Authorizer {
  readonly #auth: RegistryAuth
  readonly #tokens = new Map<string, { header: string; untilMs: number }>()
  readonly #agent: Agent | undefined
  readonly #wantsRefresh: boolean
  #basic = false
  /** The newest that the token service gave. */
  refreshToken: string | undefined

  /** `wantsRefresh`: ask for a refresh token too, as a login does. */
  constructor(auth: RegistryAuth = {}, options: { agent?: Agent; wantsRefresh?: boolean } = {}) {
    // Docker's convention: this user name says that the password is a refresh token.
    this.#auth = auth.username === '<token>' && auth.password !== undefined ? { identityToken: auth.password } : auth
    this.#agent = options.agent
    this.#wantsRefresh = options.wantsRefresh === true
  }

  /** The header to send for a scope such as `repository:library/redis:pull`, if one is known to be needed. */
  header(scope: string): string | undefined {
    if (this.#auth.token !== undefined) return `Bearer ${this.#auth.token}`
    if (this.#basic) return this.#basicHeader()
    const token = this.#tokens.get(scope)
    return token !== undefined && token.untilMs > Date.now() ? token.header : undefined
  }

  /** Whether a password could be sent. */
  get hasPassword(): boolean { return this.#auth.username !== undefined }

  #basicHeader(): string | undefined {
    if (this.#auth.username === undefined) return undefined
    return `Basic ${Buffer.from(`${this.#auth.username}:${this.#auth.password ?? ''}`).toString('base64')}`
  }

  /** Answers a 401; false if there is nothing (more) to try. `secure`: whether the registry is reached by HTTPS. */
  async answer(header: string, scopes: string[], secure: boolean, signal?: AbortSignal): Promise<boolean> {
    const scope = scopes.join(' ')
    for (const c of parseChallenges(header)) {
      if (c.scheme === 'bearer' && c.parameters['realm'] !== undefined && this.#auth.token === undefined) {
        this.#tokens.set(scope, await this.#fetchToken(c.parameters, scopes, secure, signal))
        return true
      }
      if (c.scheme === 'basic' && this.#auth.username !== undefined && !this.#basic) {
        this.#basic = true
        return true
      }
    }
    return false
  }

  async #fetchToken(
    p: Record<string, string>, scopes: string[], secure: boolean, signal?: AbortSignal,
  ): Promise<{ header: string; untilMs: number }> {
    let url: URL
    try {
      url = new URL(p['realm']!)
    } catch {
      throw new EngineError('failed', `the registry names no valid token service: "${p['realm']}"`)
    }
    if (url.protocol !== 'https:' && (secure || url.protocol !== 'http:')) {
      throw new EngineError('failed', `the registry's token service ${url.origin} is not HTTPS`)
    }
    const refresh = this.#auth.identityToken
    // The token service may have another authority than the registry, unless it is the same host.
    const agent = url.protocol === 'https:' && this.#agent !== undefined ? { agent: this.#agent } : {}
    let response
    if (refresh !== undefined) {
      const form = new URLSearchParams({
        grant_type: 'refresh_token', service: p['service'] ?? '', scope: scopes.join(' '), client_id: 'docker', refresh_token: refresh,
        ...(this.#wantsRefresh ? { access_type: 'offline' } : {}),
      })
      response = await http({
        method: 'POST', url, headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: Buffer.from(form.toString()), ...agent,
        stallMs: TOKEN_TIMEOUT_MS, signal,
      })
    } else {
      if (p['service'] !== undefined) url.searchParams.set('service', p['service'])
      for (const s of scopes) url.searchParams.append('scope', s)
      const basic = this.#basicHeader()
      if (this.#wantsRefresh) {
        url.searchParams.set('offline_token', 'true')
        url.searchParams.set('client_id', 'docker')
      }
      if (this.#auth.username !== undefined) url.searchParams.set('account', this.#auth.username)
      response = await http({ method: 'GET', url, headers: basic === undefined ? {} : { authorization: basic }, ...agent, stallMs: TOKEN_TIMEOUT_MS, signal })
    }
    const body = (await readBody(response.body, 1 << 20, 'the answer of the token service')).toString()
    if (response.status !== 200) {
      if (response.status === 401 || response.status === 403) {
        const detail = `unauthorized: the token service ${url.host} refused the user name or password`
        throw new RegistryError('failed', detail, 'unauthorized', detail)
      }
      throw new EngineError(response.status >= 500 ? 'unavailable' : 'failed', `the token service ${url.host} answered ${response.status}`)
    }
    let answer: { token?: unknown; access_token?: unknown; expires_in?: unknown; refresh_token?: unknown }
    try {
      answer = JSON.parse(body) as typeof answer
    } catch {
      throw new EngineError('failed', `the token service ${url.host} did not answer with JSON`)
    }
    const token = answer.token ?? answer.access_token
    if (typeof token !== 'string' || token === '' || /[\r\n]/.test(token)) throw new EngineError('failed', `the token service ${url.host} gave no token`)
    if (typeof answer.refresh_token === 'string' && answer.refresh_token !== '') this.refreshToken = answer.refresh_token
    const seconds = typeof answer.expires_in === 'number' ? Math.max(answer.expires_in, DEFAULT_SECONDS) : DEFAULT_SECONDS
    // Renewed a little early: it must last for the request it is fetched for.
    return { header: `Bearer ${token}`, untilMs: Date.now() + (seconds - 10) * 1000 }
  }
}
