/**
 * The server's ends of the node tunnels: at most one HTTP/2 session for each node, over the connection its agent dialled.
 * Everything that reaches a node (logs, exec, attach, port-forward, stats, images) is one stream of that session.
 */
import { connect, constants } from 'node:http2'
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2'
import type { Socket } from 'node:net'
import type { Duplex, Readable } from 'node:stream'
import { ApiError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'

export interface TunnelsOptions {
  log: Logger
  /** Told of every change: a lost connection is the earliest sign of a lost node. */
  onState?: (node: string, connected: boolean) => void
  pingIntervalMs?: number
  /** A node that answers no ping for this long is cut off. */
  deadAfterMs?: number
  /** How long a request waits for a node that was connected until a moment ago. */
  reconnectWaitMs?: number
}

export interface TunnelRequest {
  headers?: OutgoingHttpHeaders
  /** Sent as the body; without it (and without `duplex`) the request has none. */
  body?: Readable | Uint8Array | string | undefined
  /** Leaves the request's side open: the caller writes to the returned stream. */
  duplex?: boolean
  signal?: AbortSignal | undefined
  /** Time until the answer's headers; default 30 s, 0: for ever. */
  timeoutMs?: number
}

export interface TunnelAnswer {
  status: number
  headers: IncomingHttpHeaders
  /** The answer's body; with `duplex` also writable. Ends with an error when the node is lost meanwhile. */
  body: ClientHttp2Stream
}

interface Connection { session: ClientHttp2Session; close(why: string): void }

const STREAM_WINDOW_BYTES = 1 << 20
const SESSION_WINDOW_BYTES = 16 << 20
/** Node refuses new streams beyond this; its default of 10 MB is less than what a few uploads have under way. */
const SESSION_MEMORY_MB = 512

export class Tunnels {
  readonly #connections = new Map<string, Connection>()
  /** Requests waiting for a node to come back. */
  readonly #waiting = new Map<string, Set<() => void>>()
  /** Until when a lost node is waited for, in ms since the epoch. */
  readonly #expectedUntil = new Map<string, number>()
  /** After its own start the server waits for any node: all of them are dialling. */
  readonly #allExpectedUntil: number
  readonly #options: Required<Omit<TunnelsOptions, 'onState'>>
  readonly #stateHandlers = new Set<(node: string, connected: boolean) => void>()

  constructor({ log, onState, pingIntervalMs = 1000, deadAfterMs = 2500, reconnectWaitMs = 5000 }: TunnelsOptions) {
    this.#options = { log, pingIntervalMs, deadAfterMs, reconnectWaitMs }
    this.#allExpectedUntil = Date.now() + reconnectWaitMs
    if (onState) this.#stateHandlers.add(onState)
  }

  connected(node: string): boolean { return this.#connections.has(node) }
  nodes(): string[] { return [...this.#connections.keys()] }

  /** Calls `handler` at every connection and loss. Returns a function that removes it. */
  onState(handler: (node: string, connected: boolean) => void): () => void {
    this.#stateHandlers.add(handler)
    return () => { this.#stateHandlers.delete(handler) }
  }

  /** Takes over an upgraded connection, on which the 101 is sent. An older connection of the node is closed: the newest is alive. */
  add(node: string, socket: Duplex): void {
    const { log, pingIntervalMs, deadAfterMs } = this.#options
    const session = connect('http://node', {
      createConnection: () => socket,
      maxSessionMemory: SESSION_MEMORY_MB,
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
    })
    session.once('connect', () => session.setLocalWindowSize(SESSION_WINDOW_BYTES))
    let why = 'the connection was closed'
    let answeredAt = Date.now()
    let bytesRead = 0
    let ticks = 0
    const pings = setInterval(() => {
      // Behind bulk data a ping's answer may be long in coming: whatever comes shows that the node lives.
      if ((socket as Socket).bytesRead !== bytesRead) answeredAt = Date.now()
      bytesRead = (socket as Socket).bytesRead
      if (Date.now() - answeredAt > deadAfterMs) return connection.close(`no answer for ${deadAfterMs} ms`)
      // Looked at twice as often as asked, which halves the time that a loss goes unseen.
      if (ticks++ % 2 === 1) return
      try {
        session.ping((e) => { if (e === null) answeredAt = Date.now() })
      } catch {
        // Closing: 'close' follows.
      }
    }, pingIntervalMs / 2)
    pings.unref()
    const connection: Connection = {
      session,
      close: (reason) => {
        why = reason
        session.destroy()
        socket.destroy()
      },
    }
    session.on('error', (e) => { why = e.message })
    session.once('close', () => {
      clearInterval(pings)
      socket.destroy()
      if (this.#connections.get(node) !== connection) return
      this.#connections.delete(node)
      this.#expectedUntil.set(node, Date.now() + this.#options.reconnectWaitMs)
      log.warn('node tunnel lost', { node, reason: why })
      this.#tell(node, false)
    })
    const previous = this.#connections.get(node)
    this.#connections.set(node, connection)
    previous?.close('replaced by a newer connection')
    this.#expectedUntil.delete(node)
    log.info('node tunnel connected', { node })
    if (previous === undefined) this.#tell(node, true)
    for (const wake of this.#waiting.get(node) ?? []) wake()
  }

  /** Cuts a node off, e.g. after its Node object is gone. */
  remove(node: string, why: string): void { this.#connections.get(node)?.close(why) }

  close(): void {
    for (const connection of this.#connections.values()) connection.close('the server stops')
  }

  /**
   * Sends a request to a node. Rejects with ServiceUnavailable when the node is not connected (one that was until a moment
   * ago is waited for) or is lost before its answer, and with Timeout when it does not answer in time.
   */
  async request(node: string, method: string, path: string, request: TunnelRequest = {}): Promise<TunnelAnswer> {
    const session = await this.#session(node, request.signal)
    return await exchange(session, node, method, path, request)
  }

  async #session(node: string, signal: AbortSignal | undefined): Promise<ClientHttp2Session> {
    const present = this.#connections.get(node)
    if (present !== undefined) return present.session
    const waitMs = Math.max(this.#expectedUntil.get(node) ?? 0, this.#allExpectedUntil) - Date.now()
    if (waitMs > 0) {
      await this.#wait(node, waitMs, signal)
      const returned = this.#connections.get(node)
      if (returned !== undefined) return returned.session
    }
    this.#expectedUntil.delete(node)
    throw new ApiError('ServiceUnavailable', `node "${node}" is not connected`)
  }

  #wait(node: string, ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(node) ?? new Set()
      this.#waiting.set(node, waiting)
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        waiting.delete(done)
        if (waiting.size === 0 && this.#waiting.get(node) === waiting) this.#waiting.delete(node)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
      waiting.add(done)
    })
  }

  #tell(node: string, connected: boolean): void {
    for (const handler of this.#stateHandlers) handler(node, connected)
  }
}

function exchange(
  session: ClientHttp2Session, node: string, method: string, path: string, request: TunnelRequest,
): Promise<TunnelAnswer> {
  return new Promise((resolve, reject) => {
    const { body, duplex = false, signal, timeoutMs = 30_000 } = request
    let stream: ClientHttp2Stream
    try {
      stream = session.request({ ...request.headers, ':method': method, ':path': path }, { endStream: body === undefined && !duplex })
    } catch {
      return reject(new ApiError('ServiceUnavailable', `node "${node}" is not connected`))
    }
    let answered = false
    const abort = () => stream.close(constants.NGHTTP2_CANCEL)
    signal?.addEventListener('abort', abort, { once: true })
    const timer = timeoutMs === 0 ? undefined : setTimeout(() => {
      reject(new ApiError('Timeout', `node "${node}" did not answer within ${timeoutMs} ms`))
      abort()
    }, timeoutMs)
    stream.once('response', (headers) => {
      answered = true
      clearTimeout(timer)
      resolve({ status: headers[':status'] ?? 0, headers, body: stream })
    })
    let why = 'it was disconnected'
    stream.on('error', (e) => { why = e.message })
    stream.once('close', () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      if (!answered) reject(new ApiError('ServiceUnavailable', `node "${node}" gave no answer: ${why}`))
    })
    if (body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array)) {
      body.once('error', abort)
      body.pipe(stream)
    } else if (body !== undefined) {
      stream.end(body)
    }
  })
}
