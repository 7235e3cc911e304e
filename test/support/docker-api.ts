/** Docker's API spoken by hand, for tests that need to know which request was answered and which was cut off. */
import { type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'

export interface Answer {
  status: number
  text: string
}

export interface CallOptions {
  /** An object is sent as JSON, bytes as a tar. */
  body?: object | Buffer | Readable
  headers?: Record<string, string>
  timeoutMs?: number
}

/** An answer with an error's status. */
export class ApiError extends Error {
  readonly status: number
  constructor(what: string, { status, text }: Answer) {
    super(`${what}: ${status} ${text.trim()}`)
    this.status = status
  }
}

export class DockerApiClient {
  readonly socketPath: string

  constructor(socketPath: string) { this.socketPath = socketPath }

  /** Rejects if the connection broke before the answer was whole. */
  call(method: string, path: string, o: CallOptions = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const { body } = o
      const json = body !== undefined && !Buffer.isBuffer(body) && !(body instanceof Readable)
      const bytes = json ? Buffer.from(JSON.stringify(body)) : body
      const req = request({
        socketPath: this.socketPath, method, path, agent: false,
        headers: {
          ...(bytes !== undefined && { 'Content-Type': json ? 'application/json' : 'application/x-tar' }),
          ...(Buffer.isBuffer(bytes) && { 'Content-Length': String(bytes.length) }), ...o.headers,
        },
      }, (res: IncomingMessage) => {
        let text = ''
        res.setEncoding('utf8')
        res.on('data', (d: string) => { text += d })
        res.once('error', reject)
        res.once('end', () => {
          clearTimeout(timer)
          resolve({ status: res.statusCode!, text })
        })
      })
      const timer = setTimeout(() => req.destroy(new Error(`${method} ${path}: no answer after ${o.timeoutMs ?? 60_000} ms`)), o.timeoutMs ?? 60_000)
      req.once('error', e => {
        clearTimeout(timer)
        reject(e)
      })
      if (bytes instanceof Readable) bytes.pipe(req)
      else req.end(bytes)
    })
  }

  /** Rejects with an ApiError unless the status is below 400, and if a stream of progress ends with an error. */
  async ok(method: string, path: string, body?: CallOptions['body'], headers?: Record<string, string>): Promise<string> {
    const r = await this.call(method, path, { ...(body !== undefined && { body }), ...(headers !== undefined && { headers }) })
    if (r.status >= 400 || r.text.includes('"errorDetail"')) throw new ApiError(`${method} ${path}`, r)
    return r.text
  }

  async json<T>(method: string, path: string, body?: CallOptions['body']): Promise<T> { return JSON.parse(await this.ok(method, path, body)) as T }

  /** A bare connection; whatever happens to it is the caller's. */
  connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const s = connect({ path: this.socketPath, allowHalfOpen: true }, () => { resolve(s) })
      s.once('error', reject)
    })
  }
}
