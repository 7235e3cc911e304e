/**
 * Requests to one of several API servers over HTTP/2. One connection carries every request and watch of a process, so a
 * cluster of many agents costs the servers one TLS session each; PING frames notice a server that vanished without a word.
 */
import { connect as connectHttp2, constants } from 'node:http2'
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2'
import type { Readable } from 'node:stream'
import { ApiError } from '../core/errors.ts'

/** PEM texts. Without `cert` and `key` the client shows no certificate (it then needs a token). */
export interface ClientTls { ca: string; cert?: string; key?: string }

export interface TransportOptions {
  /** `https://host:port`, in order of preference. */
  servers: string[]
  tls: ClientTls
  token?: string | undefined
  userAgent?: string | undefined
  connectTimeoutMs?: number | undefined
}

export interface RawRequest {
  headers?: OutgoingHttpHeaders
  body?: string | Uint8Array | Readable | undefined
  signal?: AbortSignal | undefined
  /** Time until the answer's headers; default none. */
  timeoutMs?: number | undefined
}

export interface RawAnswer { status: number; headers: IncomingHttpHeaders; body: Readable }

/** No answer came. `sent` is false when the server certainly did not act on the request. */
export class ConnectionError extends ApiError {
  readonly sent: boolean
  constructor(message: string, sent: boolean) {
    super('ServiceUnavailable', message)
    this.sent = sent
  }
}

const PING_INTERVAL_MS = 3000
const PING_TIMEOUT_MS = 6000
/** Large enough that a list of some MB needs no round trip for window updates. */
const STREAM_WINDOW_BYTES = 1 << 20
const SESSION_WINDOW_BYTES = 8 << 20
/** Node refuses new streams beyond this; its default of 10 MB is less than one large list beside watches. */
const SESSION_MEMORY_MB = 512

export class Transport {
  readonly #options: TransportOptions
  #current = 0
  #session: ClientHttp2Session | undefined
  #connecting: Promise<ClientHttp2Session> | undefined
  #closed = false

  constructor(options: TransportOptions) {
    if (options.servers.length === 0) throw new TypeError('no server given: at least one https://host:port is needed')
    this.#options = options
  }

  get options(): TransportOptions { return this.#options }
  /** The server used now, or tried next. */
  get server(): string { return this.#options.servers[this.#current]! }

  /**
   * Sends one request and resolves with the answer's head, whatever its code. Rejects with {@link ConnectionError} when no
   * answer came; a request that no server can have seen has then been tried at every server.
   */
  async send(method: string, path: string, request: RawRequest = {}): Promise<RawAnswer> {
    for (let attempt = 1; ; attempt++) {
      const session = await this.#connected(request.signal)
      try {
        return await this.#exchange(session, method, path, request)
      } catch (e) {
        const again = e instanceof ConnectionError && !e.sent && !isStream(request.body) && !request.signal?.aborted
        if (!again || attempt >= this.#options.servers.length + 1) throw e
      }
    }
  }

  close(): void {
    this.#closed = true
    this.#session?.destroy()
    this.#session = undefined
  }

  async #connected(signal: AbortSignal | undefined): Promise<ClientHttp2Session> {
    if (this.#closed) throw new ConnectionError('the client is closed', false)
    if (signal?.aborted) throw new ConnectionError('the request was cancelled', false)
    const session = this.#session
    if (session !== undefined && !session.closed && !session.destroyed) return session
    this.#connecting ??= this.#connect().finally(() => { this.#connecting = undefined })
    return this.#connecting
  }

  /** Tries every server once, beginning with the current one. */
  async #connect(): Promise<ClientHttp2Session> {
    const { servers } = this.#options
    const failures: string[] = []
    const first = this.#current
    for (let i = 0; i < servers.length; i++) {
      const index = (first + i) % servers.length
      try {
        const session = await this.#open(index)
        if (this.#closed) {
          session.destroy()
          throw new ConnectionError('the client is closed', false)
        }
        this.#current = index
        this.#session = session
        return session
      } catch (e) {
        failures.push(`${servers[index]}: ${(e as Error).message}`)
      }
    }
    this.#current = (first + 1) % servers.length
    throw new ConnectionError(`cannot reach the API server: ${failures.join('; ')}`, false)
  }

  #open(index: number): Promise<ClientHttp2Session> {
    return new Promise((resolve, reject) => {
      const { tls, connectTimeoutMs = 5000 } = this.#options
      const session = connectHttp2(this.#options.servers[index]!, {
        ca: tls.ca, ...(tls.cert !== undefined && { cert: tls.cert, key: tls.key! }),
        maxSessionMemory: SESSION_MEMORY_MB,
        settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
      })
      const timer = setTimeout(() => session.destroy(new Error(`no answer within ${connectTimeoutMs} ms`)), connectTimeoutMs)
      session.once('connect', () => {
        session.setLocalWindowSize(SESSION_WINDOW_BYTES)
      })
      // The handshake is over only with the server's SETTINGS: a frozen server accepts TCP (and a proxy TLS) all the same.
      session.once('remoteSettings', () => {
        clearTimeout(timer)
        this.#watchOver(session)
        resolve(session)
      })
      let failure: Error | undefined
      session.on('error', (e) => { failure = e })
      session.once('close', () => {
        clearTimeout(timer)
        if (this.#session === session) {
          this.#session = undefined
          // The next one is more likely to be there.
          this.#current = (index + 1) % this.#options.servers.length
        }
        reject(failure ?? new Error('the connection was closed'))
      })
    })
  }

