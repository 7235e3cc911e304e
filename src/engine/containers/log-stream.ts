/**
 * A container's log as Docker's clients get it: frames of an 8 byte header (stream number, three zeros, length as uint32, big-endian) and
 * text, or plain text of a terminal. Works on the files' blocks; a million lines make no objects.
 */
import { Readable } from 'node:stream'
import type { LogStreamOptions } from '../engine.ts'
import { isLine, isPartial, isStderr, Prefix } from '../logger/line.ts'
import { blocksFrom, findStart, NEWLINE } from './log-blocks.ts'
import type { Follow } from './log-blocks.ts'

const HEADER_BYTES = 8
/** Text of neighbouring lines of one stream shares a frame up to this. */
const FRAME_BYTES = 64 << 10
/** Below this a loop copies faster than a call. */
const SHORT_BYTES = 48
const MAX_TIMER_MS = 0x7fffffff

/** `follow` is asked for once the stream is read; without it the stream ends with what is there. */
export function streamLogs(dir: string, options: LogStreamOptions & { tty: boolean }, ready: () => Promise<Follow | undefined>): Readable {
  const closed = Promise.withResolvers<void>()
  const source = pieces(dir, options, ready, closed.promise)
  // Not Readable.from: that would wait for a silent container before it closes.
  const stream: Readable = new Readable({
    highWaterMark: 256 << 10,
    read: () => { source.next().then(({ done, value }) => stream.push(done === true ? null : value), (e: Error) => { stream.destroy(e) }) },
    destroy: (error, done) => {
      closed.resolve()
      void source.return(undefined)
      done(error)
    },
  })
  return stream
}

async function* pieces(
  dir: string, options: LogStreamOptions & { tty: boolean }, ready: () => Promise<Follow | undefined>, closed: Promise<void>,
): AsyncGenerator<Buffer> {
  const follow = untilClosed(await ready(), closed, options.untilNs)
  const wire = new Wire(options)
  try {
    for await (const block of blocksFrom(dir, await findStart(dir, options.tail), follow)) {
      const out = wire.convert(block)
      if (out.length > 0) yield out
      if (wire.done) return
    }
  } finally {
    follow?.stop()
  }
}

/** Ends also when the reader has gone, or at the time that was asked for: a silent container tells of neither. */
function untilClosed(follow: Follow | undefined, closed: Promise<void>, untilNs: bigint | undefined): Follow | undefined {
  if (follow === undefined) return undefined
  let over = false
  let timer: NodeJS.Timeout | undefined
  const end = closed.then(() => { over = true })
  const late = Promise.withResolvers<void>()
  if (untilNs !== undefined) {
    const restMs = Number(untilNs / 1_000_000n) - Date.now() + 1
    if (restMs < MAX_TIMER_MS) timer = setTimeout(() => { over = true; late.resolve() }, Math.max(0, restMs))
  }
  return {
    next: () => Promise.race([follow.next(), end, late.promise]),
    ended: () => over || follow.ended(),
    stop: () => { clearTimeout(timer); follow.stop() },
  }
}

/** Turns blocks into the bytes for the wire; remembers between them what stands in the middle of a line. */
export class Wire {
  /** True once a line later than asked for was met. */
  done = false
  readonly #wanted: [stdout: boolean, stderr: boolean]
  readonly #framed: boolean
  /** One frame a line: some clients take each frame of a followed log for one. */
  readonly #single: boolean
  readonly #timestamps: boolean
  readonly #details: Buffer
  readonly #since: Buffer | undefined
  readonly #until: Buffer | undefined
  readonly #inLine: [boolean, boolean] = [false, false]

  constructor(o: LogStreamOptions & { tty: boolean }) {
    this.#wanted = [o.stdout, o.stderr]
    this.#framed = !o.tty
    this.#single = o.follow || o.frameLines === true
    this.#timestamps = o.timestamps === true
    this.#details = Buffer.from(o.details ?? '')
    this.#since = o.sinceNs === undefined ? undefined : stamp(o.sinceNs)
    this.#until = o.untilNs === undefined ? undefined : stamp(o.untilNs)
  }

  /** `block` holds whole lines. */
  convert(block: Buffer): Buffer {
    const extra = this.#details.length + (this.#framed ? HEADER_BYTES : 0)
    // Without details a line only shrinks: its prefix is longer than a header and its time together.
    const out = Buffer.allocUnsafe(extra + Prefix.timeEnd + 1 <= Prefix.text ? block.length + HEADER_BYTES : this.#bound(block, extra))
    let to = 0
    let header = -1
    let open = -1
    let at = 0
    for (let end = block.indexOf(NEWLINE); end >= 0; end = block.indexOf(NEWLINE, at)) {
      const start = at
      at = end + 1
      if (!isLine(block, start, end)) continue
      const n = isStderr(block, start) ? 1 : 0
      if (!this.#wanted[n] || this.#since !== undefined && before(block, start, this.#since)) continue
      if (this.#until !== undefined && after(block, start, this.#until)) { this.done = true; break }
      const continues = this.#inLine[n]
      const partial = isPartial(block, start)
      if (this.#framed && (this.#single || open !== n || to - header > FRAME_BYTES)) {
        if (header >= 0) out.writeUInt32BE(to - header - HEADER_BYTES, header + 4)
        out.writeUInt32BE((n + 1) << 24, to)
        header = to
        open = n
        to += HEADER_BYTES
      }
      if (!continues) {
        if (this.#timestamps) {
          to += block.copy(out, to, start, start + Prefix.timeEnd)
          out[to++] = 32
        }
        if (this.#details.length > 0) to += this.#details.copy(out, to)
      }
      // With its newline, unless more of the line is to come.
      const stop = partial ? end : at
      const from = start + Prefix.text
      if (stop - from < SHORT_BYTES) for (let i = from; i < stop; i++) out[to++] = block[i] as number
      else to += block.copy(out, to, from, stop)
      this.#inLine[n] = partial
    }
    if (header >= 0) out.writeUInt32BE(to - header - HEADER_BYTES, header + 4)
    return out.subarray(0, to)
  }

  #bound(block: Buffer, extra: number): number {
    let lines = 1
    for (let end = block.indexOf(NEWLINE); end >= 0; end = block.indexOf(NEWLINE, end + 1)) lines++
    return block.length + lines * extra
  }
}

/** Fixed width, so that the order of bytes is the order of time. */
function stamp(ns: bigint): Buffer {
  const seconds = ns / 1_000_000_000n
  const text = new Date(Number(seconds) * 1000).toISOString().slice(0, 20)
  return Buffer.from(`${text}${String(ns % 1_000_000_000n).padStart(9, '0')}Z`, 'latin1')
}

function before(block: Buffer, start: number, time: Buffer): boolean { return block.compare(time, 0, time.length, start, start + Prefix.timeEnd) < 0 }
function after(block: Buffer, start: number, time: Buffer): boolean { return block.compare(time, 0, time.length, start, start + Prefix.timeEnd) > 0 }
