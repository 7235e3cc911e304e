/** Reads tar archives as they stream by: names, owners, extended attributes and sparse extents as the archive has them. */
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import { BLOCK_BYTES, extents, parseHeader, parsePax } from './tar-header.ts'
import type { EntryType, Extent, RawHeader } from './tar-header.ts'

/** PAX headers and long names beyond this are refused. */
const MAX_META_BYTES = 1 << 20
/** A sparse file in more pieces than this is refused. */
const MAX_EXTENTS = 1 << 18
/** Of their list: twice as many numbers of at most 16 digits, and a newline each. */
const MAX_MAP_BYTES = MAX_EXTENTS * 2 * 17 + 1024

export interface TarEntry {
  /** As it stands in the archive. */
  name: string
  type: EntryType
  /** Permission bits with set-id and sticky. */
  mode: number
  uid: number
  gid: number
  mtimeMs: number
  /** Of a file, holes included. */
  sizeBytes: number
  linkName: string
  major: number
  minor: number
  xattrs: Map<string, Buffer>
  /** Where the body's bytes belong; undefined: one after another from 0. */
  extents?: Extent[]
  /** A file's bytes, without holes. What is not read is skipped. */
  body(): AsyncGenerator<Buffer>
}

const TYPES: Record<string, EntryType> = {
  '0': 'file', '\0': 'file', '7': 'file', 'S': 'file', '1': 'link', '2': 'symlink', '3': 'character', '4': 'block', '5': 'directory', '6': 'fifo',
}

/** Entries in the archive's order; the input is destroyed when the loop is left. Throws `invalid` for what is no archive. */
export async function* readTar(input: Readable): AsyncGenerator<TarEntry> {
  const source = new ByteSource(input)
  let globals = new Map<string, Buffer>()
  let pax = new Map<string, Buffer>()
  let longName: string | undefined
  let longLink: string | undefined
  try {
    for (;;) {
      const block = await source.read(BLOCK_BYTES, true)
      if (block === undefined) return
      const raw = parseHeader(block)
      if (raw === undefined) {
        await source.drain()
        return
      }
      if ('xgLK'.includes(raw.flag)) {
        const data = await meta(source, raw)
        if (raw.flag === 'x') pax = parsePax(data)
        else if (raw.flag === 'g') globals = new Map([...globals, ...parsePax(data)])
        else if (raw.flag === 'L') longName = data.toString('utf8').replace(/\0[^]*$/, '')
        else longLink = data.toString('utf8').replace(/\0[^]*$/, '')
        continue
      }
      const type = TYPES[raw.flag]
      const values = new Map([...globals, ...pax])
      const stored = integer(values.get('size')) ?? raw.size
      let left = type === 'file' ? stored : 0
      const skip = type === 'file' ? 0 : stored
      const map = await sparseMap(source, raw, values, stored)
      left -= map?.headBytes ?? 0
      if (map !== undefined) checkExtents(map.extents, map.realSize, left)
      if (type !== undefined) {
        const body = async function* (): AsyncGenerator<Buffer> {
          while (left > 0) {
            const chunk = await source.chunk(left)
            left -= chunk.length
            yield chunk
          }
        }
        const name = values.get('GNU.sparse.name')?.toString('utf8') ?? values.get('path')?.toString('utf8') ?? longName ?? raw.name
        yield {
          // Old archives mark directories by a slash only.
          name, type: type === 'file' && name.endsWith('/') && stored === 0 ? 'directory' : type, mode: raw.mode,
          uid: integer(values.get('uid')) ?? raw.uid, gid: integer(values.get('gid')) ?? raw.gid,
          mtimeMs: seconds(values.get('mtime')) ?? raw.mtimeS * 1000, sizeBytes: map?.realSize ?? left,
          linkName: values.get('linkpath')?.toString('utf8') ?? longLink ?? raw.linkName, major: raw.major, minor: raw.minor,
          xattrs: xattrs(values), ...(map === undefined ? {} : { extents: map.extents }), body,
        }
      }
      await source.skip(left + skip)
      await source.skip((BLOCK_BYTES - stored % BLOCK_BYTES) % BLOCK_BYTES)
      pax = new Map()
      longName = longLink = undefined
    }
  } finally {
    input.destroy()
  }
}

async function meta(source: ByteSource, raw: RawHeader): Promise<Buffer> {
  if (raw.size > MAX_META_BYTES) throw new EngineError('invalid', `invalid tar header: ${raw.size} bytes of extended header`)
  const data = await source.read(raw.size)
  await source.skip((BLOCK_BYTES - raw.size % BLOCK_BYTES) % BLOCK_BYTES)
  return data
}

interface SparseMap { extents: Extent[]; realSize: number; /** Bytes of the content that the map itself took. */ headBytes: number }

