import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { after, test } from 'node:test'
import { constants, createDeflate, createInflate } from 'node:zlib'
import { SPDY_DICTIONARY, SPDY_DICTIONARY_ID } from './spdy-dictionary.ts'
import { SpdyConnection } from './spdy.ts'
import type { SpdyStream } from './spdy.ts'

const cleanups: (() => void)[] = []
after(() => { for (const clean of cleanups) clean() })

/** What a SPDY client needs to talk to the server under test. */
class TestClient {
  readonly socket: Socket
  readonly frames: { type: string; id: number; flags: number; payload: Buffer }[] = []
  #rest = Buffer.alloc(0)
  #deflate = createDeflate({ dictionary: SPDY_DICTIONARY })

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk])
      while (this.#rest.length >= 8 && this.#rest.length >= 8 + this.#rest.readUIntBE(5, 3)) {
        const length = this.#rest.readUIntBE(5, 3)
        const first = this.#rest.readUInt32BE(0)
        const payload = this.#rest.subarray(8, 8 + length)
        const control = first >= 0x80000000
        const type = control ? ['', 'SYN_STREAM', 'SYN_REPLY', 'RST_STREAM', 'SETTINGS', '', 'PING', 'GOAWAY'][first & 0xff]! : 'DATA'
        this.frames.push({ type, id: control ? (length >= 4 ? payload.readUInt32BE(0) : 0) : first, flags: this.#rest[4]!, payload })
        this.#rest = this.#rest.subarray(8 + length)
      }
    })
  }

  async open(id: number, headers: Record<string, string>, flags = 0): Promise<void> {
    const u32 = (n: number) => {
      const b = Buffer.alloc(4)
      b.writeUInt32BE(n)
      return b
    }
    const pairs = Object.entries(headers).flatMap(([k, v]) => [u32(k.length), Buffer.from(k), u32(v.length), Buffer.from(v)])
    const block = Buffer.concat([u32(Object.keys(headers).length), ...pairs])
    const parts: Buffer[] = []
    const take = (part: Buffer) => parts.push(part)
    this.#deflate.on('data', take)
    this.#deflate.write(block)
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, resolve))
    this.#deflate.off('data', take)
    this.control(1, flags, Buffer.concat([u32(id), u32(0), Buffer.of(0, 0), ...parts]))
  }

  control(type: number, flags: number, payload: Buffer): void {
    const head = Buffer.from([0x80, 3, 0, type, flags, 0, 0, 0])
    head.writeUIntBE(payload.length, 5, 3)
    this.socket.write(Buffer.concat([head, payload]))
  }

  data(id: number, payload: string | Buffer, flags = 0): void {
    const head = Buffer.alloc(8)
    head.writeUInt32BE(id)
    head[4] = flags
    head.writeUIntBE(payload.length, 5, 3)
    this.socket.write(Buffer.concat([head, Buffer.from(payload)]))
  }

  dataOf(id: number): string { return this.frames.filter((f) => f.type === 'DATA' && f.id === id).map((f) => String(f.payload)).join('') }
}

async function pair(onStream: (stream: SpdyStream) => void): Promise<{ client: TestClient; server: SpdyConnection; closed: () => boolean }> {
  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const accepted = once(listener, 'connection')
  const socket = connect((listener.address() as AddressInfo).port, '127.0.0.1')
  const [peer] = await accepted as [Socket]
  let closed = false
  cleanups.push(() => {
    listener.close()
    socket.destroy()
    peer.destroy()
  })
  return { client: new TestClient(socket), server: new SpdyConnection(peer, onStream, () => { closed = true }), closed: () => closed }
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 3000
  while (!condition()) {
    if (Date.now() > end) assert.fail('the condition did not come true in time')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

test('the dictionary is the one every SPDY/3 peer has', () => {
  assert.equal(SPDY_DICTIONARY.length, 1423)
  assert.equal(SPDY_DICTIONARY_ID, 0xe3c6a7c2)
})

test('streams carry headers and data both ways, close by halves, and pings are echoed', async () => {
  const streams: SpdyStream[] = []
  const { client } = await pair((stream) => {
    streams.push(stream)
    if (stream.headers['streamtype'] === 'echo') stream.pipe(stream)
  })
  await client.open(1, { streamtype: 'echo', port: '80' })
  client.data(1, 'hello ')
  await client.open(3, { Streamtype: 'other' }, 1)
  client.data(1, 'world', 1)
  client.control(6, 0, Buffer.from([0, 0, 0, 9]))
  await until(() => client.frames.some((f) => f.type === 'DATA' && f.flags === 1))
  assert.equal(client.dataOf(1), 'hello world')
  assert.deepEqual(streams.map((s) => s.headers), [{ streamtype: 'echo', port: '80' }, { streamtype: 'other' }])
  assert.ok(client.frames.some((f) => f.type === 'PING' && f.id === 9))
  // Both replies unfold in the connection's one zlib stream.
  const inflate = createInflate({ dictionary: SPDY_DICTIONARY })
  const unfolded: Buffer[] = []
  inflate.on('data', (part: Buffer) => unfolded.push(part))
  for (const reply of client.frames.filter((f) => f.type === 'SYN_REPLY')) inflate.write(reply.payload.subarray(4))
  await until(() => Buffer.concat(unfolded).length === 8)
  assert.equal(Buffer.concat(unfolded).toString('hex'), '0000000000000000')
})

test('large data keeps its order, and a slow reader holds up the sender', async () => {
  const streams: SpdyStream[] = []
  const { client } = await pair((stream) => streams.push(stream))
  await client.open(1, { streamtype: 'data' })
  const chunk = Buffer.alloc(60_000)
  for (let i = 0; i < 400; i++) client.data(1, Buffer.concat([chunk, Buffer.from(String(i).padStart(4, '0'))]))
  await new Promise((resolve) => setTimeout(resolve, 200))
  assert.ok(client.socket.writableLength > 5_000_000, 'everything was taken although nobody reads')
  let seen = 0
  streams[0]!.on('data', (data: Buffer) => { seen += data.length })
  await until(() => seen === 400 * 60_004)
})

test('a reset ends the stream, the end of the connection all of them', async () => {
  const streams: SpdyStream[] = []
  const { client, server, closed } = await pair((stream) => streams.push(stream))
  await client.open(1, { streamtype: 'a' })
  await client.open(3, { streamtype: 'b' })
  await until(() => streams.length === 2)
  client.control(3, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 5]))
  await once(streams[0]!, 'close')
  assert.equal(streams[1]!.destroyed, false)
  server.end()
  await until(() => client.frames.some((f) => f.type === 'GOAWAY'))
  client.socket.end()
  await until(closed)
  assert.equal(streams[1]!.destroyed, true)
})

test('garbage ends the connection', async () => {
  for (const bytes of [
    Buffer.from([0x80, 2, 0, 1, 0, 0, 0, 0]), Buffer.from([0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]), Buffer.from([0, 0, 0, 1, 0, 0xff, 0xff, 0xff]),
    Buffer.concat([Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 20]), Buffer.from([0, 0, 0, 1]), Buffer.alloc(16, 0x5a)]),
  ]) {
    const { client, closed } = await pair(() => {})
    client.socket.write(bytes)
    await until(closed)
  }
})
