/** Reads a container's log files as blocks of whole lines: rotated ones (plain or zstd), then `current`, then what the daemon adds. */
import { open, readFile, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { createZstdDecompress, zstdDecompress } from 'node:zlib'
import { CURRENT, rotatedFiles, rotatedName } from '../logger/files.ts'
import { isLine, isPartial } from '../logger/line.ts'

const BLOCK_BYTES = 256 << 10
export const NEWLINE = 10

/** How a follower learns that there is more; given by the engine. */
export interface Follow {
  /** Resolves at the next growth or end, at once if one was missed since the last call. */
  next(): Promise<void>
  /** True once nothing will be added any more. */
  ended(): boolean
  stop(): void
}

export interface Position { sequence: number; offset: number }

/** Where the last `tail` lines begin; the oldest line kept without `tail`. Pieces of a long line count as one. */
export async function findStart(dir: string, tail: number | undefined): Promise<Position> {
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
      const data = await wholeRotated(dir, s)
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
 * Whole lines, many at a time; with `follow` until the output has ended. Rotation while reading loses nothing that is still kept: an
 * open file is read to its end, then its successor is looked for. A block is the caller's to keep.
 */
export async function* blocksFrom(dir: string, start: Position, follow: Follow | undefined): AsyncGenerator<Buffer> {
  let { sequence, offset } = start
  for (;;) {
    const current = await openCurrent(dir)
    let inode: number | undefined
    try {
      if (sequence < current.sequence) {
        yield* rotatedBlocks(dir, sequence, offset)
        sequence++
        offset = 0
        continue
      }
      if (current.file !== undefined) {
        inode = (await current.file.stat()).ino
        const has = { sequence, inode }
        offset = yield* tailFile(current.file, offset, follow, () => isRotated(dir, has))
      } else if (follow !== undefined && !follow.ended()) await follow.next()
      // Looked at while the file is open: its inode is nobody else's yet.
      if ((rotatedFiles(dir).at(-1)?.sequence ?? 0) >= sequence) { sequence++; offset = 0; continue }
      // A log of one file was begun again.
      if (inode !== undefined && await isRotated(dir, { sequence, inode })) { offset = 0; continue }
    } finally {
      await current.file?.close()
    }
    if (follow === undefined || follow.ended()) return
  }
}

async function isRotated(dir: string, open: { sequence: number; inode: number }): Promise<boolean> {
  if ((rotatedFiles(dir).at(-1)?.sequence ?? 0) >= open.sequence) return true
  const now = await stat(join(dir, CURRENT)).catch(absent)
  return now !== undefined && now.ino !== open.inode
}

/** Reads `current` to its end and, following, until it was rotated or the output ended. Returns the offset reached. */
async function* tailFile(
  file: FileHandle, from: number, follow: Follow | undefined, rotated: () => Promise<boolean>,
): AsyncGenerator<Buffer, number> {
  let offset = from
  for (;;) {
    // What came before the look at `ended` and at the rotation is read below: nothing can fall between.
    const last = follow === undefined || follow.ended() || await rotated()
    offset = yield* linesOf(file, offset)
    if (last) return offset
    await follow?.next()
  }
}

/** What an open file holds of whole lines now. Returns the offset after them. */
async function* linesOf(file: FileHandle, from: number): AsyncGenerator<Buffer, number> {
  let offset = from
  for (;;) {
    const block = Buffer.allocUnsafe(BLOCK_BYTES)
    const { bytesRead } = await file.read(block, 0, block.length, offset)
    const end = block.lastIndexOf(NEWLINE, bytesRead - 1) + 1
    if (bytesRead === 0 || end === 0) return offset
    offset += end
    // A little is copied out of its block, so that who keeps a line does not keep all of it.
    yield end < BLOCK_BYTES / 8 ? Buffer.from(block.subarray(0, end)) : block.subarray(0, end)
  }
}

/** A rotated file from `offset`; nothing if it is gone. */
async function* rotatedBlocks(dir: string, sequence: number, offset: number): AsyncGenerator<Buffer> {
  const plain = join(dir, rotatedName(sequence))
  const file = await open(plain).catch(absent)
  if (file !== undefined) {
    try {
      yield* linesOf(file, offset)
    } finally {
      await file.close()
    }
    return
  }
  // The compressed one is there before the plain one goes.
  const packed = await open(`${plain}.zst`).catch(absent)
  if (packed === undefined) return
  const input = packed.createReadStream({ highWaterMark: BLOCK_BYTES })
  const output: Readable = input.pipe(createZstdDecompress({ chunkSize: BLOCK_BYTES }))
  input.on('error', (e) => { output.destroy(e) })
  try {
    yield* wholeLines(output, offset)
  } finally {
    output.destroy()
    input.destroy()
  }
}

async function* wholeLines(chunks: AsyncIterable<Buffer>, skip: number): AsyncGenerator<Buffer> {
  let rest: Buffer[] = []
  let left = skip
  for await (const whole of chunks) {
    if (left >= whole.length) { left -= whole.length; continue }
    const chunk = left > 0 ? whole.subarray(left) : whole
    left = 0
    const end = chunk.lastIndexOf(NEWLINE) + 1
    if (end === 0) { rest.push(chunk); continue }
    yield rest.length === 0 ? chunk.subarray(0, end) : Buffer.concat([...rest, chunk.subarray(0, end)])
    rest = end < chunk.length ? [chunk.subarray(end)] : []
  }
}

async function wholeRotated(dir: string, sequence: number): Promise<Buffer | undefined> {
  const plain = join(dir, rotatedName(sequence))
  const bytes = await readFile(plain).catch(absent)
  if (bytes !== undefined) return bytes
  const packed = await readFile(`${plain}.zst`).catch(absent)
  return packed === undefined ? undefined : promisify(zstdDecompress)(packed)
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
    const partial = isLine(data, start, end) && isPartial(data, start)
    if (!partial || end === data.length && missing === wanted) {
      if (--missing === 0) return { offset: end, missing }
    }
    end = start
  }
  return { offset: 0, missing }
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
