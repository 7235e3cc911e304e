/** Reads a container's log files: rotated ones (plain or zstd), then `current`, then what the daemon adds. */
import { open, readFile } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import type { LogLine, LogOptions } from '../engine.ts'
import { CURRENT, rotatedFiles, rotatedName } from '../logger/files.ts'

const BLOCK_BYTES = 256 << 10
const NEWLINE = 10
const SPACE = 32

/** How a follower learns that there is more; given by the engine. */
export interface Follow {
  /** Resolves at the next growth or end, at once if one was missed since the last call. */
  next(): Promise<void>
  /** True once nothing will be added any more. */
  ended(): boolean
  stop(): void
}

/**
 * Lines of the log in `dir` in order. With `follow` it goes on until the output has ended. Rotation while reading loses
 * nothing that is still kept: an open file is read to its end, then its successor is looked for by number.
 */
export async function* readLogs(dir: string, options: LogOptions, follow?: Follow): AsyncGenerator<LogLine> {
  const { sinceMs = -Infinity, untilMs = Infinity } = options
  try {
    const start = await findStart(dir, options.tail)
    const timed = sinceMs > -Infinity || untilMs < Infinity
    for await (const block of blocksFrom(dir, start, follow)) {
      let at = 0
      for (let end = block.indexOf(NEWLINE); end >= 0; end = block.indexOf(NEWLINE, at)) {
        const parsed = parseLine(block.subarray(at, end))
        at = end + 1
        if (parsed === undefined) continue
        if (timed) {
          const atMs = Date.parse(parsed.time)
          if (atMs < sinceMs) continue
          if (atMs > untilMs) return
        }
        yield parsed
      }
    }
  } finally {
    follow?.stop()
  }
}

interface Position { sequence: number; offset: number }

/** `TIME STREAM F text`; undefined for anything else (a line cut by a crash). */
export function parseLine(line: Buffer): LogLine | undefined {
  const a = line.indexOf(SPACE)
  const b = line.indexOf(SPACE, a + 1)
  if (a < 20 || b < 0 || line[b + 2] !== SPACE) return undefined
  return {
    time: line.toString('latin1', 0, a), stream: line[a + 4] === 101 ? 'stderr' : 'stdout', text: line.subarray(b + 3),
    partial: line[b + 1] === 80,
  }
}

/** The number `current` will get, and its open file; a rotation in between is noticed and tried again. */
async function openCurrent(dir: string): Promise<{ sequence: number; file: FileHandle | undefined }> {
  for (;;) {
    const file = await open(join(dir, CURRENT)).catch(absent)
    const sequence = (rotatedFiles(dir).at(-1)?.sequence ?? 0) + 1
    const again = await open(join(dir, CURRENT)).catch(absent)
    const same = file !== undefined && again !== undefined
      ? (await file.stat()).ino === (await again.stat()).ino && ((rotatedFiles(dir).at(-1)?.sequence ?? 0) + 1) === sequence
      : file === again
    await again?.close()
    if (same) return { sequence, file }
    await file?.close()
  }
}

function absent(e: unknown): undefined {
  if ((e as NodeJS.ErrnoException).code !== 'ENOENT') throw e
  return undefined
}

async function readRotated(dir: string, sequence: number): Promise<Buffer | undefined> {
  const plain = join(dir, rotatedName(sequence))
  // Plain first, compressed, and plain again: compression may finish between the looks.
  const bytes = await readFile(plain).catch(absent)
  if (bytes !== undefined) return bytes
  const packed = await readFile(`${plain}.zst`).catch(absent)
  return packed === undefined ? undefined : promisify(zstdDecompress)(packed)
}