  /** Ends a connection whose server no longer answers. */
  #watchOver(session: ClientHttp2Session): void {
    let answeredAt = Date.now()
    let bytesRead = 0
    const timer = setInterval(() => {
      // Behind a large answer that of a ping may be long in coming: whatever comes shows that the server lives.
      const now = session.socket?.bytesRead ?? 0
      if (now !== bytesRead) answeredAt = Date.now()
      bytesRead = now
      if (Date.now() - answeredAt > PING_TIMEOUT_MS) return session.destroy(new Error('the server answers no more'))
      try {
        session.ping((e) => { if (e === null) answeredAt = Date.now() })
      } catch {
        // Closing: 'close' follows.
      }
    }, PING_INTERVAL_MS)
    timer.unref()
    session.once('close', () => clearInterval(timer))
  }

  #exchange(session: ClientHttp2Session, method: string, path: string, request: RawRequest): Promise<RawAnswer> {
    return new Promise((resolve, reject) => {
      const { body, signal } = request
      const { token, userAgent } = this.#options
      let stream: ClientHttp2Stream
      try {
        stream = session.request({
          ...request.headers,
          ':method': method, ':path': path,
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(userAgent !== undefined && { 'user-agent': userAgent }),
        }, { endStream: body === undefined })
      } catch (e) {
        return reject(new ConnectionError(`connection lost: ${(e as Error).message}`, false))
      }
      let answered = false
      const abort = () => stream.close(constants.NGHTTP2_CANCEL)
      signal?.addEventListener('abort', abort, { once: true })
      let why: string | undefined
      const timer = request.timeoutMs === undefined ? undefined : setTimeout(() => {
        why = `no answer to ${method} ${path} within ${request.timeoutMs} ms`
        abort()
      }, request.timeoutMs)
      stream.once('response', (headers) => {
        answered = true
        clearTimeout(timer)
        resolve({ status: headers[':status'] ?? 0, headers, body: stream })
      })
      // After the answer an error is the body reader's; before it 'close' tells the caller.
      stream.on('error', (e) => { why ??= e.message })
      stream.once('close', () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
        if (answered) return
        const sent = stream.id !== undefined && stream.rstCode !== constants.NGHTTP2_REFUSED_STREAM
        why ??= signal?.aborted ? 'the request was cancelled' : 'the connection was closed'
        reject(new ConnectionError(`${method} ${path}: ${why}`, sent))
      })
      if (isStream(body)) {
        body.once('error', abort)
        stream.once('close', () => body.destroy())
        body.pipe(stream)
      } else if (body !== undefined) {
        stream.end(body)
      }
    })
  }
}

function isStream(body: RawRequest['body']): body is Readable {
  return body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array)
}

/** The whole body as text. Rejects with ConnectionError when the connection breaks off before its end. */
export async function readText(body: Readable): Promise<string> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of body) chunks.push(chunk as Buffer)
  } catch (e) {
    throw new ConnectionError(`the answer broke off: ${(e as Error).message}`, true)
  }
  // Cut off by a killed server, an HTTP/2 stream ends without an error.
  if ((body as ClientHttp2Stream).aborted || (body as ClientHttp2Stream).rstCode) throw new ConnectionError('the answer broke off', true)
  return Buffer.concat(chunks).toString()
}
