/**
 * The HTTPS front: one port for HTTP/1.1 and HTTP/2. Each request is parsed, authenticated and authorised, and handed to the
 * generic REST, to a mounted part, or to what the server says about itself.
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { createSecureServer } from 'node:http2'
import type { Http2SecureServer, Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Client } from '../core/client.ts'
import { ApiError } from '../core/errors.ts'
import type { Kind, KindTable } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import { parseBody, validateShape } from '../core/schema/decode.ts'
import type { ApiObject } from '../core/types/index.ts'
import type { ServerConfig } from '../machines/layout.ts'
import { forbidden } from './auth/forbidden.ts'
import type { Health, Metrics } from './health.ts'
import type {
  Attributes, Context, Decision, Handler, Request, RequestInfo, Response, ServerHost, UpgradeHandler, User, VirtualResource,
} from './host.ts'
import type { Lister } from './listing.ts'
import type { Registry } from './registry.ts'
import { readBody } from './rest/body.ts'
import { Meta } from './rest/meta.ts'
import { attributesOf, requestInfo } from './rest/request-info.ts'
import { refuseUpgrade, sendError, sendJson } from './rest/respond.ts'
import { Verbs } from './rest/verbs.ts'

const MUTATING = new Set(['create', 'update', 'patch', 'delete', 'deletecollection'])
const MUTATING_TIMEOUT_MS = 34_000
/** Requests answered at a time; more are told to come back. Watches and streams do not count. */
const MAX_IN_FLIGHT = 3000
const KEEP_ALIVE_MS = 120_000
const MAX_SESSION_MEMORY_MB = 512
/** So much of an upload may be under way. */
const STREAM_WINDOW_BYTES = 1 << 20
const CLOSE_WAIT_MS = 5000

export interface ApiServerParts {
  config: ServerConfig
  registry: Registry
  client: Client
  lister: Lister
  health: Health
  metrics: Metrics
  log: Logger
  authenticate(req: Request): Promise<User | undefined>
  authorize(user: User, attributes: Attributes): Decision
}

const longest = <T>(entries: { prefix: string; handler: T }[], path: string): T | undefined => {
  let best: { prefix: string; handler: T } | undefined
  for (const e of entries) {
    if (path.startsWith(e.prefix) && (path.length === e.prefix.length || path[e.prefix.length] === '/') && e.prefix.length > (best?.prefix.length ?? -1)) best = e
  }
  return best?.handler
}

export class ApiServer implements ServerHost {
  readonly config: ServerConfig
  readonly kinds: KindTable
  readonly registry: Registry
  readonly client: Client
  readonly log: Logger
  readonly #parts: ApiServerParts
  readonly #verbs: Verbs
  readonly #meta: Meta
  readonly #handlers: { prefix: string; handler: Handler }[] = []
  readonly #upgrades: { prefix: string; handler: UpgradeHandler }[] = []
  readonly #subresources = new Map<string, Handler>()
  readonly #subresourceUpgrades = new Map<string, UpgradeHandler>()
  readonly #virtual = new Map<string, VirtualResource>()
  readonly #server: Http2SecureServer
  readonly #sockets = new Set<Socket>()
  readonly #sessions = new Set<Http2Session>()
  #inFlight = 0
  #closing = false

