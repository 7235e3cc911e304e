/** A process's two outputs as the one stream a client gets. */
import { Readable } from 'node:stream'
import { frame, StreamNumber } from '../../frames.ts'

export interface Sources { stdout?: Readable; stderr?: Readable; raw: boolean }

/**
 * Frames, or plain bytes if `raw`. Reads no faster than it is read. Ends when both have ended and `last` has settled; `prefix` comes first.
 */
export function mergedOutput(sources: Sources, options: { last?: Promise<unknown>; prefix?: AsyncIterable<Buffer> } = {}): Readable {
  const list = [[StreamNumber.stdout, sources.stdout], [StreamNumber.stderr, sources.stderr]] as const
  const open = new Set<Readable>()
  let flowing = options.prefix === undefined
  const out = new Readable({
    read() { if (flowing) for (const s of open) s.resume() },
    destroy(error, done) {
      for (const s of open) s.destroy()
      done(error)
    },
  })
  const finish = (): void => {
    void Promise.resolve(options.last).catch(() => undefined).then(() => { if (!out.destroyed) out.push(null) })
  }
  for (const [number, source] of list) {
    // A process that was quick may have ended its output before anybody could listen.
    if (source === undefined || isOver(source)) continue
    open.add(source)
    source.on('data', (chunk: Buffer) => {
      if (!out.push(sources.raw ? chunk : frame(number, chunk))) for (const s of open) s.pause()
    })
    if (!flowing) source.pause()
    source.once('close', () => {
      if (open.delete(source) && open.size === 0) finish()
    })
    source.once('error', () => { source.destroy() })
    source.once('end', () => { if (open.delete(source) && open.size === 0) finish() })
  }
  if (options.prefix !== undefined) {
    void (async () => {
      for await (const piece of options.prefix!) out.push(piece)
    })().catch(() => undefined).finally(() => {
      flowing = true
      if (open.size === 0) finish()
      for (const s of open) s.resume()
    })
  } else if (open.size === 0) {
    finish()
  }
  return out
}

/** Resolves when all of `stream` was read, or nobody reads it any more. */
export function consumed(stream: Readable): Promise<void> {
  if (isOver(stream)) return Promise.resolve()
  return new Promise((resolve) => {
    stream.once('end', resolve)
    stream.once('close', resolve)
  })
}

function isOver(stream: Readable): boolean { return stream.readableEnded || stream.destroyed }
