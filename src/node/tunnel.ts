/**
 * The agent's end of the node tunnel (see core/node-api.ts): it dials an API server, upgrades the connection, and serves
 * HTTP/2 over it, so that logs, exec and images reach nodes without an open port. It dials again whenever the connection
 * breaks, beginning with the next server.
 */
import { performServerHandshake } from 'node:http2'
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { request } from 'node:https'
import type { Socket } from 'node:net'
import { Backoff, sleep } from '../client/backoff.ts'
import { readText } from '../client/transport.ts'

export interface TunnelOptions {
  /** `https://host:port` of the API servers. */
  servers: string[]
  /** PEM texts; the certificate is `system:node:NAME`. */
  tls: { ca: string; cert: string; key: string }
  /** The node's name, for messages. */
  name: string
  /** One request of the server. What it throws is answered with 500; it answers everything else itself. */
  onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void
  /** Called with true when the tunnel stands and with false when it broke. */
  onState?(connected: boolean): void
  logger?: { info(message: string, fields?: Record<string, unknown>): void; warn(message: string, fields?: Record<string, unknown>): void }
}

export interface Tunnel { close(): void }

const PROTOCOL = 'gantry-tunnel'
const DIAL_TIMEOUT_MS = 5000
/** The server pings every second: silence this long means that it, or the way to it, is gone. */
const SILENCE_MS = 5000
/** A tunnel that stood this long was good: the next back-off begins anew. */
const STABLE_MS = 2000
const STREAM_WINDOW_BYTES = 1 << 20
const SESSION_WINDOW_BYTES = 8 << 20
/** Node refuses new streams beyond this; its default of 10 MB is less than what a few downloads have under way. */
const SESSION_MEMORY_MB = 512

export function connectTunnel(options: TunnelOptions): Tunnel {
  const abort = new AbortController()
  void run(options, abort.signal)
  return { close: () => abort.abort() }
}

async function run(options: TunnelOptions, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff({ minMs: 50, maxMs: 2000 })
  let warned = ''
  for (let turn = 0; !signal.aborted; turn++) {
    const server = options.servers[turn % options.servers.length]!
    const startedAt = Date.now()
    try {
      const socket = await dial(server, options, signal)
      warned = ''
      options.logger?.info('tunnel connected', { server })
      await serve(socket, options, signal)
      if (signal.aborted) return
      options.logger?.warn('tunnel lost', { server })
    } catch (e) {
      if (signal.aborted) return
      const message = (e as Error).message
      // Said once for each cause: a server may be gone for hours.
      if (message !== warned) options.logger?.warn('tunnel cannot connect', { server, error: message })
      warned = message
    }
    if (Date.now() - startedAt >= STABLE_MS) backoff.reset()
    await sleep(backoff.next(), signal)
  }
}

/** Resolves with the upgraded connection. */
function dial(server: string, { tls, name }: TunnelOptions, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const dialling = request(new URL('/gantry/v1/tunnel', server), {
      method: 'POST', agent: false, signal, ...tls,
      headers: { connection: 'Upgrade', upgrade: PROTOCOL, 'user-agent': `gantry-agent/${name}`, 'content-length': 0 },
    })
    // An absolute limit: a server that trickles bytes, or answers nothing, is passed over all the same.
    const timer = setTimeout(() => dialling.destroy(new Error(`no answer within ${DIAL_TIMEOUT_MS} ms`)), DIAL_TIMEOUT_MS)
    dialling.once('error', (e) => {
      clearTimeout(timer)
      reject(e)
    })
    dialling.once('response', (answer) => {
      clearTimeout(timer)
      readText(answer).catch(() => '').then((text) => {
        let message = text.slice(0, 300)
        try { message = (JSON.parse(text) as { message?: string }).message ?? message } catch { /* plain text */ }
        reject(new Error(`the server refused the tunnel with ${answer.statusCode}: ${message}`))
      })
    })
    dialling.once('upgrade', (_answer, socket, head) => {
      clearTimeout(timer)
      if (head.length > 0) socket.unshift(head)
      socket.setNoDelay(true)
      resolve(socket as Socket)
    })
    dialling.end()
  })
}

/** Serves HTTP/2 until the connection ends. */
function serve(socket: Socket, options: TunnelOptions, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const session: ServerHttp2Session = performServerHandshake(socket, {
      maxSessionMemory: SESSION_MEMORY_MB,
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, maxConcurrentStreams: 10_000 },
    })
    session.setLocalWindowSize(SESSION_WINDOW_BYTES)
    const stop = () => session.destroy()
    let bytesRead = 0
    // Behind an upload the server's pings may be long in coming: whatever comes shows that it lives.
    const watchdog = setInterval(() => {
      if (socket.bytesRead === bytesRead) stop()
      bytesRead = socket.bytesRead
    }, SILENCE_MS)
    signal.addEventListener('abort', stop, { once: true })
    session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
      // A peer that resets a stream is no failure of the agent's.
      stream.on('error', () => {})
      try {
        options.onStream(stream, headers)
      } catch (e) {
        options.logger?.warn('tunnel request failed', { path: headers[':path'], error: (e as Error).message })
        if (stream.headersSent) stream.destroy()
        else stream.respond({ ':status': 500 }, { endStream: true })
      }
    })
    // 'close' follows, which is what ends the wait.
    session.on('error', () => {})
    session.once('close', () => {
      clearInterval(watchdog)
      signal.removeEventListener('abort', stop)
      socket.destroy()
      options.onState?.(false)
      resolve()
    })
    options.onState?.(true)
    if (signal.aborted) stop()
  })
}
