/**
 * Protocol Buffers (proto3) for what containerd's API uses of it: a message is a table of its fields as data, `message({ id: [1, string] })`,
 * that both directions run over. Read objects are complete: zero values, [], {} and null (messages) stand for what was not sent.
 * Of the format's types only those that occur here exist: no floats, groups or lists of numbers. Format: protobuf.dev/programming-guides/encoding.
 */

const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

/** How values of one type travel. */
export interface Type<W extends number = number> {
  readonly wire: W
  /** Whether it is the value that is left out. */
  isZero(value: unknown): boolean
  zero(): unknown
  write(w: Writer, value: never): void
  read(r: Reader): unknown
}
type Delimited = Type<typeof BYTES>
/** A list or map: several occurrences of one field. */
interface Repeated { readonly element: Delimited; readonly isMap: boolean }

/** Field name → number and type. */
export type Fields = Readonly<Record<string, readonly [number: number, type: Type | Repeated]>>

/** A type whose values are also messages of their own. */
export interface MessageType extends Delimited {
  /** `headBytes` are left free before it. Fields that are undefined, null or unknown here are not sent. */
  encode(value: object, headBytes?: number): Buffer
  /** Throws RangeError on what is no such message. Values of `bytes` fields are views of `data`. */
  decode(data: Buffer): object
}

class Writer {
  buffer: Buffer
  at: number

  constructor(headBytes: number) {
    this.buffer = Buffer.allocUnsafe(256)
    this.at = headBytes
  }

  #reserve(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.at + bytes))
    this.buffer.copy(larger, 0, 0, this.at)
    this.buffer = larger
  }

  /** Any safe integer; negative ones in the ten bytes of their 64-bit two's complement. */
  varint(value: number): void {
    this.#reserve(10)
    let low = value >>> 0
    let high = Math.floor(value / 0x1_0000_0000) >>> 0
    while (high > 0 || low > 0x7f) {
      this.buffer[this.at++] = low & 0x7f | 0x80
      low = (low >>> 7 | high << 25) >>> 0
      high >>>= 7
    }
    this.buffer[this.at++] = low
  }

  string(text: string): void {
    const bytes = Buffer.byteLength(text)
    this.varint(bytes)
    this.#reserve(bytes)
    this.at += this.buffer.write(text, this.at)
  }

  /** One value, also where it comes in pieces. */
  bytes(data: Uint8Array | Uint8Array[]): void {
    const pieces = Array.isArray(data) ? data : [data]
    const total = pieces.reduce((sum, p) => sum + p.length, 0)
    this.varint(total)
    this.#reserve(total)
    for (const p of pieces) {
      this.buffer.set(p, this.at)
      this.at += p.length
    }
  }

  /** What `write` adds, after its length. */
  delimited(write: () => void): void {
    this.#reserve(1)
    const start = ++this.at
    write()
    const length = this.at - start
    if (length < 0x80) { this.buffer[start - 1] = length; return }
    // The length takes more than the byte left for it: move what was written out of the way.
    const more = Math.ceil((32 - Math.clz32(length)) / 7) - 1
    this.#reserve(more)
    this.buffer.copyWithin(start + more, start, this.at)
    this.at = start - 1
    this.varint(length)
    this.at += length
  }
}

class Reader {
  readonly buffer: Buffer
  readonly end: number
  at: number
  low = 0
  high = 0

  constructor(buffer: Buffer, at: number, end: number) {
    this.buffer = buffer
    this.at = at
    this.end = end
  }

  /** Into `low` and `high`, 32 bits each. */
  varint(): this {
    this.low = this.high = 0
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.end) throw new RangeError('a protobuf message is cut short')
      const byte = this.buffer[this.at++]!
      const bits = byte & 0x7f
      if (shift < 32) this.low = (this.low | bits << shift) >>> 0
      if (shift > 28) this.high = (this.high | bits << shift - 32) >>> 0
      else if (shift === 28) this.high = bits >>> 4
      if (byte < 0x80) return this
    }
    throw new RangeError('a protobuf number is longer than ten bytes')
  }

  /** Where a field of `bytes` bytes from here ends. */
  #after(bytes: number): number {
    const end = this.at + bytes
    if (end > this.end) throw new RangeError('a protobuf message is cut short')
    return end
  }

  /** A length and as many bytes. */
  delimited(): Reader {
    this.varint()
    const end = this.#after(this.high * 0x1_0000_0000 + this.low)
    const inner = new Reader(this.buffer, this.at, end)
    this.at = end
    return inner
  }

  skip(wire: number): void {
    if (wire === VARINT) this.varint()
    else if (wire === BYTES) this.delimited()
    else if (wire === FIXED64) this.at = this.#after(8)
    else if (wire === FIXED32) this.at = this.#after(4)
    else throw new RangeError(`a protobuf message holds a field of wire type ${wire}`)
  }
}

