/**
 * Request bodies in Kubernetes' protobuf, which typed Go clients (kubectl ≥ 1.32, helm ≥ 3.17) send. Only decoding:
 * every client accepts JSON answers.
 */
import { badRequest } from '../errors.ts'
import { typeOf } from './registry.ts'
import type { Field, Message, Scalar } from './registry.ts'
import { formatMicroTime, formatTime } from '../time.ts'

const MAGIC = [0x6b, 0x38, 0x73, 0x00]
const MAX_NESTING = 100

/** A cursor over one message's bytes. */
class Reader {
  readonly bytes: Buffer
  at: number
  readonly end: number

  constructor(bytes: Buffer, start: number, end: number) {
    this.bytes = bytes
    this.at = start
    this.end = end
  }

  /** An unsigned varint of up to 64 bits. */
  varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new RangeError('varint too long')
  }

  /** A varint that fits 32 bits: tags and lengths. */
  small(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new RangeError('length too long')
  }

  byte(): number {
    if (this.at >= this.end) throw new RangeError('unexpected end')
    return this.bytes[this.at++] as number
  }

  /** The next length-delimited field's content. */
  part(): Reader {
    const length = this.small()
    const start = this.at
    if (start + length > this.end) throw new RangeError('length beyond the end')
    this.at = start + length
    return new Reader(this.bytes, start, this.at)
  }

  text(): string { return this.bytes.toString('utf8', this.at, this.end) }

  skip(wireType: number): void {
    if (wireType === 0) this.varint()
    else if (wireType === 1) this.at += 8
    else if (wireType === 2) this.part()
    else if (wireType === 5) this.at += 4
    else throw new RangeError(`unknown wire type ${wireType}`)
    if (this.at > this.end) throw new RangeError('unexpected end')
  }
}

/** Decodes the envelope and the object in it. Throws BadRequest for anything that is not a known kind's message. */
export function decodeProtobuf(body: Uint8Array): Record<string, unknown> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  if (bytes.length < 4 || MAGIC.some((b, i) => bytes[i] !== b)) {
    throw badRequest('the body is not Kubernetes protobuf: it lacks the prefix "k8s\\0"')
  }
  try {
    return decodeEnvelope(new Reader(bytes, 4, bytes.length))
  } catch (e) {
    if (e instanceof RangeError) throw badRequest(`the body is malformed protobuf: ${e.message}`)
    throw e
  }
}

function decodeEnvelope(r: Reader): Record<string, unknown> {
  let apiVersion = ''
  let kind = ''
  let raw = new Reader(r.bytes, 0, 0)
  let encoding = ''
  while (r.at < r.end) {
    const tag = r.small()
    if (tag === 10) {
      const meta = r.part()
      while (meta.at < meta.end) {
        const t = meta.small()
        if (t === 10) apiVersion = meta.part().text()
        else if (t === 18) kind = meta.part().text()
        else meta.skip(t & 7)
      }
    } else if (tag === 18) raw = r.part()
    else if (tag === 26) encoding = r.part().text()
    else r.skip(tag & 7)
  }
  if (encoding !== '') throw badRequest(`content encoding ${JSON.stringify(encoding)} of a protobuf body is not supported`)
  const message = typeOf(apiVersion, kind) ?? (kind === 'DeleteOptions' ? typeOf('v1', kind) : undefined)
  if (!message) throw badRequest(`no kind "${kind}" is registered for version "${apiVersion}" in protobuf`)
  return { apiVersion, kind, ...decodeMessage(message, raw, 0) }
}

type Json = Record<string, unknown>

function decodeMessage(message: Message, r: Reader, nesting: number, into: Json = {}): Json {
  if (nesting > MAX_NESTING) throw new RangeError('nested too deeply')
  while (r.at < r.end) {
    const tag = r.small()
    const wireType = tag & 7
    const field = message.wire[tag >>> 3]
    if (!field) r.skip(wireType)
    else if (field.inline) decodeMessage(field.message as Message, r.part(), nesting + 1, into)
    else if (field.shape === 'list') decodeItem(field, r, wireType, nesting, (into[field.name] ??= []) as unknown[])
    else if (field.shape === 'map') decodeEntry(field, r.part(), nesting, (into[field.name] ??= {}) as Json)
    else {
      const value = decodeValue(field, r, wireType, nesting)
      // Go writes scalars and messages that are no pointers even when they are zero: there zero means unset.
      if (value !== undefined && (field.pointer || !isZero(value))) into[field.name] = value
    }
  }
  return into
}

