/** Handing a node's answer to the one who asked: streaming, with back-pressure, never gathered in memory. */
import type { ServerResponse } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http2'
import { pipeline } from 'node:stream'
import type { Readable, Writable } from 'node:stream'
import { ApiError } from '../../core/errors.ts'
import type { Status } from '../../core/errors.ts'
import type { Response } from '../host.ts'
import type { TunnelAnswer } from '../tunnel/tunnels.ts'

/** A node's errors are a Status of a few hundred bytes. */
const MAX_ERROR_BYTES = 64 * 1024
/** Belongs to one connection only. */
const HOP_HEADERS = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'te', 'trailer', 'host', 'http2-settings', 'expect'])

/** An AbortSignal that fires when the one who asked has gone. */
export function goneSignal(res: Response): AbortSignal {
  const abort = new AbortController()
  res.once('close', () => abort.abort())
  return abort.signal
}

/** Copies body and, if given, headers. An answer that breaks off is cut off here too, never ended as if it were whole. */
export function relay(answer: { body: Readable }, res: Response, status: number, headers: Record<string, string | string[] | undefined>): Promise<void> {
  const response = res as ServerResponse
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) response.setHeader(name, value)
  response.writeHead(status)
  // The head goes out at once: the first line of a followed log may be long in coming.
  response.flushHeaders?.()
  return new Promise((resolve) => {
    pipeline(answer.body, response as Writable, (e) => {
      if (e) response.destroy()
      resolve()
    })
  })
}

/** Headers that may pass from one connection to the next. */
export function endToEnd(headers: IncomingHttpHeaders): Record<string, string | string[] | undefined> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':') && !HOP_HEADERS.has(name)))
}

/** Throws a node's error answer as the ApiError it stands for; other answers pass. */
export async function throwIfError({ status, body }: TunnelAnswer): Promise<void> {
  if (status < 400) return
  let text = ''
  for await (const chunk of body) {
    text += String(chunk)
    if (text.length > MAX_ERROR_BYTES) break
  }
  body.close()
  let parsed: Partial<Status> = {}
  try {
    parsed = JSON.parse(text) as Partial<Status>
  } catch {
    parsed = { message: text.trim() }
  }
  const reason = parsed.reason ?? (status === 404 ? 'NotFound' : status < 500 ? 'BadRequest' : 'InternalError')
  throw new ApiError(reason, parsed.message || `the node answered ${status}`, parsed.details)
}