  constructor(parts: ApiServerParts) {
    this.#parts = parts
    this.config = parts.config
    this.registry = parts.registry
    this.kinds = parts.registry.kinds
    this.client = parts.client
    this.log = parts.log
    this.#verbs = new Verbs(parts.registry, parts.lister)
    this.#meta = new Meta(this.kinds, new URL(parts.config.advertise).host, parts.health, parts.metrics)
    parts.metrics.gauge('apiserver_watches', 'Watch streams open.', () => this.#verbs.watches.size)
    parts.metrics.gauge('apiserver_current_inflight_requests', 'Requests being answered.', () => this.#inFlight)
    const { tls } = parts.config
    this.#server = createSecureServer({
      allowHTTP1: true, minVersion: 'TLSv1.2', cert: readFileSync(tls.cert), key: readFileSync(tls.key), ca: readFileSync(tls.ca),
      // Clients may also show a bearer token: a certificate is looked at, not demanded.
      requestCert: true, rejectUnauthorized: false,
      // Answers that wait for a client count here; at Node's 10 MB a few lists at a time would be refused.
      maxSessionMemory: MAX_SESSION_MEMORY_MB, settings: { initialWindowSize: STREAM_WINDOW_BYTES },
    })
    const server = this.#server as Http2SecureServer & { keepAliveTimeout: number }
    server.keepAliveTimeout = KEEP_ALIVE_MS
    server.on('request', (req, res) => this.#onRequest(req as Request, res as Response))
    server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => void this.#onUpgrade(req, socket, head))
    server.on('secureConnection', socket => {
      this.#sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => socket.destroy())
    })
    server.on('session', session => {
      this.#sessions.add(session)
      session.on('close', () => this.#sessions.delete(session))
      session.on('error', () => session.destroy())
    })
    server.on('tlsClientError', (_e, socket) => socket.destroy())
  }

  authenticate(req: Request): Promise<User | undefined> { return this.#parts.authenticate(req) }
  authorize(user: User, attributes: Attributes): Decision { return this.#parts.authorize(user, attributes) }
  handle(prefix: string, handler: Handler): void { this.#handlers.push({ prefix, handler }) }
  onUpgrade(prefix: string, handler: UpgradeHandler): void { this.#upgrades.push({ prefix, handler }) }
  handleSubresource(kind: Kind, subresource: string, handler: Handler): void {
    this.#subresources.set(`${kind.apiVersion}/${kind.plural}/${subresource}`, handler)
  }
  onSubresourceUpgrade(kind: Kind, subresource: string, handler: UpgradeHandler): void {
    this.#subresourceUpgrades.set(`${kind.apiVersion}/${kind.plural}/${subresource}`, handler)
  }
  addVirtual(resource: VirtualResource): void { this.#virtual.set(`${resource.kind.apiVersion}/${resource.kind.plural}`, resource) }

  async readObject({ req }: Context): Promise<ApiObject | undefined> {
    const bytes = await readBody(req)
    if (bytes.length === 0) return undefined
    const { value } = parseBody(bytes, req.headers['content-type'])
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ApiError('BadRequest', 'the body is not an object')
    return value as ApiObject
  }

  reply(res: Response, code: number, body: unknown): void { sendJson(res, code, JSON.stringify(body)) }
  replyError(res: Response, error: unknown): void { sendError(res, error, this.log) }
  refuse(socket: Duplex, error: unknown): void { refuseUpgrade(socket, error, this.log) }

  /** Resolves with the port when it listens. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ ...this.config.listen, backlog: 1024 }, () => {
        this.#server.off('error', reject)
        this.#server.on('error', e => this.log.error('the server failed', { error: String(e) }))
        resolve((this.#server.address() as { port: number }).port)
      })
    })
  }

  /** Takes no more connections, ends watches, lets requests finish (at most 5 s), then cuts what is left. */
  async close(): Promise<void> {
    this.#closing = true
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()))
    this.#verbs.watches.close()
    for (const s of this.#sessions) s.close()
    const end = Date.now() + CLOSE_WAIT_MS
    while (this.#inFlight > 0 && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 20))
    for (const s of this.#sockets) s.destroySoon()
    const cut = setTimeout(() => { for (const s of this.#sockets) s.destroy() }, 200)
    await closed
    clearTimeout(cut)
  }

  #onRequest(req: Request, res: Response): void {
    const startMs = performance.now()
    const context = { req, info: undefined as RequestInfo | undefined }
    let counted = false
    if (this.#inFlight >= MAX_IN_FLIGHT) {
      return sendError(res, new ApiError('TooManyRequests', 'too many requests, please try again later', { retryAfterSeconds: 1 }), this.log)
    }
    let timer: NodeJS.Timeout | undefined
    const done = (): void => {
      clearTimeout(timer)
      if (counted) this.#inFlight--
      counted = false
      const { info } = context
      this.#parts.metrics.observe(info?.kind === undefined ? 'other' : info.verb, info?.kind?.plural ?? '', res.statusCode, performance.now() - startMs)
    }
    res.on('close', done)
    res.on('error', () => {})
    try {
      const info = context.info = requestInfo(req.method ?? 'GET', req.url ?? '/', this.kinds)
      if (info.kind !== undefined && info.verb !== 'watch' && (info.subresource === '' || info.subresource === 'status')) {
        counted = true
        this.#inFlight++
        if (MUTATING.has(info.verb)) {
          timer = setTimeout(() => {
            if (!res.headersSent) sendError(res, new ApiError('Timeout', 'the request did not complete within 34 s'), this.log)
          }, MUTATING_TIMEOUT_MS)
        }
      }
      this.#serve(req, info, res).catch((e: unknown) => sendError(res, e, this.log))
    } catch (e) {
      sendError(res, e, this.log)
    }
  }

  /** Authenticated; a path that names a resource is authorised too. Throws Unauthorized or Forbidden. */
  async #admitted(req: Request, info: RequestInfo): Promise<Context> {
    const user = await this.#parts.authenticate(req)
    if (user === undefined) throw new ApiError('Unauthorized', 'Unauthorized')
    let query: URLSearchParams | undefined
    return { req, info, user, get query() { return query ??= new URLSearchParams(info.search) } }
  }

  #check({ user, info }: Context): void {
    const attributes = attributesOf(info)
    const decision = this.#parts.authorize(user, attributes)
    if (!decision.allowed) throw forbidden(user, attributes, decision.reason)
  }

  async #serve(req: Request, info: RequestInfo, res: Response): Promise<void> {
    const context = await this.#admitted(req, info)
    const { kind } = info
    if (kind !== undefined) {
      this.#check(context)
      if (await this.#verbs.serve(context, kind, res)) return
      const handler = this.#subresources.get(`${kind.apiVersion}/${kind.plural}/${info.subresource}`)
      if (handler !== undefined) return handler(context, res)
      throw info.subresource === '' || kind.subresources?.includes(info.subresource) === true
        ? new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource')
        : unknownPath()
    }
    const handler = longest(this.#handlers, info.path)
    if (handler !== undefined) return handler(context, res)
    const virtual = info.resource === '' ? undefined : this.#virtual.get(`${info.group === '' ? info.version : `${info.group}/${info.version}`}/${info.resource}`)
    if (virtual !== undefined) return this.#createVirtual(virtual, context, res)
    this.#check({ ...context, info: { ...info, resource: '' } })
    if (!await this.#meta.serve(context, res)) throw unknownPath()
  }

  async #createVirtual(virtual: VirtualResource, context: Context, res: Response): Promise<void> {
    this.#check(context)
    if (context.info.verb !== 'create') throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource')
    const { value, duplicates } = parseBody(await readBody(context.req), context.req.headers['content-type'])
    const { object } = validateShape(virtual.kind, value, 'Warn', duplicates)
    this.reply(res, 201, await virtual.create(object, context))
  }

  async #onUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy())
    try {
      if (this.#closing) throw new ApiError('ServiceUnavailable', 'the server is shutting down')
      const info = requestInfo(req.method ?? 'GET', req.url ?? '/', this.kinds)
      const context = await this.#admitted(req, info)
      if (info.kind !== undefined) {
        this.#check(context)
        const handler = this.#subresourceUpgrades.get(`${info.kind.apiVersion}/${info.kind.plural}/${info.subresource}`)
        if (handler === undefined) throw new ApiError('BadRequest', `${info.path} cannot be upgraded`)
        return await handler(context, socket, head)
      }
      const handler = longest(this.#upgrades, info.path)
      if (handler === undefined) throw new ApiError('BadRequest', `${info.path} cannot be upgraded`)
      await handler(context, socket, head)
    } catch (e) {
      this.refuse(socket, e)
    }
  }
}

function unknownPath(): ApiError { return new ApiError('NotFound', 'the server could not find the requested resource', {}) }