/** Where the last `tail` lines begin; the oldest line kept without `tail`. Pieces of a long line count as one. */
async function findStart(dir: string, tail: number | undefined): Promise<Position> {
  const oldest = rotatedFiles(dir)[0]?.sequence
  const { sequence, file } = await openCurrent(dir)
  try {
    if (tail === undefined) return { sequence: oldest ?? sequence, offset: 0 }
    let position: Position = { sequence, offset: 0 }
    let wanted = Math.max(0, tail) + 1
    if (file !== undefined) {
      let end = (await file.stat()).size
      position.offset = end
      // Backwards in blocks that end where lines end.
      while (end > 0 && wanted > 0) {
        const from = Math.max(0, end - BLOCK_BYTES)
        const block = Buffer.alloc(end - from)
        await file.read(block, 0, block.length, from)
        const cut = from === 0 ? 0 : block.indexOf(NEWLINE) + 1
        if (cut === 0 && from > 0) break
        const found = lastLines(block.subarray(cut), wanted)
        wanted = found.missing
        position = { sequence, offset: from + cut + found.offset }
        end = from + cut
      }
    }
    for (let s = sequence - 1; wanted > 0 && oldest !== undefined && s >= oldest; s--) {
      const data = await readRotated(dir, s)
      if (data === undefined) break
      const found = lastLines(data, wanted)
      wanted = found.missing
      position = { sequence: s, offset: found.offset }
    }
    return position
  } finally {
    await file?.close()
  }
}

/**
 * Offset after the `wanted`-th full line from the end, so that one line less follows it; `missing` is what remains to be found.
 * `wanted` counts one more than the lines to keep: the end of the line before them.
 */
function lastLines(data: Buffer, wanted: number): { offset: number; missing: number } {
  let end = data.length
  let missing = wanted
  while (end > 0) {
    const start = end >= 2 ? data.lastIndexOf(NEWLINE, end - 2) + 1 : 0
    const partial = parseLine(data.subarray(start, end))?.partial === true
    if (!partial || end === data.length && missing === wanted) {
      if (--missing === 0) return { offset: end, missing }
    }
    end = start
  }
  return { offset: 0, missing }
}

/** Whole lines, many at a time. */
async function* blocksFrom(dir: string, start: Position, follow: Follow | undefined): AsyncGenerator<Buffer> {
  let { sequence, offset } = start
  for (;;) {
    const current = await openCurrent(dir)
    try {
      if (sequence < current.sequence) {
        const data = await readRotated(dir, sequence)
        if (data !== undefined) yield data.subarray(offset)
        sequence++
        offset = 0
        continue
      }
      if (current.file !== undefined) offset = yield* tailFile(dir, current.file, sequence, offset, follow)
      else if (follow !== undefined && !follow.ended()) await follow.next()
    } finally {
      await current.file?.close()
    }
    const rotated = (rotatedFiles(dir).at(-1)?.sequence ?? 0) >= sequence
    if (rotated) { sequence++; offset = 0; continue }
    if (follow === undefined || follow.ended()) return
  }
}

/** Reads `current` to its end and, following, until it was rotated or the output ended. Returns the offset reached. */
async function* tailFile(
  dir: string, file: FileHandle, sequence: number, from: number, follow: Follow | undefined,
): AsyncGenerator<Buffer, number> {
  let offset = from
  let block = Buffer.allocUnsafe(BLOCK_BYTES)
  for (;;) {
    // What came before the look at `ended` and at the rotation is read below: nothing can fall between.
    const last = follow === undefined || follow.ended() || (rotatedFiles(dir).at(-1)?.sequence ?? 0) >= sequence
    for (;;) {
      const { bytesRead } = await file.read(block, 0, block.length, offset)
      const end = block.lastIndexOf(NEWLINE, bytesRead - 1) + 1
      if (bytesRead === 0 || end === 0) break
      // Lines handed out are parts of their buffer: a full block is given away, a little is copied out of it.
      const little = end < BLOCK_BYTES / 8
      const data = little ? Buffer.from(block.subarray(0, end)) : block.subarray(0, end)
      if (!little) block = Buffer.allocUnsafe(BLOCK_BYTES)
      offset += end
      yield data
    }
    if (last) return offset
    await follow?.next()
  }
}
