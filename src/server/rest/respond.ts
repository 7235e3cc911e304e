/** Writing answers. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { gzip } from 'node:zlib'
import type { Duplex } from 'node:stream'
import { ApiError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { Request, Response } from '../host.ts'

/** Smaller answers are not worth the time it takes to compress them. */
const GZIP_MIN_BYTES = 128 * 1024
const STATUS_TEXT: Record<number, string> = {
  400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 500: 'Internal Server Error',
  503: 'Service Unavailable',
}

export function acceptsGzip(req: Request): boolean {
  const accepted = req.headers['accept-encoding']
  return accepted !== undefined && /(^|[,\s])gzip/.test(String(accepted))
}

export function sendJson(res: Response, code: number, body: Buffer | string, headers?: Record<string, string | string[]>): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body
  const all = { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private', ...headers, 'Content-Length': String(bytes.length) }
  ;(res as ServerResponse).writeHead(code, all)
  res.end(bytes)
}

/** Compresses what is large, if the client takes it. `compressed` is the same body made before. Resolves with the gzip form made now. */
export async function sendLarge(
  req: Request, res: Response, body: Buffer, compressed?: Buffer, headers?: Record<string, string | string[]>,
): Promise<Buffer | undefined> {
  if (body.length < GZIP_MIN_BYTES || !acceptsGzip(req)) {
    sendJson(res, 200, body, headers)
    return undefined
  }
  const zipped = compressed ?? await new Promise<Buffer>((resolve, reject) => {
    gzip(body, { level: 1 }, (e, out) => e ? reject(e) : resolve(out))
  })
  sendJson(res, 200, zipped, { ...headers, 'Content-Encoding': 'gzip', Vary: 'Accept-Encoding' })
  return zipped
}

/** Anything that is no ApiError is ours to log, and the client's to know no more of than that it happened. */
export function errorOf(e: unknown, log: Logger): ApiError {
  if (e instanceof ApiError) return e
  const message = e instanceof Error ? e.message : String(e)
  log.error('request failed', { error: e instanceof Error ? e.stack ?? message : message })
  return new ApiError('InternalError', `Internal error occurred: ${message}`, { causes: [{ message }] })
}

export function sendError(res: Response, e: unknown, log: Logger): void {
  const error = errorOf(e, log)
  if (res.headersSent) {
    res.destroy()
    return
  }
  const retry = error.details?.retryAfterSeconds
  sendJson(res, error.code, JSON.stringify(error.toStatus()), {
    ...(retry !== undefined && { 'Retry-After': String(retry) }),
    // What is left of a body is not read: the connection cannot be used again.
    ...(isUnfinished(res) && { Connection: 'close' }),
  })
}

/** True for an HTTP/1 request whose body has not come whole. */
function isUnfinished(res: Response): boolean {
  const req = res.req as IncomingMessage | undefined
  return req?.httpVersionMajor === 1 && !req.complete && (Number(req.headers['content-length'] ?? 0) > 0 || req.headers['transfer-encoding'] !== undefined)
}

/** For sockets that were to be upgraded. */
export function refuseUpgrade(socket: Duplex, e: unknown, log: Logger): void {
  const error = errorOf(e, log)
  const body = JSON.stringify(error.toStatus())
  socket.on('error', () => {})
  socket.end(`HTTP/1.1 ${error.code} ${STATUS_TEXT[error.code] ?? 'Error'}\r\nContent-Type: application/json\r\n`
    + `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`)
}
