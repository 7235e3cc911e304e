/** Answers on one stream of the tunnel. */
import type { ServerHttp2Stream } from 'node:http2'
import { PassThrough, pipeline } from 'node:stream'
import type { Readable } from 'node:stream'
import { ApiError } from '../../core/errors.ts'
import type { StatusReason } from '../../core/errors.ts'
import { EngineError } from '../../engine/engine.ts'
import type { OnProgress } from '../../engine/engine.ts'
import { NetworkError } from '../../network/network.ts'
import { errorText } from '../error-text.ts'

/** Bytes of progress that may wait for a slow reader before reports are left out. */
const MAX_PENDING_BYTES = 4 << 20

const REASON: Record<EngineError['code'], StatusReason> = {
  'not-found': 'NotFound', conflict: 'Conflict', invalid: 'BadRequest', unavailable: 'ServiceUnavailable', failed: 'InternalError',
}

export function apiError(e: unknown): ApiError {
  if (e instanceof ApiError) return e
  if (e instanceof EngineError) return new ApiError(REASON[e.code], e.message)
  if (e instanceof NetworkError) return new ApiError(e.code === 'conflict' ? 'Conflict' : 'InternalError', e.message)
  return new ApiError('InternalError', errorText(e))
}

export function sendError(stream: ServerHttp2Stream, e: unknown): void {
  if (stream.destroyed) return
  if (stream.headersSent) {
    // Too late for a code: the reader must not take a part for the whole.
    stream.destroy(e instanceof Error ? e : undefined)
    return
  }
  const error = apiError(e)
  sendJson(stream, error.toStatus(), error.code)
}

export function sendJson(stream: ServerHttp2Stream, value: unknown, status = 200): void {
  if (stream.destroyed) return
  stream.respond({ ':status': status, 'content-type': 'application/json' })
  stream.end(JSON.stringify(value))
}

export function sendBody(stream: ServerHttp2Stream, body: Readable, headers: Record<string, string | number>): void {
  if (stream.destroyed) {
    body.destroy()
    return
  }
  stream.respond({ ':status': 200, ...headers })
  pipeline(body, stream, () => {})
}

/**
 * The request's body as a stream of its own: whoever reads it to the end, or breaks off, must not close the stream that the
 * answer goes out on.
 */
export function requestBody(stream: ServerHttp2Stream): Readable {
  const body = new PassThrough()
  stream.on('error', e => body.destroy(e))
  stream.on('aborted', () => body.destroy(new Error('the sender broke off')))
  body.on('close', () => stream.resume())
  return stream.pipe(body)
}

/** Runs `job` and sends its progress as lines; its failure is the last line. What `job` resolves with, if anything, is a last line too. */
export async function sendProgress(stream: ServerHttp2Stream, job: (onProgress: OnProgress) => Promise<object | undefined>): Promise<void> {
  stream.respond({ ':status': 200, 'content-type': 'application/x-ndjson' })
  const line = (value: object): void => {
    if (!stream.destroyed && !stream.writableEnded) stream.write(`${JSON.stringify(value)}\n`)
  }
  try {
    const last = await job(p => {
      // Only counters can be left out: the next one tells the same story.
      if (stream.writableLength < MAX_PENDING_BYTES || p.currentBytes === undefined) line(p)
    })
    if (last !== undefined) line(last)
  } catch (e) {
    line({ status: 'error', error: errorText(e), code: apiError(e).code })
  }
  stream.end()
}
