/** HTTP as registries need it: redirects, time limits on silence rather than on length, small bodies with a bound. */
import type { IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { pipeline, Readable } from 'node:stream'
import { EngineError } from '../engine.ts'

// Not by `import`, which reads every export of the module and thereby loads its WebSocket client: 14 MB for good.
const { Agent: HttpAgent, request: httpRequest } = process.getBuiltinModule('node:http')

export interface HttpRequest {
  method: string
  url: URL
  headers?: Record<string, string>
  body?: Buffer | (() => Readable)
  signal?: AbortSignal
  /** Silence after which the peer counts as stalled; default 30 s. */
  stallMs?: number
  /** Follow redirects; default true. */
  follow?: boolean
  /** For HTTPS: own certificates. */
  agent?: HttpsAgent
}

export interface HttpResponse {
  status: number
  statusText: string
  headers: Record<string, string>
  /** Fails with `unavailable` when the peer stalls or breaks off. */
  body: Readable
  /** Where it came from after redirects. */
  url: URL
}

const STALL_MS = 30_000
const MAX_REDIRECTS = 5
const MAX_DISCARDED_BYTES = 64 << 10
const agents = { 'http:': new HttpAgent({ keepAlive: true, timeout: 60_000 }), 'https:': new HttpsAgent({ keepAlive: true, timeout: 60_000 }) }

/** Resolves with any status; rejects with `unavailable` when nobody answers in time. */
export async function http(r: HttpRequest): Promise<HttpResponse> {
  let url = r.url
  let headers = { ...r.headers }
  let method = r.method
  let body = r.body
  let agent = r.agent
  for (let redirects = 0; ; redirects++) {
    const response = await once({ ...r, url, headers, method, body, agent })
    const location = response.headers['location']
    if (r.follow === false || ![301, 302, 303, 307, 308].includes(response.status) || location === undefined) return response
    discard(response.body)
    if (redirects === MAX_REDIRECTS) throw new EngineError('failed', `${r.url.host} redirects more than ${MAX_REDIRECTS} times`)
    const next = new URL(location, url)
    if (!(next.protocol in agents)) throw new EngineError('failed', `${url.host} redirects to ${next.protocol}, which is not HTTP`)
    if (url.protocol === 'https:' && next.protocol === 'http:') throw new EngineError('failed', `${url.host} redirects from HTTPS to plain HTTP`)
    // Credentials are for the host they were given for: storage behind a registry has its own in the address.
    if (next.host !== url.host) {
      headers = Object.fromEntries(Object.entries(headers).filter(([k]) => k.toLowerCase() !== 'authorization'))
      agent = undefined
    }
    if (response.status === 303 && method !== 'HEAD') {
      method = 'GET'
      body = undefined
    }
    url = next
  }
}

function once(r: HttpRequest): Promise<HttpResponse> {
  const stallMs = r.stallMs ?? STALL_MS
  return new Promise((resolve, reject) => {
    const secure = r.url.protocol === 'https:'
    const headers: Record<string, string> = { 'user-agent': 'gantry/1', ...r.headers }
    if (Buffer.isBuffer(r.body)) headers['content-length'] = String(r.body.length)
    const request = (secure ? httpsRequest : httpRequest)(r.url, {
      method: r.method, headers, signal: r.signal, agent: secure ? r.agent ?? agents['https:'] : agents['http:'],
    })
    const stalled = (): void => {
      request.destroy(new EngineError('unavailable', `${r.url.host} did not answer for ${Math.round(stallMs / 1000)} s`))
    }
    // While a body goes out, each piece that is taken counts as life.
    const timer = setTimeout(stalled, stallMs)
    request.on('response', (response: IncomingMessage) => {
      clearTimeout(timer)
      const flat: Record<string, string> = {}
      for (const [k, v] of Object.entries(response.headers)) if (v !== undefined) flat[k] = Array.isArray(v) ? v.join(', ') : v
      resolve({ status: response.statusCode ?? 0, statusText: response.statusMessage ?? '', headers: flat, body: guarded(response, stallMs, r.url.host), url: r.url })
    })
    request.on('error', (e: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      if (r.signal?.aborted === true) reject(r.signal.reason as Error)
      else reject(e instanceof EngineError ? e : new EngineError('unavailable', `${r.method[0]}${r.method.slice(1).toLowerCase()} "${r.url.href}": ${reason(e, r.url)}`))
    })
    if (typeof r.body === 'function') {
      const source = r.body()
      source.on('data', () => timer.refresh())
      pipeline(source, request, e => { if (e) request.destroy(e) })
    } else {
      request.end(r.body)
    }
  })
}

/** In the words of Go's client, which docker's users know. */
function reason(e: NodeJS.ErrnoException, url: URL): string {
  const port = url.port !== '' ? url.port : url.protocol === 'https:' ? '443' : '80'
  const target = `dial tcp ${url.hostname}:${port}`
  if (e.code === 'ENOTFOUND' || e.code === 'EAI_AGAIN') return `dial tcp: lookup ${url.hostname}: no such host`
  if (e.code === 'ECONNREFUSED') return `${target}: connect: connection refused`
  if (e.code === 'EHOSTUNREACH') return `${target}: connect: no route to host`
  if (e.code === 'ENETUNREACH') return `${target}: connect: network is unreachable`
  if (e.code === 'ETIMEDOUT') return `${target}: i/o timeout`
  if (e.code === 'EPROTO') return 'http: server gave HTTP response to HTTPS client'
  if (/CERT|SIGNED|VERIFY|ISSUER/.test(e.code ?? '')) return `tls: failed to verify certificate: x509: ${e.message}`
  return e.message === '' ? e.code ?? 'unknown error' : e.message
}

/** The body, with a limit on silence that runs only while the reader waits for more. */
export function guarded(body: Readable, stallMs: number, name: string): Readable {
  async function* read(): AsyncGenerator<Buffer> {
    let timer: NodeJS.Timeout | undefined
    const wait = (): void => {
      timer = setTimeout(() => {
        body.destroy(new EngineError('unavailable', `${name} sent nothing for ${Math.round(stallMs / 1000)} s`))
      }, stallMs)
    }
    try {
      wait()
      for await (const chunk of body as AsyncIterable<Buffer>) {
        clearTimeout(timer)
        yield chunk
        wait()
      }
    } catch (e) {
      if (e instanceof EngineError) throw e
      throw new EngineError('unavailable', `${name} broke off: ${(e as NodeJS.ErrnoException).message}`)
    } finally {
      clearTimeout(timer)
      body.destroy()
    }
  }
  return Readable.from(read(), { objectMode: false, highWaterMark: 256 * 1024 })
}

/** A body nobody wants: a small one is read, so that the connection can serve again, and a large one cut off. */
function discard(body: Readable): void {
  let size = 0
  body.on('data', (part: Buffer) => { if ((size += part.length) > MAX_DISCARDED_BYTES) body.destroy() })
  body.on('error', () => undefined)
}

/** A whole body of at most `maxBytes`; `failed` beyond that. */
export async function readBody(body: Readable, maxBytes: number, what: string): Promise<Buffer> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of body as AsyncIterable<Buffer>) {
    size += part.length
    if (size > maxBytes) {
      body.destroy()
      throw new EngineError('failed', `${what} is larger than ${maxBytes} bytes`)
    }
    parts.push(part)
  }
  return Buffer.concat(parts)
}
