/**
 * gzip on all of zlib's threads: blocks are deflated side by side, each with the end of the one before as its dictionary, and joined into
 * one member (the way of pigz). Equal input gives equal output, whatever the number of threads.
 */
import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { constants, crc32, deflateRaw, deflateRawSync } from 'node:zlib'

const deflate = promisify<Buffer, object, Buffer>(deflateRaw)
const BLOCK_BYTES = 512 << 10
const WINDOW_BYTES = 32 << 10
/** No name, no time, made on Unix. */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])
/** Several times cheaper than zlib's default level 6, for a few percent of size. */
const LEVEL = 3
/** A block is only copied if what it is judged by has more bits a byte than this, and deflating a piece of it gains less than that. */
const NOISE_BITS = 7.8
const NOISE_GAIN = 0.02
const SAMPLES = 4096
const TRIAL_BYTES = 16 << 10

export async function* gzip(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const ahead = Math.min(availableParallelism(), 8) + 1
  const running: Promise<Buffer>[] = []
  let checksum = 0
  let size = 0
  let window: Buffer | undefined
  const start = (block: Buffer, last: boolean): void => {
    checksum = crc32(block, checksum)
    size += block.length
    const work = deflate(block, {
      level: isNoise(block) ? 0 : LEVEL, finishFlush: last ? constants.Z_FINISH : constants.Z_SYNC_FLUSH,
      ...(window === undefined ? {} : { dictionary: window }),
    })
    // Its failure is met when its turn comes.
    work.catch(() => undefined)
    running.push(work)
    window = block.subarray(Math.max(0, block.length - WINDOW_BYTES))
  }
  yield HEADER
  for await (const block of blocks(source)) {
    if (running.length >= ahead) yield await running.shift()!
    start(block, false)
  }
  start(Buffer.alloc(0), true)
  for (const work of running) yield await work
  const trailer = Buffer.alloc(8)
  trailer.writeUInt32LE(checksum, 0)
  trailer.writeUInt32LE(size % 2 ** 32, 4)
  yield trailer
}

/** The same bytes in blocks of one size, the last excepted. */
async function* blocks(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = []
  let size = 0
  for await (let chunk of source) {
    while (size + chunk.length >= BLOCK_BYTES) {
      const taken = BLOCK_BYTES - size
      yield Buffer.concat([...parts, chunk.subarray(0, taken)], BLOCK_BYTES)
      chunk = chunk.subarray(taken)
      parts = []
      size = 0
    }
    if (chunk.length > 0) parts.push(chunk)
    size += chunk.length
  }
  if (size > 0) yield Buffer.concat(parts, size)
}

/** Whether deflating is wasted on it: looking for matches in what is compressed already is what takes zlib the longest. */
export function isNoise(block: Buffer): boolean {
  if (block.length < TRIAL_BYTES) return false
  const counts = new Uint32Array(256)
  const stride = block.length / SAMPLES
  for (let i = 0; i < SAMPLES; i++) counts[block[Math.floor(i * stride)]!]!++
  let bits = 0
  for (const n of counts) if (n > 0) bits -= n / SAMPLES * Math.log2(n / SAMPLES)
  if (bits < NOISE_BITS) return false
  // Bytes of every value may still repeat as a whole.
  const from = (block.length - TRIAL_BYTES) >> 1
  return deflateRawSync(block.subarray(from, from + TRIAL_BYTES), { level: 1 }).length > TRIAL_BYTES * (1 - NOISE_GAIN)
}
