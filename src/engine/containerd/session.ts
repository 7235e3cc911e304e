/** One HTTP/2 connection over containerd's unix socket, made when it is needed and again after it broke. */
import { connect as connectHttp2 } from 'node:http2'
import type { ClientHttp2Session } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** How long a socket that accepts may stay silent. */
const CONNECT_MS = 20_000
/** What may be under way unread: a stream's share keeps a blob flowing, the session's keeps many from stopping each other. */
const STREAM_WINDOW_BYTES = 1 << 20
const SESSION_WINDOW_BYTES = 8 << 20
/** Node refuses streams beyond this; its default of 10 MB is less than a few uploads have under way. */
const SESSION_MEMORY_MB = 512
/** Between attempts while it is being waited for: a refused connection to a local socket costs next to nothing. */
const RETRY_MS = { first: 5, max: 200 }

export class SessionKeeper {
  readonly #socket: string
  #session: ClientHttp2Session | undefined
  /** The newest, open or not yet. */
  #newest: ClientHttp2Session | undefined
  #connecting: Promise<ClientHttp2Session> | undefined
  #closed = false

  constructor(socket: string) { this.#socket = socket }

  /** The open session; a promise of one while there is none. Rejects where the socket cannot be reached. */
  get(): ClientHttp2Session | Promise<ClientHttp2Session> {
    if (this.#session !== undefined) return this.#session
    if (this.#closed) return Promise.reject(new Error('the client is closed'))
    return this.#connecting ??= this.#connect().finally(() => { this.#connecting = undefined })
  }

  #connect(): Promise<ClientHttp2Session> {
    const path = this.#socket
    return new Promise((resolve, reject) => {
      const session = connectHttp2('http://localhost', {
        createConnection: () => connectSocket(path), maxSessionMemory: SESSION_MEMORY_MB,
        settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
      })
      this.#newest = session
      const timer = setTimeout(() => { session.destroy(new Error(`containerd accepts on ${path} but does not answer`)) }, CONNECT_MS)
      // A server's first frame: before that, a socket may only be queued by the kernel for a daemon that is starting or hangs.
      session.once('remoteSettings', () => {
        clearTimeout(timer)
        session.setLocalWindowSize(SESSION_WINDOW_BYTES)
        this.#session = session
        resolve(session)
      })
      const gone = (): void => { if (this.#session === session) this.#session = undefined }
      let failure: Error | undefined
      session.on('error', (e) => { failure = e })
      // No new calls on a session that is being ended; those under way may finish.
      session.on('goaway', gone)
      session.once('close', () => {
        clearTimeout(timer)
        gone()
        reject(failure ?? new Error(`containerd closed the connection on ${path}`))
      })
    })
  }

  /** Resolves when containerd answers; rejects after `timeoutMs`. */
  async ready(timeoutMs: number): Promise<void> {
    const timeout = AbortSignal.timeout(timeoutMs)
    const late = new Promise<never>((_, reject) => { timeout.addEventListener('abort', () => { reject(timeout.reason as Error) }, { once: true }) })
    late.catch(() => undefined)
    for (let pauseMs = RETRY_MS.first; ; pauseMs = Math.min(pauseMs * 2, RETRY_MS.max)) {
      try {
        await Promise.race([this.get(), late])
        return
      } catch (e) {
        if (timeout.aborted || this.#closed) throw e
        await sleep(pauseMs)
      }
    }
  }

  /** Ends the connection and the calls on it. */
  close(): void {
    this.#closed = true
    this.#newest?.destroy()
  }
}
