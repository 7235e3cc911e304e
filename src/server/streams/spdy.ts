/**
 * The server's half of SPDY/3.1 as far as Kubernetes' clients use it: streams opened by the client, data both ways, half
 * close, reset, ping, go away. Flow control is left out on purpose: their library neither sends nor heeds window updates;
 * a reader that is too slow holds up the connection instead.
 */
import { Duplex } from 'node:stream'
import { createInflate, constants as zlib } from 'node:zlib'
import { SPDY_DICTIONARY, SPDY_DICTIONARY_ID } from './spdy-dictionary.ts'

const VERSION = 0x8003
const SYN_STREAM = 1
const SYN_REPLY = 2
const RST_STREAM = 3
const PING = 6
const GOAWAY = 7
const FLAG_FIN = 1
const HEADER_BYTES = 8
const MAX_CONTROL_BYTES = 64 * 1024
const MAX_DATA_BYTES = 1 << 20
/** A compressed header can unfold to much more than its own size. */
const MAX_HEADERS_BYTES = 256 * 1024
const MAX_STREAMS = 10_000
/** Data of one stream that nobody has read yet, beyond which the connection is read no further. */
const STREAM_BUFFER_BYTES = 1 << 20
const WRITE_CHUNK_BYTES = 64 * 1024
const RST_CANCEL = 5

export interface SpdyStream extends Duplex {
  readonly id: number
  /** Names in lower case. */
  readonly headers: Record<string, string>
}

export class SpdyConnection {
  readonly #socket: Duplex
  readonly #onStream: (stream: SpdyStream) => void
  readonly #streams = new Map<number, Stream>()
  readonly #inflate = createInflate({ dictionary: SPDY_DICTIONARY, finishFlush: zlib.Z_SYNC_FLUSH })
  /** Streams whose reader is behind. */
  readonly #behind = new Set<Stream>()
  #rest: Buffer = Buffer.alloc(0)
  /** True while a header is being unfolded: frames keep their order. */
  #unfolding = false
  #deflating = false
  #lastStream = 0
  #closed = false