function number(from: (low: number, high: number) => number): Type<typeof VARINT> {
  return {
    wire: VARINT,
    isZero: (value) => value === 0,
    zero: () => 0,
    write: (w, value: number) => { w.varint(value) },
    read: (r) => { r.varint(); return from(r.low, r.high) },
  }
}

export const int32 = number((low) => low | 0)
export const uint32 = number((low) => low)
/** As a JavaScript number: exact up to 2^53, which no size, offset or time of containerd's passes. */
export const int64 = number((low, high) => (high | 0) * 0x1_0000_0000 + low)
export const uint64 = number((low, high) => high * 0x1_0000_0000 + low)

export const bool: Type<typeof VARINT> = {
  wire: VARINT,
  isZero: (value) => value === false,
  zero: () => false,
  write: (w, value: boolean) => { w.varint(value ? 1 : 0) },
  read: (r) => { r.varint(); return r.low !== 0 || r.high !== 0 },
}

/** Read as a name; a number that has none reads as the first. */
export function enumeration(...names: string[]): Type<typeof VARINT> {
  return {
    wire: VARINT,
    isZero: (value) => value === names[0],
    zero: () => names[0],
    write(w, value: string) {
      const index = names.indexOf(value)
      if (index < 0) throw new RangeError(`"${value}" is none of ${names.join(', ')}`)
      w.varint(index)
    },
    read: (r) => names[r.varint().low] ?? names[0],
  }
}

export const string: Delimited = {
  wire: BYTES,
  isZero: (value) => value === '',
  zero: () => '',
  write: (w, value: string) => { w.string(value) },
  read(r) {
    const { buffer, at, end } = r.delimited()
    return buffer.toString('utf8', at, end)
  },
}

export const bytes: Delimited = {
  wire: BYTES,
  isZero: (value) => (value as Uint8Array).length === 0,
  zero: () => Buffer.alloc(0),
  write: (w, value: Uint8Array) => { w.bytes(value) },
  read(r) {
    const { buffer, at, end } = r.delimited()
    return buffer.subarray(at, end)
  },
}

export function list(element: Delimited): Repeated { return { element, isMap: false } }

/** From strings, read into an object. */
export function map(value: Type): Repeated {
  return { element: message({ key: [1, string], value: [2, value] }), isMap: true }
}

export function message(fields: Fields): MessageType {
  const entries = Object.entries(fields).map(([name, [id, type]]) => ({ name, id, type }))
  const byId = new Map(entries.map((f) => [f.id, f]))

  const write = (w: Writer, value: Record<string, unknown>): void => {
    for (const { name, id, type } of entries) {
      const v = value[name]
      if (v === undefined || v === null) continue
      if (!('element' in type)) {
        if (!type.isZero(v)) writeField(w, id, type, v)
      } else if (type.isMap) {
        for (const [key, item] of Object.entries(v)) writeField(w, id, type.element, { key, value: item as unknown })
      } else {
        for (const item of v as unknown[]) writeField(w, id, type.element, item)
      }
    }
  }

  const read = (r: Reader): object => {
    const result: Record<string, unknown> = {}
    for (const { name, type } of entries) result[name] = !('element' in type) ? type.zero() : type.isMap ? {} : []
    while (r.at < r.end) {
      const tag = r.varint().low
      const field = byId.get(tag >>> 3)
      const wire = tag & 7
      const type = field === undefined ? undefined : 'element' in field.type ? field.type.element : field.type
      if (field === undefined || type?.wire !== wire) { r.skip(wire); continue }
      const value = type.read(r)
      if (!('element' in field.type)) {
        result[field.name] = value
      } else if (field.type.isMap) {
        const entry = value as { key: string; value: unknown }
        // Never an assignment: a key may be `__proto__`.
        Object.defineProperty(result[field.name], entry.key, { value: entry.value, writable: true, enumerable: true, configurable: true })
      } else {
        (result[field.name] as unknown[]).push(value)
      }
    }
    return result
  }

  return {
    wire: BYTES,
    isZero: () => false,
    zero: () => null,
    write: (w, value: Record<string, unknown>) => { w.delimited(() => { write(w, value) }) },
    read: (r) => read(r.delimited()),
    encode(value, headBytes = 0) {
      const w = new Writer(headBytes)
      write(w, value as Record<string, unknown>)
      return w.buffer.subarray(0, w.at)
    },
    decode: (data) => read(new Reader(data, 0, data.length)),
  }
}

function writeField(w: Writer, id: number, type: Type, value: unknown): void {
  w.varint(id << 3 | type.wire)
  type.write(w, value as never)
}
