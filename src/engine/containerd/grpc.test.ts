import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http2'
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { createServer as createSocketServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectContainerd } from './client.ts'
import { services } from './messages.ts'
import { Code, ContainerdError, hasCode } from './status.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-grpc-'))
after(() => { rmSync(dir, { recursive: true, force: true }) })

type Answer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: Promise<Buffer>) => void

/** A gRPC server that answers as each test says. */
class Peer {
  readonly socket: string
  readonly #sessions = new Set<ServerHttp2Session>()
  answer: Answer = (stream) => { stream.close() }
  #server: Http2Server | undefined

  constructor(socket: string) { this.socket = socket }

  async listen(): Promise<void> {
    this.#server = createServer()
    this.#server.on('session', (s) => {
      this.#sessions.add(s)
      s.on('error', () => undefined)
    })
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => undefined)
      const parts: Buffer[] = []
      const body = Promise.withResolvers<Buffer>()
      stream.on('data', (d: Buffer) => { parts.push(d) })
      stream.on('end', () => { body.resolve(Buffer.concat(parts)) })
      this.answer(stream as ServerHttp2Stream, headers, body.promise)
    })
    await new Promise<void>((resolve) => { this.#server!.listen(this.socket, resolve) })
  }

  async kill(): Promise<void> {
    const closed = new Promise((resolve) => { this.#server!.close(resolve) })
    for (const s of this.#sessions) s.destroy()
    this.#sessions.clear()
    await closed
  }

  /** No new calls; those under way go on. */
  goAway(): void { for (const s of this.#sessions) s.goaway() }
}

function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

function begin(stream: ServerHttp2Stream, status: Record<string, string> = { 'grpc-status': '0' }): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => { stream.sendTrailers(status) })
}

const info = services['containerd.services.content.v1.Content']!
const version = services['containerd.services.version.v1.Version']!['Version']![1].encode({ version: '1.6.20', revision: 'abc' })
const answerVersion: Answer = (stream) => {
  begin(stream)
  stream.end(frame(version))
}
const failsWith = (code: number, text: RegExp) => (e: unknown): boolean => hasCode(e, code) && text.test((e as Error).message)

describe('gRPC', () => {
  let peer: Peer
  let client: ReturnType<typeof connectContainerd>
  let n = 0
  beforeEach(async () => {
    peer = new Peer(join(dir, `${n++}.sock`))
    await peer.listen()
    client = connectContainerd({ socket: peer.socket, namespace: 'ns' })
  })
  afterEach(async () => {
    client.close()
    await peer.kill()
  })

  it('says namespace, lease and deadline, and takes an answer cut anywhere', async () => {
    let seen: IncomingHttpHeaders = {}
    peer.answer = (stream, headers, body) => {
      seen = headers
      void body.then(async (request) => {
        assert.deepEqual(info['Info']![0].decode(request.subarray(5)), { digest: 'sha256:1' })
        begin(stream)
        const whole = frame(info['Info']![1].encode({ info: { digest: 'sha256:1', size: 7 } }))
        for (const byte of whole) {
          stream.write(Buffer.of(byte))
          await sleep(1)
        }
        stream.end()
      })
    }
    const { digest, size } = await client.content.info('sha256:1', { lease: 'l', timeoutMs: 5000 })
    assert.deepEqual({ digest, size }, { digest: 'sha256:1', size: 7 })
    assert.equal(seen[':path'], '/containerd.services.content.v1.Content/Info')
    assert.equal(seen['content-type'], 'application/grpc')
    assert.equal(seen.te, 'trailers')
    assert.equal(seen['containerd-namespace'], 'ns')
    assert.equal(seen['containerd-lease'], 'l')
    assert.equal(seen['grpc-timeout'], '5000m')
  })

  it('rejects with the status and its text, from trailers and from an answer of nothing else', async () => {
    peer.answer = (stream) => {
      begin(stream, { 'grpc-status': '6', 'grpc-message': 'caf%C3%A9 %25: exists' })
      stream.end()
    }
    await assert.rejects(client.version(), failsWith(Code.alreadyExists, /^café %: exists$/))
    peer.answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '5', 'grpc-message': 'not 100% there' }, { endStream: true })
    }
    await assert.rejects(client.content.info('x'), (e: unknown) =>
      e instanceof ContainerdError && e.code === Code.notFound && e.message === 'not 100% there' && e.call === 'Info')
  })

  it('rejects what is no answer', async () => {
    const answers: [Answer, number, RegExp][] = [
      [(stream) => { begin(stream); stream.end() }, Code.internal, /nothing/],
      [(stream) => { begin(stream); stream.end(frame(Buffer.of(0x0b))) }, Code.internal, /wire type/],
      [(stream) => { begin(stream); stream.end(Buffer.of(1, 0, 0, 0, 1, 0)) }, Code.internal, /compressed/],
      [(stream) => { begin(stream); stream.write(Buffer.of(0, 0xff, 0, 0, 0)) }, Code.resourceExhausted, /4278190080 bytes/],
      [(stream) => { stream.respond({ ':status': 503 }, { endStream: true }) }, Code.unavailable, /HTTP status 503/],
      [(stream) => { stream.close(7) }, Code.unavailable, /refused/],
      [(stream) => { stream.close(2) }, Code.unavailable, /lost/],
      [(stream) => { stream.close(1) }, Code.internal, /error 1/],
    ]
    for (const [answer, code, text] of answers) {
      peer.answer = answer
      await assert.rejects(client.version(), failsWith(code, text))
    }
  })

  it('ends a call at its deadline and when it is told to, for the server too', async () => {
    const ended: Promise<number>[] = []
    peer.answer = (stream) => { ended.push(new Promise((resolve) => { stream.on('close', () => { resolve(stream.rstCode) }) })) }
    await assert.rejects(client.content.info('x', { timeoutMs: 50 }), failsWith(Code.deadlineExceeded, /within 50 ms/))
    const abort = new AbortController()
    setTimeout(() => { abort.abort() }, 20)
    await assert.rejects(client.content.info('x', { signal: abort.signal }), failsWith(Code.canceled, /cancelled/))
    assert.deepEqual(await Promise.all(ended), [8, 8])
    await assert.rejects(client.content.info('x', { signal: abort.signal }), { name: 'AbortError' })
    assert.equal(ended.length, 2)
  })

  it('makes the server wait for a slow reader of a stream, and cancels when the reader leaves', async () => {
    const chunk = frame(info['Read']![1].encode({ data: Buffer.alloc(1 << 20, 1) }))
    const total = 40
    let written = 0
    const { promise: closed, resolve } = Promise.withResolvers<number>()
    peer.answer = (stream) => {
      begin(stream)
      stream.on('close', () => { resolve(stream.rstCode) })
      const write = (): void => {
        if (written === total) { stream.end(); return }
        written++
        stream.write(chunk, () => { write() })
      }
      write()
    }
    let bytes = 0
    for await (const part of client.content.read('x')) {
      if (bytes === 0) {
        await sleep(200)
        assert.ok(written < total, `all ${written} written although nobody reads`)
      }
      bytes += part.length
    }
    assert.equal(bytes, total << 20)
    assert.equal(await closed, 0)

    const { promise: left, resolve: setLeft } = Promise.withResolvers<number>()
    peer.answer = (stream) => {
      begin(stream)
      stream.on('close', () => { setLeft(stream.rstCode) })
      stream.write(chunk)
    }
    for await (const part of client.content.read('x')) {
      assert.equal(part.length, 1 << 20)
      break
    }
    assert.equal(await left, 8)
  })

  it('throws out of a stream that ends with an error, after what came before', async () => {
    peer.answer = (stream) => {
      begin(stream, { 'grpc-status': '9' })
      stream.end(frame(info['Read']![1].encode({ data: Buffer.from('a') })))
    }
    const got: string[] = []
    await assert.rejects(async () => { for await (const part of client.content.read('x')) got.push(String(part)) }, failsWith(Code.failedPrecondition, /^$/))
    assert.deepEqual(got, ['a'])
  })

  it('fails calls when the connection breaks, and connects again for the next', async () => {
    peer.answer = answerVersion
    assert.deepEqual(await client.version(), { version: '1.6.20', revision: 'abc' })
    peer.answer = () => { void peer.kill() }
    await assert.rejects(client.version(), failsWith(Code.unavailable, /lost/))
    await assert.rejects(client.version(), failsWith(Code.unavailable, /ENOENT/))
    await assert.rejects(client.ready(50))
    const ready = client.ready(5000)
    peer.answer = answerVersion
    await peer.listen()
    await ready
    assert.equal((await client.version()).version, '1.6.20')
  })

  it('lets calls finish on a connection that takes no more, and makes new ones on another', async () => {
    const { promise: asked, resolve: setAsked } = Promise.withResolvers<ServerHttp2Stream>()
    peer.answer = (stream) => { setAsked(stream) }
    const first = client.version()
    const stream = await asked
    peer.goAway()
    await sleep(20)
    peer.answer = answerVersion
    assert.equal((await client.version()).version, '1.6.20')
    answerVersion(stream, {}, Promise.resolve(Buffer.alloc(0)))
    assert.equal((await first).version, '1.6.20')
  })

  it('does not take a socket for containerd that says nothing', async () => {
    const silent = createSocketServer()
    const socket = join(dir, 'silent.sock')
    await new Promise<void>((resolve) => { silent.listen(socket, resolve) })
    const other = connectContainerd({ socket, namespace: 'ns' })
    await assert.rejects(other.ready(50), { name: 'TimeoutError' })
    other.close()
    silent.close()
    await assert.rejects(other.version(), failsWith(Code.unavailable, /closed/))
  })
})