  /** `onStream` gets each stream after it was accepted; `onClose` is called once. */
  constructor(socket: Duplex, onStream: (stream: SpdyStream) => void, onClose: () => void) {
    this.#socket = socket
    this.#onStream = onStream
    // Every stream with data to send may wait for the one socket.
    socket.setMaxListeners(0)
    socket.on('data', (chunk: Buffer) => {
      this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
      this.#read()
    })
    socket.on('end', () => this.destroy())
    // 'close' follows.
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#closed = true
      for (const stream of this.#streams.values()) stream.destroy()
      this.#inflate.close()
      onClose()
    })
    this.#inflate.on('error', () => this.destroy())
  }

  /** Says farewell and ends the connection when all is written. */
  end(): void {
    if (this.#closed) return
    const payload = Buffer.alloc(8)
    payload.writeUInt32BE(this.#lastStream)
    this.#control(GOAWAY, 0, payload)
    this.#socket.end()
  }

  destroy(): void { this.#socket.destroy() }

  /** Used by streams. Calls `done` when the socket takes more. */
  send(id: number, data: Buffer, fin: boolean, done: (e?: Error | null) => void): void {
    if (this.#closed) return done()
    const head = Buffer.alloc(HEADER_BYTES)
    head.writeUInt32BE(id)
    head.writeUInt32BE(data.length, 4)
    head[4] = fin ? FLAG_FIN : 0
    this.#socket.cork()
    this.#socket.write(head)
    const ready = this.#socket.write(data)
    this.#socket.uncork()
    if (ready) return done()
    const resume = () => {
      this.#socket.off('drain', resume)
      this.#socket.off('close', resume)
      done()
    }
    this.#socket.on('drain', resume)
    this.#socket.on('close', resume)
  }

  reset(id: number): void {
    if (!this.#streams.delete(id) || this.#closed) return
    const payload = Buffer.alloc(8)
    payload.writeUInt32BE(id)
    payload.writeUInt32BE(RST_CANCEL, 4)
    this.#control(RST_STREAM, 0, payload)
  }

  forget(stream: Stream): void {
    this.#streams.delete(stream.id)
    this.caughtUp(stream)
  }

  caughtUp(stream: Stream): void {
    if (this.#behind.delete(stream) && this.#behind.size === 0) this.#socket.resume()
  }

  #read(): void {
    while (!this.#unfolding && !this.#closed && this.#rest.length >= HEADER_BYTES) {
      const first = this.#rest.readUInt32BE(0)
      const flags = this.#rest[4]!
      const length = this.#rest.readUIntBE(5, 3)
      const isControl = (first & 0x80000000) !== 0
      if (length > (isControl ? MAX_CONTROL_BYTES : MAX_DATA_BYTES)) return this.destroy()
      if (this.#rest.length < HEADER_BYTES + length) return
      const payload = this.#rest.subarray(HEADER_BYTES, HEADER_BYTES + length)
      this.#rest = this.#rest.subarray(HEADER_BYTES + length)
      if (!isControl) this.#onData(first, flags, payload)
      else if (first >>> 16 !== VERSION) return this.destroy()
      else this.#onControl(first & 0xffff, flags, payload)
    }
  }

  #onData(id: number, flags: number, payload: Buffer): void {
    const stream = this.#streams.get(id)
    // Data for a stream that is gone already was on its way.
    if (stream === undefined) return
    if (payload.length > 0 && !stream.push(payload)) {
      this.#behind.add(stream)
      this.#socket.pause()
    }
    if (flags & FLAG_FIN) stream.push(null)
  }

  #onControl(type: number, flags: number, payload: Buffer): void {
    if (type === SYN_STREAM) return this.#onSynStream(flags, payload)
    if (type === PING) return this.#control(PING, 0, payload)
    if (type === RST_STREAM && payload.length >= 8) {
      const stream = this.#streams.get(payload.readUInt32BE(0))
      if (stream === undefined) return
      this.forget(stream)
      stream.destroy()
    }
    // SETTINGS, WINDOW_UPDATE, HEADERS and GOAWAY ask nothing of a server like this one.
  }

  #onSynStream(flags: number, payload: Buffer): void {
    if (payload.length < 10) return this.destroy()
    const id = payload.readUInt32BE(0) & 0x7fffffff
    if (id % 2 === 0 || id <= this.#lastStream || this.#streams.size >= MAX_STREAMS) return this.destroy()
    this.#lastStream = id
    this.#unfolding = true
    this.#unfold(payload.subarray(10), (headers) => {
      this.#unfolding = false
      if (this.#closed) return
      const stream = new Stream(this, id, headers)
      this.#streams.set(id, stream)
      const reply = Buffer.alloc(4)
      reply.writeUInt32BE(id)
      this.#control(SYN_REPLY, 0, Buffer.concat([reply, this.#fold()]))
      this.#onStream(stream)
      if (flags & FLAG_FIN) stream.push(null)
      this.#read()
    })
  }

  #unfold(block: Buffer, done: (headers: Record<string, string>) => void): void {
    const parts: Buffer[] = []
    let size = 0
    const take = () => {
      for (let part = this.#inflate.read() as Buffer | null; part !== null; part = this.#inflate.read() as Buffer | null) {
        size += part.length
        if (size > MAX_HEADERS_BYTES) return this.destroy()
        parts.push(part)
      }
    }
    this.#inflate.on('readable', take)
    this.#inflate.write(block, () => {
      take()
      this.#inflate.off('readable', take)
      const headers = parseHeaders(Buffer.concat(parts))
      if (headers === undefined) this.destroy()
      else done(headers)
    })
  }

  /**
   * No headers, as a "stored" block of the connection's one zlib stream: there is nothing worth compressing. The empty block
   * behind it is a flush, without which Go's reader holds the first one back.
   */
  #fold(): Buffer {
    const block = Buffer.from([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
    if (this.#deflating) return block
    this.#deflating = true
    const head = Buffer.from([0x78, 0xbb, 0, 0, 0, 0])
    head.writeUInt32BE(SPDY_DICTIONARY_ID, 2)
    return Buffer.concat([head, block])
  }

  #control(type: number, flags: number, payload: Buffer): void {
    if (this.#closed || this.#socket.writableEnded) return
    const frame = Buffer.alloc(HEADER_BYTES + payload.length)
    frame.writeUInt16BE(VERSION)
    frame.writeUInt16BE(type, 2)
    frame.writeUInt32BE(payload.length, 4)
    frame[4] = flags
    payload.copy(frame, HEADER_BYTES)
    this.#socket.write(frame)
  }
}

class Stream extends Duplex implements SpdyStream {
  readonly id: number
  readonly headers: Record<string, string>
  readonly #connection: SpdyConnection

  constructor(connection: SpdyConnection, id: number, headers: Record<string, string>) {
    super({ readableHighWaterMark: STREAM_BUFFER_BYTES, writableHighWaterMark: STREAM_BUFFER_BYTES })
    this.id = id
    this.headers = headers
    this.#connection = connection
    // Who uses the stream hears of its 'close'; a broken connection is no failure of the server's.
    this.on('error', () => {})
  }

  override _read(): void { this.#connection.caughtUp(this) }

  override _write(data: Buffer, _encoding: BufferEncoding, done: (e?: Error | null) => void): void {
    if (data.length <= WRITE_CHUNK_BYTES) return this.#connection.send(this.id, data, false, done)
    this.#connection.send(this.id, data.subarray(0, WRITE_CHUNK_BYTES), false, (e) => {
      if (e) done(e)
      else this._write(data.subarray(WRITE_CHUNK_BYTES), _encoding, done)
    })
  }

  override _final(done: (e?: Error | null) => void): void { this.#connection.send(this.id, Buffer.alloc(0), true, done) }

  override _destroy(e: Error | null, done: (e?: Error | null) => void): void {
    if (!this.readableEnded || !this.writableFinished) this.#connection.reset(this.id)
    this.#connection.forget(this)
    done(e)
  }
}

/** Undefined when the block is not well-formed. */
function parseHeaders(block: Buffer): Record<string, string> | undefined {
  const headers: Record<string, string> = {}
  let at = 0
  const number = () => {
    const value = at + 4 <= block.length ? block.readUInt32BE(at) : -1
    at += 4
    return value
  }
  const text = () => {
    const length = number()
    if (length < 0 || at + length > block.length) return undefined
    at += length
    return block.toString('latin1', at - length, at)
  }
  const count = number()
  if (count < 0) return undefined
  for (let i = 0; i < count; i++) {
    const name = text()
    const value = text()
    if (name === undefined || value === undefined) return undefined
    headers[name.toLowerCase()] = value
  }
  return headers
}