function decodeItem(field: Field, r: Reader, wireType: number, nesting: number, list: unknown[]): void {
  const isNumber = field.scalar === 'int32' || field.scalar === 'int64' || field.scalar === 'bool'
  if (wireType === 2 && isNumber) {
    const packed = r.part()
    while (packed.at < packed.end) list.push(decodeScalar(field.scalar as Scalar, packed, 0))
  } else list.push(decodeValue(field, r, wireType, nesting) ?? {})
}

function decodeEntry(field: Field, r: Reader, nesting: number, map: Json): void {
  let key = ''
  let value: unknown
  while (r.at < r.end) {
    const tag = r.small()
    if (tag >>> 3 === 1) key = r.part().text()
    else if (tag >>> 3 === 2) value = decodeValue(field, r, tag & 7, nesting)
    else r.skip(tag & 7)
  }
  Object.defineProperty(map, key, { value: value ?? emptyValue(field), enumerable: true, configurable: true, writable: true })
}

function emptyValue(field: Field): unknown {
  if (field.scalar === undefined) return {}
  if (field.scalar === 'ExtraValue') return []
  return field.scalar === 'Quantity' ? '0' : ''
}

function decodeValue(field: Field, r: Reader, wireType: number, nesting: number): unknown {
  if (field.message) return decodeMessage(field.message, expect(r, wireType, 2).part(), nesting + 1)
  return decodeScalar(field.scalar as Scalar, r, wireType)
}

function expect(r: Reader, wireType: number, wanted: number): Reader {
  if (wireType !== wanted) throw new RangeError(`wire type ${wireType} where ${wanted} belongs`)
  return r
}

function decodeScalar(scalar: Scalar, r: Reader, wireType: number): unknown {
  switch (scalar) {
    case 'string': return expect(r, wireType, 2).part().text()
    case 'bool': return expect(r, wireType, 0).varint() !== 0n
    case 'int32': return Number(BigInt.asIntN(32, expect(r, wireType, 0).varint()))
    case 'int64': case 'Duration': return Number(BigInt.asIntN(64, expect(r, wireType, 0).varint()))
    case 'double': {
      expect(r, wireType, 1).skip(1)
      return r.bytes.readDoubleLE(r.at - 8)
    }
    case 'bytes': {
      const part = expect(r, wireType, 2).part()
      return part.bytes.toString('base64', part.at, part.end)
    }
    default: return decodeWrapped(scalar, expect(r, wireType, 2).part())
  }
}

/** The types that are messages in protobuf and plain values in JSON. */
function decodeWrapped(scalar: Scalar, r: Reader): unknown {
  const numbers: bigint[] = []
  const texts: string[] = []
  const list: string[] = []
  while (r.at < r.end) {
    const tag = r.small()
    if ((tag & 7) === 0) numbers[tag >>> 3] = r.varint()
    else if ((tag & 7) === 2) list.push(texts[tag >>> 3] = r.part().text())
    else r.skip(tag & 7)
  }
  switch (scalar) {
    case 'Quantity': return texts[1] === undefined || texts[1] === '' ? '0' : texts[1]
    case 'IntOrString': return numbers[1] === 1n ? texts[3] ?? '' : Number(BigInt.asIntN(32, numbers[2] ?? 0n))
    case 'Time': return numbers[1] === undefined ? undefined : formatTime(seconds(numbers[1]) * 1000)
    case 'MicroTime':
      return numbers[1] === undefined ? undefined : formatMicroTime(seconds(numbers[1]), Number(numbers[2] ?? 0n))
    case 'ExtraValue': return list
    default: return texts[1] === undefined || texts[1] === '' ? undefined : parseRaw(texts[1])
  }
}

function seconds(value: bigint): number {
  const s = Number(BigInt.asIntN(64, value))
  if (!(Math.abs(s) < 253_402_300_800)) throw new RangeError('time out of range')
  return s
}

function parseRaw(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    throw new RangeError('an embedded object is not JSON')
  }
}

function isZero(value: unknown): boolean {
  if (value === '' || value === 0 || value === false || value === '0') return true
  if (typeof value !== 'object' || value === null) return false
  for (const _ in value) return false
  return true
}