/** The three ways of GNU tar: its old header, PAX 0.1 (a list in the header), PAX 1.0 (a list before the data). */
async function sparseMap(source: ByteSource, raw: RawHeader, values: Map<string, Buffer>, stored: number): Promise<SparseMap | undefined> {
  if (raw.sparse !== undefined) {
    const all = [...raw.sparse.extents]
    for (let { more } = raw.sparse; more;) {
      const block = await source.read(BLOCK_BYTES)
      all.push(...extents(block, 0, 21))
      more = block[504] !== 0
      if (all.length > MAX_EXTENTS) throw new EngineError('invalid', 'a sparse file in the archive has too many pieces')
    }
    return { extents: all, realSize: raw.sparse.realSize, headBytes: 0 }
  }
  const realSize = integer(values.get('GNU.sparse.realsize')) ?? integer(values.get('GNU.sparse.size'))
  if (realSize === undefined) return undefined
  const list = values.get('GNU.sparse.map')
  if (list !== undefined) return { extents: pairs(list.toString('latin1').split(',')), realSize, headBytes: 0 }
  if (values.get('GNU.sparse.major')?.toString() !== '1') return undefined
  const read: Buffer[] = []
  let lines = 0
  for (let wanted = Infinity; lines < wanted;) {
    if (read.length * BLOCK_BYTES >= Math.min(stored, MAX_MAP_BYTES)) throw new EngineError('invalid', 'a sparse file in the archive has a broken map')
    const block = await source.read(BLOCK_BYTES)
    read.push(block)
    for (let at = block.indexOf(10); at >= 0; at = block.indexOf(10, at + 1)) lines++
    if (wanted === Infinity && lines > 0) {
      const count = Number(Buffer.concat(read).toString('latin1').split('\n', 1)[0])
      if (!Number.isInteger(count) || count < 0 || count > MAX_EXTENTS) throw new EngineError('invalid', 'a sparse file in the archive has a broken map')
      wanted = 1 + count * 2
    }
  }
  const [count, ...numbers] = Buffer.concat(read).toString('latin1').split('\n')
  return { extents: pairs(numbers.slice(0, Number(count) * 2)), realSize, headBytes: read.length * BLOCK_BYTES }
}

function pairs(numbers: string[]): Extent[] {
  const out: Extent[] = []
  for (let i = 0; i + 1 < numbers.length; i += 2) out.push({ offset: Number(numbers[i]), size: Number(numbers[i + 1]) })
  return out
}

function checkExtents(list: Extent[], realSize: number, bytes: number): void {
  let sum = 0
  let end = 0
  for (const { offset, size } of list) {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(size) || offset < end || size < 0) break
    end = offset + size
    sum += size
  }
  if (sum !== bytes || end > realSize) throw new EngineError('invalid', 'a sparse file in the archive has a broken map')
}

function xattrs(values: Map<string, Buffer>): Map<string, Buffer> {
  const out = new Map<string, Buffer>()
  for (const [key, value] of values) if (key.startsWith('SCHILY.xattr.')) out.set(key.slice(13), value)
  return out
}

function integer(value: Buffer | undefined): number | undefined {
  if (value === undefined) return undefined
  const n = Number(value.toString('latin1'))
  if (!Number.isSafeInteger(n) || n < 0) throw new EngineError('invalid', 'invalid tar header: a number is none')
  return n
}

function seconds(value: Buffer | undefined): number | undefined {
  if (value === undefined) return undefined
  const n = Number(value.toString('latin1'))
  return Number.isFinite(n) ? n * 1000 : undefined
}

/** Bytes of a stream on demand: the stream is read no faster than it is asked. */
class ByteSource {
  readonly #iterator: AsyncIterator<Buffer>
  #rest: Buffer = Buffer.alloc(0)

  constructor(input: Readable) { this.#iterator = input[Symbol.asyncIterator]() as AsyncIterator<Buffer> }

  /** At most `max` bytes, at least one. */
  async chunk(max: number): Promise<Buffer> {
    while (this.#rest.length === 0) {
      const next = await this.#next()
      if (next === undefined) throw new EngineError('invalid', 'the archive ends in the middle: unexpected EOF')
      this.#rest = next
    }
    const out = this.#rest.subarray(0, max)
    this.#rest = this.#rest.subarray(out.length)
    return out
  }

  read(bytes: number): Promise<Buffer>
  /** With `orEnd`: undefined if the stream has ended here. */
  read(bytes: number, orEnd: true): Promise<Buffer | undefined>
  async read(bytes: number, orEnd = false): Promise<Buffer | undefined> {
    if (bytes === 0) return Buffer.alloc(0)
    if (orEnd && this.#rest.length === 0) {
      const next = await this.#next()
      if (next === undefined) return undefined
      this.#rest = next
    }
    if (this.#rest.length >= bytes) return this.chunk(bytes)
    const out = Buffer.allocUnsafe(bytes)
    for (let at = 0; at < bytes;) {
      const part = await this.chunk(bytes - at)
      part.copy(out, at)
      at += part.length
    }
    return out
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) left -= (await this.chunk(left)).length
  }

  /** Takes what follows the end of the archive, so that its sender can finish. */
  async drain(): Promise<void> { while (await this.#next() !== undefined) { /* padding */ } }

  /** The next piece that is not empty. */
  async #next(): Promise<Buffer | undefined> {
    for (;;) {
      const { value, done } = await this.#iterator.next()
      if (done === true) return undefined
      const chunk = value as Buffer
      if (chunk.length > 0) return chunk
    }
  }
}
