/**
 * Who sends a request: a client certificate (CN is the user, O the groups), a static token, or a ServiceAccount's token;
 * and whom it acts for (impersonation headers).
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Http2ServerRequest } from 'node:http2'
import type { TLSSocket } from 'node:tls'
import type { Client } from '../../core/client.ts'
import { ApiError } from '../../core/errors.ts'
import { nodes, pods, secrets, serviceAccounts } from '../../core/kinds.ts'
import type { Kind } from '../../core/kinds.ts'
import type { ApiObject } from '../../core/types/index.ts'
import type { Attributes, Decision, Request, User } from '../host.ts'
import { serviceAccountUser } from './authorizer.ts'
import { forbidden } from './forbidden.ts'
import type { ServiceAccountTokens, TokenClaims } from './service-account-tokens.ts'

const AUTHENTICATED = 'system:authenticated'
const PUBLIC_PATH = /^\/(livez|readyz|healthz|version)(\/|\?|$)/
/** Browsers can set no header on a WebSocket: Kubernetes lets them put the token into a sub-protocol's name. */
const PROTOCOL_TOKEN = 'base64url.bearer.authorization.k8s.io.'
const EXTRA_HEADER = 'impersonate-extra-'
const ANONYMOUS: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] }

export interface AuthenticatorOptions {
  /** File of static tokens: JSON `[{token, user, groups}]`; read once. */
  tokensFile?: string | undefined
  tokens: ServiceAccountTokens
  /** For the objects that ServiceAccounts' tokens are bound to. */
  client: Client
  /** For impersonation. */
  authorize(user: User, attributes: Attributes): Decision
}

interface CertificateUser { user: User; expiresAtMs: number }

export class Authenticator {
  readonly #options: AuthenticatorOptions
  /** By SHA-256, so that the time of a look-up says nothing about the token. */
  readonly #static: Map<string, User>
  /** By TLS connection; null: it showed no certificate that we trust. */
  readonly #byConnection = new WeakMap<object, CertificateUser | null>()
  /** One object for one ServiceAccount token, so that what is cached by user is found again. */
  readonly #byClaims = new WeakMap<TokenClaims, User>()

  /** Throws when the file of static tokens is not as it should be. */
  constructor(options: AuthenticatorOptions) {
    this.#options = options
    this.#static = options.tokensFile === undefined ? new Map() : readStaticTokens(options.tokensFile)
  }

  /**
   * The user; `system:anonymous` for the health and version paths; undefined for all others who are not known (401).
   * Rejects with Forbidden for an impersonation that the user has no right to.
   */
  async authenticate(req: Request): Promise<User | undefined> {
    const user = this.#certificateUser(req) ?? await this.#tokenUser(req)
    if (user === undefined) return PUBLIC_PATH.test(req.url ?? '') ? ANONYMOUS : undefined
    return req.headers['impersonate-user'] === undefined && req.headers['impersonate-group'] === undefined
      && req.headers['impersonate-uid'] === undefined ? user : this.#impersonate(user, req)
  }

  /** The user behind a bearer token, for TokenReview; undefined if it is not valid for one of the audiences. */
  async userOfToken(token: string, audiences?: readonly string[]): Promise<{ user: User; audiences: string[] } | undefined> {
    const known = this.#static.get(digest(token))
    const { tokens } = this.#options
    if (known !== undefined) {
      return audiences?.length && !audiences.includes(tokens.issuer) ? undefined : { user: known, audiences: [tokens.issuer] }
    }
    const claims = await tokens.verify(token)
    if (claims === undefined) return undefined
    const accepted = claims.aud.filter((a) => (audiences?.length ? audiences : [tokens.issuer]).includes(a))
    if (accepted.length === 0 || !await this.#stillBound(claims)) return undefined
    return { user: this.#serviceAccount(claims), audiences: accepted }
  }

  #certificateUser(req: Request): User | undefined {
    const connection = connectionOf(req)
    let known = this.#byConnection.get(connection)
    if (known === undefined) {
      known = readCertificate((connection as { socket?: TLSSocket }).socket ?? connection as TLSSocket) ?? null
      this.#byConnection.set(connection, known)
    }
    // A connection may outlive its certificate.
    return known !== null && known.expiresAtMs > Date.now() ? known.user : undefined
  }

  async #tokenUser(req: Request): Promise<User | undefined> {
    const token = bearerToken(req)
    return token === undefined ? undefined : (await this.userOfToken(token))?.user
  }

  /** Whether the ServiceAccount, and the object the token is bound to, still are the ones it was made for. */
  async #stillBound(claims: TokenClaims): Promise<boolean> {
    const { namespace, serviceaccount, pod, secret, node } = claims['kubernetes.io']
    if (!await this.#alive(serviceAccounts, namespace, serviceaccount)) return false
    if (pod !== undefined) return this.#alive(pods, namespace, pod)
    if (secret !== undefined) return this.#alive(secrets, namespace, secret)
    if (node?.uid !== undefined) return this.#alive(nodes, undefined, { name: node.name, uid: node.uid })
    return true
  }

