/** `GET /logs`: a container's output as text. */
import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { badRequest } from '../../core/errors.ts'
import type { ContainerService, LogLine, LogOptions } from '../../engine/engine.ts'
import type { Pods } from '../pods.ts'
import { flag, optionalNumber } from './query.ts'
import { attemptId, containerOf, podOf } from './target.ts'

/** Lines are gathered to about this size: one frame for many short lines. */
const BATCH_BYTES = 32 * 1024
const NEWLINE = Buffer.from('\n')

export async function serveLogs(stream: ServerHttp2Stream, q: URLSearchParams, all: Pick<Pods, 'byName'>, containers: ContainerService): Promise<void> {
  const worker = podOf(all, q)
  const id = attemptId(worker, containerOf(worker, q), flag(q, 'previous'))
  const options: LogOptions = { follow: flag(q, 'follow') }
  const tail = optionalNumber(q, 'tailLines')
  if (tail !== undefined) options.tail = tail
  const sinceMs = since(q)
  if (sinceMs !== undefined) options.sinceMs = sinceMs
  const lines = containers.logs(id, options)
  stream.respond({ ':status': 200, 'content-type': 'text/plain' })
  await writeLogs(stream, lines, { timestamps: flag(q, 'timestamps'), limitBytes: optionalNumber(q, 'limitBytes'), follow: options.follow === true })
  stream.end()
}

function since(q: URLSearchParams): number | undefined {
  const seconds = optionalNumber(q, 'sinceSeconds')
  if (seconds !== undefined) return Date.now() - seconds * 1000
  const time = q.get('sinceTime')
  if (time === null || time === '') return undefined
  const ms = Date.parse(time)
  if (Number.isNaN(ms)) throw badRequest(`the parameter "sinceTime" must be an RFC 3339 time, not "${time}"`)
  return ms
}

interface LogSink {
  write(b: Buffer): boolean
  readonly destroyed: boolean
  once(event: 'close', f: () => void): unknown
  off(event: 'close', f: () => void): unknown
}

/** Writes lines with back-pressure until they end, the limit is reached, or the reader has gone. */
export async function writeLogs(
  sink: LogSink & NodeJS.EventEmitter, lines: AsyncIterable<LogLine>, o: { timestamps: boolean; limitBytes: number | undefined; follow: boolean },
): Promise<void> {
  let left = o.limitBytes ?? Infinity
  let batch: Buffer[] = []
  let bytes = 0
  let timer: NodeJS.Immediate | undefined
  let full = false
  const flush = (): void => {
    clearImmediate(timer)
    timer = undefined
    if (bytes > 0 && !sink.destroyed) full = !sink.write(Buffer.concat(batch, bytes))
    batch = []
    bytes = 0
  }
  const iterator = lines[Symbol.asyncIterator]()
  // A follower that waits for the next line would not notice that its reader has gone.
  const gone = (): void => void iterator.return?.()
  sink.once('close', gone)
  try {
    for (;;) {
      const { done, value: line } = await iterator.next()
      if (done === true || sink.destroyed) break
      const parts = [...(o.timestamps ? [Buffer.from(`${line.time} `)] : []), line.text, ...(line.partial ? [] : [NEWLINE])]
      for (const part of parts) {
        const take = part.length <= left ? part : part.subarray(0, left)
        batch.push(take)
        bytes += take.length
        left -= take.length
      }
      if (bytes >= BATCH_BYTES || left <= 0) flush()
      else timer ??= setImmediate(flush)
      if (left <= 0) break
      if (full && !sink.destroyed) {
        full = false
        await Promise.race([once(sink, 'drain').catch(() => {}), once(sink, 'close').catch(() => {})])
      }
    }
    flush()
  } finally {
    sink.off('close', gone)
    await iterator.return?.()
  }
}
