/** Request bodies: JSON of bounded size, and uploads of any size that may not stand still. */
import type { IncomingMessage } from 'node:http'
import { Transform, type Readable } from 'node:stream'
import { DockerError } from '../errors.ts'

const MAX_JSON_BYTES = 16 << 20
/** A client that sends nothing for so long while it is waited for has gone. */
export const UPLOAD_IDLE_MS = 600_000

export function hasBody(req: IncomingMessage): boolean {
  return req.headers['transfer-encoding'] !== undefined || (req.headers['content-length'] ?? '0') !== '0'
}

/** Undefined if the body is empty. */
export async function readJson(req: IncomingMessage): Promise<unknown> {
  const type = req.headers['content-type']
  if (type === undefined ? hasBody(req) : type.split(';')[0]!.trim().toLowerCase() !== 'application/json') {
    throw new DockerError('invalid', `unsupported Content-Type header (${type ?? ''}): must be 'application/json'`)
  }
  const text = (await readBytes(req, MAX_JSON_BYTES)).toString('utf8')
  if (text.trim() === '') return undefined
  try {
    return JSON.parse(text) as unknown
  } catch (e) {
    throw new DockerError('invalid', endsEarlier(text) ? 'unexpected content after JSON' : `invalid JSON: ${(e as Error).message}`)
  }
}

/** True if a whole JSON value stands before more text. */
function endsEarlier(text: string): boolean {
  const end = endOfValue(text)
  if (end === undefined || text.slice(end).trim() === '') return false
  try {
    JSON.parse(text.slice(0, end))
    return true
  } catch {
    return false
  }
}

/** Index behind the first object or array. */
function endOfValue(text: string): number | undefined {
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (quoted) {
      if (c === '\\') i++
      else if (c === '"') quoted = false
    } else if (c === '"') quoted = true
    else if (c === '{' || c === '[') depth++
    else if ((c === '}' || c === ']') && --depth <= 0) return i + 1
  }
  return undefined
}

async function readBytes(req: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = new DockerError('invalid', `the request's body is larger than ${maxBytes} bytes`)
  if (Number(req.headers['content-length'] ?? 0) > maxBytes) throw tooLarge
  const idle = idleGuard(req, UPLOAD_IDLE_MS, () => false, () => { /* the request's error says it */ })
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    // The request outlives a refused body: its answer goes over the same connection.
    for await (const chunk of req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      idle.refresh()
      bytes += chunk.length
      if (bytes > maxBytes) throw tooLarge
      chunks.push(chunk)
    }
  } finally {
    idle.stop()
  }
  return Buffer.concat(chunks)
}

/**
 * The body as it comes, with backpressure to the client. Fails if the client goes before its end, or stands still. It need not be read to the
 * end: the answer then closes the connection.
 */
export function upload(req: IncomingMessage, idleMs: number = UPLOAD_IDLE_MS): Readable {
  const out = new Transform({
    transform(chunk, _encoding, done) {
      idle.refresh()
      done(null, chunk)
    },
  })
  const idle = idleGuard(req, idleMs, () => out.writableNeedDrain, e => out.destroy(e))
  // Nobody may be reading any more.
  out.on('error', () => { /* a reader sees it by itself */ })
  const gone = (): void => {
    idle.stop()
    if (!req.readableEnded) out.destroy(new Error('the client closed the connection before the end of its body'))
  }
  req.on('error', e => out.destroy(e))
  req.on('end', idle.stop)
  req.on('close', gone)
  // Once it is answered, the end of its connection is no longer told to a request.
  req.socket.once('close', gone)
  out.on('close', () => {
    idle.stop()
    req.socket.off('close', gone)
    req.unpipe(out)
  })
  req.pipe(out)
  return out
}

/** Ends the request if nothing comes for `idleMs` although it is read; `slow` says that it is not. */
function idleGuard(req: IncomingMessage, idleMs: number, slow: () => boolean, onIdle: (e: Error) => void): { refresh(): void; stop(): void } {
  const timer = setTimeout(() => {
    if (slow() || req.readableLength > 0) return void timer.refresh()
    const e = new Error(`no data from the client for ${idleMs / 1000} s`)
    onIdle(e)
    req.destroy(e)
  }, idleMs)
  return { refresh: () => { timer.refresh() }, stop: () => clearTimeout(timer) }
}