  async #alive<T extends ApiObject>(
    kind: Kind<T>, namespace: string | undefined, { name, uid }: { name: string; uid: string },
  ): Promise<boolean> {
    try {
      return (await this.#options.client.get(kind, { namespace, name })).metadata.uid === uid
    } catch {
      return false
    }
  }

  #serviceAccount(claims: TokenClaims): User {
    const known = this.#byClaims.get(claims)
    if (known !== undefined) return known
    const { namespace, serviceaccount, pod, node } = claims['kubernetes.io']
    const prefix = 'authentication.kubernetes.io/'
    const user: User = {
      name: serviceAccountUser(namespace, serviceaccount.name), uid: serviceaccount.uid,
      groups: [...serviceAccountGroups(namespace), AUTHENTICATED],
      extra: {
        [`${prefix}credential-id`]: [`JTI=${claims.jti}`],
        ...(pod && { [`${prefix}pod-name`]: [pod.name], [`${prefix}pod-uid`]: [pod.uid] }),
        ...(node && { [`${prefix}node-name`]: [node.name] }),
        ...(node?.uid !== undefined && { [`${prefix}node-uid`]: [node.uid] }),
      },
    }
    this.#byClaims.set(claims, user)
    return user
  }

  #impersonate(user: User, req: Request): User {
    const headers = headerPairs(req)
    const name = headers.find(([k]) => k === 'impersonate-user')?.[1]
    if (!name) throw new ApiError('BadRequest', 'Impersonate-Group and Impersonate-Uid need an Impersonate-User')
    const groups = headers.filter(([k]) => k === 'impersonate-group').map(([, v]) => v)
    const uid = headers.find(([k]) => k === 'impersonate-uid')?.[1]
    const extra: Record<string, string[]> = {}
    for (const [key, value] of headers) {
      if (key.startsWith(EXTRA_HEADER)) (extra[decodeKey(key.slice(EXTRA_HEADER.length))] ??= []).push(value)
    }
    const need = (attributes: Omit<Attributes, 'verb'>) => {
      const asked = { verb: 'impersonate', ...attributes }
      const decision = this.#options.authorize(user, asked)
      if (!decision.allowed) throw forbidden(user, asked, decision.reason)
    }
    const [, namespace, account] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name) ?? []
    if (namespace !== undefined) need({ group: '', resource: 'serviceaccounts', namespace, name: account! })
    else need({ group: '', resource: 'users', name })
    for (const group of groups) need({ group: '', resource: 'groups', name: group })
    const authentication = 'authentication.k8s.io'
    if (uid !== undefined) need({ group: authentication, resource: 'uids', name: uid })
    for (const [key, values] of Object.entries(extra)) {
      for (const value of values) need({ group: authentication, resource: 'userextras', subresource: key, name: value })
    }
    if (groups.length === 0 && namespace !== undefined) groups.push(...serviceAccountGroups(namespace))
    if (name !== ANONYMOUS.name && !groups.includes(AUTHENTICATED)) groups.push(AUTHENTICATED)
    return { name, groups, ...(uid !== undefined && { uid }), ...(Object.keys(extra).length > 0 && { extra }) }
  }
}

/** Node gives a proxy as an HTTP/2 request's socket, a new one each time: its session is the identity. */
function connectionOf(req: Request): object {
  return (req as Http2ServerRequest).stream?.session ?? req.socket
}

function readCertificate(socket: TLSSocket): CertificateUser | undefined {
  if (socket.authorized !== true) return undefined
  const { subject, valid_to } = socket.getPeerCertificate()
  const [name] = [subject?.CN ?? []].flat()
  if (!name) return undefined
  return { user: { name, groups: [...[subject.O ?? []].flat(), AUTHENTICATED] }, expiresAtMs: Date.parse(valid_to) }
}

function bearerToken(req: Request): string | undefined {
  const header = req.headers.authorization
  if (header !== undefined) return /^Bearer\s+(\S+)$/i.exec(header)?.[1]
  const protocols = req.headers['sec-websocket-protocol']
  const protocol = protocols?.split(',').map((p) => p.trim()).find((p) => p.startsWith(PROTOCOL_TOKEN))
  return protocol === undefined ? undefined : Buffer.from(protocol.slice(PROTOCOL_TOKEN.length), 'base64url').toString()
}

/** Repeated headers stay apart: a group's name may hold a comma. */
function headerPairs(req: Request): [string, string][] {
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < req.rawHeaders.length; i += 2) pairs.push([req.rawHeaders[i]!.toLowerCase(), req.rawHeaders[i + 1]!])
  return pairs
}

/** Keys of extra fields are percent-encoded where a header's name cannot hold them. */
function decodeKey(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new ApiError('BadRequest', `header "${EXTRA_HEADER}${text}" is not percent-encoded as it should be`)
  }
}

function serviceAccountGroups(namespace: string): string[] {
  return ['system:serviceaccounts', `system:serviceaccounts:${namespace}`]
}

function readStaticTokens(path: string): Map<string, User> {
  const list = JSON.parse(readFileSync(path, 'utf8')) as unknown
  if (!Array.isArray(list)) throw new Error(`${path}: expected a JSON list of {token, user, groups}`)
  return new Map(list.map((entry: { token?: unknown; user?: unknown; groups?: unknown }, i) => {
    const { token, user, groups = [] } = entry
    if (typeof token !== 'string' || token === '' || typeof user !== 'string' || !Array.isArray(groups)) {
      throw new Error(`${path}: entry ${i} needs a token and a user (strings) and groups (a list)`)
    }
    return [digest(token), { name: user, groups: [...groups.map(String), AUTHENTICATED] }]
  }))
}

function digest(token: string): string { return createHash('sha256').update(token).digest('base64') }
