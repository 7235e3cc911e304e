/** How failures reach the client. */
import type { ServerResponse } from 'node:http'
import { DockerError } from '../errors.ts'
import type { Call } from './call.ts'

/** After an early answer the rest of the request is taken in for so long, so that the client gets to read the answer. */
const DRAIN_MS = 5_000

/** Lower rooms' errors bear a code with the same words as DockerError's kinds; everything else is the daemon's failure. */
export function asDockerError(e: unknown): DockerError {
  if (e instanceof DockerError) return e
  const { code, message } = e as { code?: unknown; message?: string }
  const kinds = ['invalid', 'unauthorized', 'forbidden', 'not-found', 'conflict', 'unavailable'] as const
  return new DockerError(kinds.find(k => k === code) ?? 'failed', message ?? String(e))
}

/** The answer of a failed request whose header has not been sent. */
export function sendError(call: Call, e: unknown): void {
  const error = asDockerError(e)
  if (error.kind === 'failed') call.options.logger.warn(`${call.req.method} ${call.req.url?.split('?')[0]}: ${error.message}`)
  if (!call.req.readableEnded && call.hasBody) boundRest(call)
  if (error.kind === 'not-modified') call.sendEmpty(304)
  else sendMessage(call.res, call.req.method, error.status, error.message, false)
}

/** `plain`: for clients from before JSON errors. */
export function sendMessage(res: ServerResponse, method: string | undefined, status: number, message: string, plain: boolean): void {
  const bytes = Buffer.from((plain ? message : JSON.stringify({ message })) + '\n')
  // The Go client compares the type by equality.
  res.writeHead(status, { 'Content-Type': plain ? 'text/plain; charset=utf-8' : 'application/json', 'Content-Length': bytes.length })
  res.end(method === 'HEAD' ? undefined : bytes)
}

/** The HTTP server reads on for the answer's sake, and keeps the connection; but not for ever. */
function boundRest({ req }: Call): void {
  const { socket } = req
  const timer = setTimeout(() => socket.destroy(), DRAIN_MS)
  const clear = (): void => clearTimeout(timer)
  req.once('end', clear)
  socket.once('close', clear)
  req.unpipe()
  req.resume()
}
