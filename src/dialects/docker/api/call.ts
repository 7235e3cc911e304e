/** One request and its answer, as routes see them. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Logger } from '../../../core/log.ts'
import type { DockerBackend } from '../backend.ts'
import { hasBody, readJson, upload } from './body.ts'
import type { Query } from './query.ts'
import type { Shape } from './shapes.ts'
import type { ApiMinor } from './version-number.ts'

export interface ApiOptions {
  /** Version of the daemon, for the header `Server` and old clients, e.g. `28.2.2`. */
  serverVersion: string
  experimental?: boolean
  logger: Logger
}

export class Call {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly backend: DockerBackend
  readonly options: ApiOptions
  readonly version: ApiMinor
  /** Those of every answer. */
  readonly headers: Record<string, string>
  readonly query: Query
  readonly params: Record<string, string>
  /** The connection, if the client has asked to upgrade it and the path allows that. */
  readonly upgrade: { socket: Duplex; head: Buffer } | undefined
  /** Set when the connection carries something else than HTTP from now on. */
  hijacked = false
  #gone: AbortController | undefined

  constructor(fields: Pick<Call, 'req' | 'res' | 'backend' | 'options' | 'version' | 'headers' | 'query' | 'params' | 'upgrade'>) {
    this.req = fields.req
    this.res = fields.res
    this.backend = fields.backend
    this.options = fields.options
    this.version = fields.version
    this.headers = fields.headers
    this.query = fields.query
    this.params = fields.params
    this.upgrade = fields.upgrade
  }

  /** The container, image … of the path. */
  get name(): string { return this.params['name']! }

  /** Aborted when the client goes before its answer is complete. */
  get gone(): AbortSignal {
    if (this.#gone === undefined) {
      const controller = this.#gone = new AbortController()
      const check = (): void => { if (!this.res.writableFinished) controller.abort(new Error('the client has gone')) }
      if (this.res.destroyed || this.req.socket.destroyed) check()
      else this.res.once('close', check)
    }
    return this.#gone.signal
  }

  /** The JSON body in its shape; an empty object if there is none. */
  async json<T>(shape: Shape): Promise<T> {
    return shape(await readJson(this.req) ?? {}, '') as T
  }

  get hasBody(): boolean { return hasBody(this.req) }
  body(): Readable { return upload(this.req) }

  sendJson(status: number, value: unknown): void {
    this.#whole(status, 'application/json', JSON.stringify(value) + '\n')
  }

  sendText(status: number, text: string): void { this.#whole(status, 'text/plain; charset=utf-8', text) }

  #whole(status: number, type: string, text: string): void {
    const bytes = Buffer.from(text)
    this.res.writeHead(status, { 'Content-Type': type, 'Content-Length': bytes.length })
    this.res.end(this.req.method === 'HEAD' ? undefined : bytes)
  }

  sendEmpty(status: number): void {
    // Answers of these two have no length by their nature.
    this.res.writeHead(status, status === 204 || status === 304 ? {} : { 'Content-Length': 0 }).end()
  }

  /** The header of an answer of unknown length, sent at once. */
  begin(type: string, headers: Record<string, string> = {}): void {
    this.res.writeHead(200, { 'Content-Type': type, ...headers })
    this.res.flushHeaders()
  }

  /** Bytes as the whole answer. If they fail midway the connection breaks, for a status has been sent. */
  async sendStream(type: string, source: Readable, headers: Record<string, string> = {}): Promise<void> {
    this.begin(type, headers)
    await pipeline(source, this.res)
  }

  /** One line of a stream of JSON; resolves when the client can take more, or has gone. */
  async sendLine(value: unknown): Promise<void> {
    if (this.res.write(JSON.stringify(value) + '\n') || this.res.destroyed) return
    await new Promise<void>(resolve => {
      const done = (): void => {
        this.res.off('drain', done)
        this.res.off('close', done)
        resolve()
      }
      this.res.on('drain', done)
      this.res.on('close', done)
    })
  }
}

export type Handler = (call: Call) => Promise<void> | void
