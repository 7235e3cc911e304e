/**
 * What the server offers to the parts mounted on it: dialects, streams, the node tunnel, reviews. They get this and
 * nothing else of the server, so each can be tested against a small fake.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import type { Duplex } from 'node:stream'
import type { Client } from '../core/client.ts'
import type { Kind, KindTable } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import type { ApiObject } from '../core/types/index.ts'
import type { ServerConfig } from '../machines/layout.ts'
import type { Registry } from './registry.ts'

export type Request = IncomingMessage | Http2ServerRequest
export type Response = ServerResponse | Http2ServerResponse

/** Who asks. */
export interface User {
  name: string
  uid?: string
  groups: string[]
  extra?: Record<string, string[]>
}

/** What is asked, for authorisation. `path` is set for requests that name no resource. */
export interface Attributes {
  verb: string
  group?: string
  version?: string
  resource?: string
  subresource?: string
  namespace?: string
  name?: string
  path?: string
}

/** `reason` says why it was refused. */
export interface Decision { allowed: boolean; reason?: string }

/** What the path and method of a request mean. */
export interface RequestInfo {
  /** Path without the query, still percent-encoded. */
  path: string
  /** Text after `?`, without it; empty if none. */
  search: string
  /** Kubernetes' verb: get, list, watch, create, update, patch, delete, deletecollection; else the lower-case method. */
  verb: string
  group: string
  version: string
  /** Plural; empty for a path that names no resource. */
  resource: string
  subresource: string
  namespace: string
  name: string
  /** The rest of the path below a sub-resource, e.g. of `proxy`; without its first slash. */
  rest: string
  kind: Kind | undefined
}

/** One authenticated request. */
export interface Context {
  req: Request
  info: RequestInfo
  user: User
  /** Parsed on first use. */
  query: URLSearchParams
}

export type Handler = (context: Context, res: Response) => void | Promise<void>
/** The socket is the handler's from here on: it answers 101 or an HTTP error itself (see {@link ServerHost.refuse}). */
export type UpgradeHandler = (context: Context, socket: Duplex, head: Buffer) => void | Promise<void>

/** A resource that can only be POSTed and is never stored, e.g. SelfSubjectAccessReview. */
export interface VirtualResource {
  kind: Kind
  create(object: ApiObject, context: Context): Promise<ApiObject>
}

export interface ServerHost {
  readonly config: ServerConfig
  readonly kinds: KindTable
  readonly registry: Registry
  /** In process: shared frozen objects, no HTTP, all rights. */
  readonly client: Client
  readonly log: Logger
  authenticate(req: Request): Promise<User | undefined>
  authorize(user: User, attributes: Attributes): Decision
  /**
   * Serves every path equal to or below `prefix` (no trailing slash). The request is authenticated; the handler authorises
   * it. What it throws is answered as a Status.
   */
  handle(prefix: string, handler: Handler): void
  onUpgrade(prefix: string, handler: UpgradeHandler): void
  /** Serves a sub-resource of a kind, authenticated and authorised, for every method not answered by the generic REST. */
  handleSubresource(kind: Kind, subresource: string, handler: Handler): void
  /** The same for requests with `Connection: Upgrade`. */
  onSubresourceUpgrade(kind: Kind, subresource: string, handler: UpgradeHandler): void
  /** Serves a create-only resource. */
  addVirtual(resource: VirtualResource): void
  /** Reads and decodes a request body by its Content-Type (JSON, YAML, protobuf); undefined if there is none. ≤ 3 MiB. */
  readObject(context: Context): Promise<ApiObject | undefined>
  /** Answers with JSON. */
  reply(res: Response, code: number, body: unknown): void
  /** Answers with a Status made of the error (anything but an ApiError becomes 500 InternalError). */
  replyError(res: Response, error: unknown): void
  /** Writes an HTTP/1.1 error answer with a Status body to an upgraded socket and closes it. */
  refuse(socket: Duplex, error: unknown): void
}
