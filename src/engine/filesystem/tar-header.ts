/** Headers of tar archives: ustar, PAX (POSIX.1-2001), and what GNU tar writes beside them. */
import { EngineError } from '../engine.ts'

export const BLOCK_BYTES = 512

export type EntryType = 'file' | 'directory' | 'symlink' | 'link' | 'character' | 'block' | 'fifo'

/** One 512-byte header as it stands. */
export interface RawHeader {
  name: string
  mode: number
  uid: number
  gid: number
  size: number
  mtimeS: number
  flag: string
  linkName: string
  major: number
  minor: number
  /** Old GNU sparse files: their extents and size, whether more extents follow. */
  sparse?: { extents: Extent[]; realSize: number; more: boolean }
}

/** A piece of a sparse file that has data. */
export interface Extent { offset: number; size: number }

/** undefined for a block of zeros: the end. Throws `invalid` for a wrong check sum. */
export function parseHeader(block: Buffer): RawHeader | undefined {
  let sum = 8 * 32
  for (let i = 0; i < BLOCK_BYTES; i++) if (i < 148 || i >= 156) sum += block[i] as number
  if (sum === 8 * 32) return undefined
  if (number(block, 148, 8) !== sum) throw new EngineError('invalid', 'invalid tar header: the check sum is wrong')
  const magic = block.toString('latin1', 257, 263)
  const name = text(block, 0, 100)
  const prefix = magic === 'ustar\0' ? text(block, 345, 155) : ''
  const flag = String.fromCharCode(block[156] as number)
  return {
    name: prefix === '' ? name : `${prefix}/${name}`, mode: number(block, 100, 8) & 0o7777, uid: number(block, 108, 8), gid: number(block, 116, 8),
    size: number(block, 124, 12), mtimeS: number(block, 136, 12), flag, linkName: text(block, 157, 100),
    major: number(block, 329, 8), minor: number(block, 337, 8),
    ...(flag === 'S' ? { sparse: { extents: extents(block, 386, 4), realSize: number(block, 483, 12), more: block[482] !== 0 } } : {}),
  }
}

/** Extents of an old GNU sparse header or of a block that continues it (21 of them from 0; byte 504 says whether more follow). */
export function extents(block: Buffer, at: number, count: number): Extent[] {
  const out: Extent[] = []
  for (let i = 0; i < count; i++) {
    const from = at + i * 24
    if (block[from] === 0) break
    out.push({ offset: number(block, from, 12), size: number(block, from + 12, 12) })
  }
  return out
}

function text(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at)
  return block.toString('utf8', at, end < 0 || end > at + length ? at + length : end)
}

/** Octal digits, or base 256 with the first bit set. */
function number(block: Buffer, at: number, length: number): number {
  const first = block[at] as number
  if (first >= 0x80) {
    let value = first === 0xff ? -1n : BigInt(first & 0x7f)
    for (let i = 1; i < length; i++) value = value * 256n + BigInt(block[at + i] as number)
    return checked(Number(value))
  }
  const digits = block.toString('latin1', at, at + length).replace(/\0[^]*$/, '').trim()
  if (digits === '') return 0
  if (!/^-?[0-7]+$/.test(digits)) throw new EngineError('invalid', 'invalid tar header: a number is none')
  return checked(Number.parseInt(digits, 8))
}

function checked(n: number): number {
  if (!Number.isSafeInteger(n)) throw new EngineError('invalid', 'invalid tar header: a number is too large')
  return n
}

/** Records of a PAX header, `LENGTH KEY=VALUE\n`, values as bytes. */
export function parsePax(data: Buffer): Map<string, Buffer> {
  const out = new Map<string, Buffer>()
  for (let at = 0; at < data.length;) {
    const space = data.indexOf(32, at)
    const length = Number(data.toString('latin1', at, space))
    const equals = data.indexOf(61, space)
    if (space < 0 || !Number.isInteger(length) || length < 5 || at + length > data.length || equals < 0 || equals >= at + length) {
      throw new EngineError('invalid', 'invalid tar header: a PAX record is broken')
    }
    out.set(data.toString('utf8', space + 1, equals), data.subarray(equals + 1, at + length - 1))
    at += length
  }
  return out
}

/** What an entry made here needs; what does not fit the plain header goes into a PAX header before it. */
export interface NewHeader {
  name: string
  type: 'file' | 'directory'
  mode: number
  uid: number
  gid: number
  sizeBytes: number
  mtimeMs: number
  /** Extended attributes, whole names. */
  xattrs?: Map<string, Buffer>
}

const MAX_OCTAL_SIZE = 0o77777777777
const MAX_OCTAL_ID = 0o7777777

/** The header's blocks; content, padded to whole blocks, follows. */
export function encodeHeader(h: NewHeader): Buffer {
  const pax: Buffer[] = []
  const record = (key: string, value: Buffer | string): void => { pax.push(paxRecord(key, Buffer.from(value))) }
  if (Buffer.byteLength(h.name) > 100) record('path', h.name)
  if (h.sizeBytes > MAX_OCTAL_SIZE) record('size', String(h.sizeBytes))
  if (h.uid > MAX_OCTAL_ID) record('uid', String(h.uid))
  if (h.gid > MAX_OCTAL_ID) record('gid', String(h.gid))
  for (const [name, value] of h.xattrs ?? []) record(`SCHILY.xattr.${name}`, value)
  const own = plainHeader(h, h.type === 'directory' ? '5' : '0')
  if (pax.length === 0) return own
  const data = Buffer.concat(pax)
  const head = plainHeader({ ...h, name: 'PaxHeader', mode: 0o644, uid: 0, gid: 0, sizeBytes: data.length }, 'x')
  return Buffer.concat([head, data, padding(data.length), own])
}

/** Zeros up to the next whole block. */
export function padding(bytes: number): Buffer { return Buffer.alloc((BLOCK_BYTES - bytes % BLOCK_BYTES) % BLOCK_BYTES) }

function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function plainHeader(h: NewHeader, flag: string): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES)
  const octal = (value: number, at: number, length: number, max: number): void => {
    block.write((value > max || value < 0 ? 0 : value).toString(8).padStart(length - 1, '0'), at, 'latin1')
  }
  block.set(Buffer.from(h.name).subarray(0, 100), 0)
  octal(h.mode & 0o7777, 100, 8, MAX_OCTAL_ID)
  octal(h.uid, 108, 8, MAX_OCTAL_ID)
  octal(h.gid, 116, 8, MAX_OCTAL_ID)
  octal(h.sizeBytes, 124, 12, MAX_OCTAL_SIZE)
  octal(Math.floor(h.mtimeMs / 1000), 136, 12, MAX_OCTAL_SIZE)
  block.write('        ', 148, 'latin1')
  block.write(flag, 156, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  let sum = 0
  for (const b of block) sum += b
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}
