/** The remote client against a scripted HTTP/2 server: what a real server does only when something is wrong. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createSecureServer } from 'node:http2'
import type { Http2SecureServer, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { Readable } from 'node:stream'
import { after, test } from 'node:test'
import { isReason } from '../core/errors.ts'
import { configMaps } from '../core/kinds.ts'
import type { ConfigMap } from '../core/types/index.ts'
import { createCA, issueCert } from '../machines/pki.ts'
import { connect } from './client.ts'
import type { RemoteClient } from './client.ts'
import { readText } from './transport.ts'

const ca = await createCA('test')
const pems = await issueCert(ca, { commonName: 'server', server: true, ipAddresses: ['127.0.0.1'] })
const cleanups: (() => void)[] = []
after(() => { for (const clean of cleanups) clean() })

type Handler = (stream: ServerHttp2Stream, url: URL, headers: IncomingHttpHeaders) => void

class FakeServer {
  handler: Handler
  port = 0
  readonly requests: string[] = []
  #server: Http2SecureServer | undefined
  readonly #sessions = new Set<ServerHttp2Session>()

  constructor(handler: Handler) { this.handler = handler }

  async start(): Promise<this> {
    const server = createSecureServer({ key: pems.key, cert: pems.cert })
    server.on('session', (s) => {
      this.#sessions.add(s)
      s.on('error', () => {})
    })
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {})
      const url = new URL(headers[':path']!, 'https://server')
      this.requests.push(`${headers[':method']} ${url.pathname}${url.search}`)
      this.handler(stream as ServerHttp2Stream, url, headers)
    })
    server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
    this.port = (server.address() as AddressInfo).port
    this.#server = server
    cleanups.push(() => this.kill())
    return this
  }

  /** As kill -9 does it: no GOAWAY. */
  kill(): void {
    this.#server?.close()
    for (const session of this.#sessions) session.socket?.destroy?.()
    for (const session of this.#sessions) session.destroy()
    this.#sessions.clear()
  }

  get url(): string { return `https://127.0.0.1:${this.port}` }
}

function client(...servers: string[]): RemoteClient {
  const made = connect({ servers, tls: { ca: ca.cert }, token: 't' })
  cleanups.push(() => made.close())
  return made
}

function answer(stream: ServerHttp2Stream, code: number, body: unknown, headers: Record<string, string> = {}): void {
  stream.respond({ ':status': code, 'content-type': 'application/json', ...headers })
  stream.end(JSON.stringify(body))
}

function object(name: string, revision: number, uid = `uid-${name}`): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'a', uid, resourceVersion: String(revision) } }
}
function line(type: string, o: unknown): string { return `${JSON.stringify({ type, object: o })}\n` }
function initialEnd(revision: number): string {
  return line('BOOKMARK', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { resourceVersion: String(revision), annotations: { 'k8s.io/initial-events-end': 'true' } } })
}
const expired = { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'Expired', code: 410, message: 'too old' }

async function until(condition: () => boolean, what: () => string = () => ''): Promise<void> {
  const end = Date.now() + 5000
  while (!condition()) {
    if (Date.now() > end) assert.fail(`the condition did not come true in time ${what()}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function follow(c: RemoteClient) {
  const informer = c.informer(configMaps, { namespace: 'a' })
  const seen: string[] = []
  const connection: boolean[] = []
  informer.on((type, o) => seen.push(`${type} ${o.metadata.name}@${o.metadata.resourceVersion}`))
  informer.onConnection!((connected) => connection.push(connected))
  return { informer, seen, connection }
}

test('errors come back as the ApiErrors they were; odd answers keep their code', async () => {
  const server = await new FakeServer((stream, url) => {
    if (url.pathname.endsWith('/gone')) {
      answer(stream, 409, { kind: 'Status', status: 'Failure', reason: 'AlreadyExists', code: 409, message: 'there', details: { name: 'gone' } })
    } else if (url.pathname.endsWith('/odd')) {
      stream.respond({ ':status': 502 })
      stream.end('<html>bad gateway')
    } else answer(stream, 404, { kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404, message: 'missing' })
  }).start()
  const c = client(server.url)
  await assert.rejects(c.get(configMaps, { namespace: 'a', name: 'gone' }), { reason: 'AlreadyExists', code: 409, message: 'there', details: { name: 'gone' } })
  await assert.rejects(c.get(configMaps, { namespace: 'a', name: 'odd' }), { code: 503, message: /502: <html>bad gateway/ })
  await assert.rejects(c.get(configMaps, { namespace: 'a', name: 'x' }), (e) => isReason(e, 'NotFound'))
  assert.throws(() => c.get(configMaps, { name: 'x' }), /namespace is missing/)
})

test('429 with Retry-After is waited out; without it the caller hears of it', async () => {
  let left = 2
  const server = await new FakeServer((stream, url) => {
    const status = { kind: 'Status', status: 'Failure', reason: 'TooManyRequests', code: 429, message: 'busy' }
    if (url.pathname.endsWith('/never')) answer(stream, 429, status)
    else if (left-- > 0) answer(stream, 429, status, { 'retry-after': '0' })
    else answer(stream, 200, object('x', 1))
  }).start()
  const c = client(server.url)
  assert.equal((await c.update(configMaps, object('x', 1))).metadata.name, 'x')
  assert.equal(server.requests.length, 3)
  await assert.rejects(c.get(configMaps, { namespace: 'a', name: 'never' }), { reason: 'TooManyRequests' })
})

test('with one server gone requests go to the next; a write of unknown outcome is not repeated', async () => {
  const first = await new FakeServer((stream) => answer(stream, 200, object('first', 1))).start()
  const second = await new FakeServer((stream) => answer(stream, 200, object('second', 1))).start()
  const c = client(first.url, second.url)
  const get = async () => (await c.get(configMaps, { namespace: 'a', name: 'x' })).metadata.name
  assert.equal(await get(), 'first')
  first.kill()
  assert.equal(await get(), 'second')
  assert.equal((await c.create(configMaps, object('x', 1))).metadata.name, 'second')
  await first.start()
  second.handler = () => second.kill()
  const written = second.requests.length
  await assert.rejects(c.create(configMaps, object('x', 1)), (e) => isReason(e, 'ServiceUnavailable'))
  assert.equal(second.requests.length, written + 1)
  assert.equal(await get(), 'first')
  first.kill()
  await assert.rejects(get(), /cannot reach the API server: https:.*ECONNREFUSED.*; https:.*ECONNREFUSED/)
})

test('a server that accepts and never answers is passed over', async () => {
  const sockets = new Set<Socket>()
  const mute = createServer((s) => {
    sockets.add(s)
    s.on('error', () => {})
  })
  mute.listen(0, '127.0.0.1')
  await once(mute, 'listening')
  cleanups.push(() => {
    mute.close()
    for (const s of sockets) s.destroy()
  })
  const good = await new FakeServer((stream) => answer(stream, 200, object('good', 1))).start()
  const c = connect({ servers: [`https://127.0.0.1:${(mute.address() as AddressInfo).port}`, good.url], tls: { ca: ca.cert }, connectTimeoutMs: 200 })
  cleanups.push(() => c.close())
  assert.equal((await c.get(configMaps, { namespace: 'a', name: 'x' })).metadata.name, 'good')
})

test('bodies stream both ways', async () => {
  const server = await new FakeServer((stream) => {
    stream.respond({ ':status': 200 })
    stream.pipe(stream)
  }).start()
  const c = client(server.url)
  const body = Readable.from([Buffer.from('a'), Buffer.alloc(3_000_000, 'b')])
  const got = await c.request('POST', '/echo', { body })
  assert.equal((await readText(got.body)).length, 3_000_001)
})

test('a watch that breaks off goes on from the last revision, without loss or repetition', async () => {
  const server = await new FakeServer((stream, url) => {
    stream.respond({ ':status': 200 })
    const revision = url.searchParams.get('resourceVersion')
    if (revision === null) {
      stream.write(line('ADDED', object('one', 3)) + line('ADDED', object('two', 4)) + initialEnd(5))
      stream.write(line('MODIFIED', object('one', 6)) + line('ADDED', object('cut', 7)).slice(0, 30))
      setTimeout(() => stream.session?.destroy(), 30)
    } else if (revision === '6') {
      stream.write(line('ADDED', object('cut', 7)) + line('DELETED', object('two', 8)))
      stream.end(line('BOOKMARK', object('', 20)))
    } else {
      assert.equal(revision, '20')
      stream.write(line('ADDED', object('three', 21)))
    }
  }).start()
  const { informer, seen, connection } = follow(client(server.url))
  await informer.synced
  assert.equal(informer.size, 2)
  await until(() => seen.length === 6, () => seen.join())
  assert.deepEqual(seen, ['ADDED one@3', 'ADDED two@4', 'MODIFIED one@6', 'ADDED cut@7', 'DELETED two@8', 'ADDED three@21'])
  assert.deepEqual(connection, [true])
})

test('after 410 everything is read anew and only the differences are told', async () => {
  let starts = 0
  const server = await new FakeServer((stream, url) => {
    stream.respond({ ':status': 200 })
    if (url.searchParams.has('resourceVersion')) return void stream.end(line('ERROR', expired))
    if (starts++ === 0) stream.end(line('ADDED', object('kept', 1)) + line('ADDED', object('lost', 2)) + line('ADDED', object('remade', 3, 'old')) + initialEnd(3))
    else stream.write(line('ADDED', object('kept', 1)) + line('ADDED', object('remade', 9, 'new')) + line('ADDED', object('fresh', 8)) + initialEnd(9))
  }).start()
  const { seen } = follow(client(server.url))
  await until(() => seen.length === 7, () => seen.join())
  assert.deepEqual(seen.slice(0, 3), ['ADDED kept@1', 'ADDED lost@2', 'ADDED remade@3'])
  assert.deepEqual(seen.slice(3).sort(), ['ADDED fresh@8', 'ADDED remade@9', 'DELETED lost@2', 'DELETED remade@3'])
})

test('a server without streaming lists is listed in pages and then watched', async () => {
  const server = await new FakeServer((stream, url) => {
    const q = url.searchParams
    if (q.has('sendInitialEvents')) return answer(stream, 422, { kind: 'Status', status: 'Failure', reason: 'Invalid', code: 422, message: 'sendInitialEvents is forbidden' })
    if (!q.has('watch')) {
      const more = !q.has('continue')
      const { apiVersion: _a, kind: _k, ...bare } = object(more ? 'one' : 'two', 1)
      return answer(stream, 200, { kind: 'ConfigMapList', apiVersion: 'v1', metadata: { resourceVersion: '7', ...(more && { continue: 'x' }) }, items: [bare] })
    }
    assert.equal(q.get('resourceVersion'), '7')
    stream.respond({ ':status': 200 })
    stream.write(line('ADDED', object('three', 8)))
  }).start()
  const { informer, seen } = follow(client(server.url))
  await until(() => seen.length === 3)
  assert.deepEqual(seen, ['ADDED one@1', 'ADDED two@1', 'ADDED three@8'])
  assert.equal(informer.get('a/one')?.kind, 'ConfigMap')
})

test('a server killed and started again: the cache stays, connection is told, the watch resumes', async () => {
  const server = await new FakeServer((stream, url) => {
    stream.respond({ ':status': 200 })
    if (url.searchParams.has('resourceVersion')) stream.write(line('MODIFIED', object('one', 9)))
    else stream.write(line('ADDED', object('one', 1)) + initialEnd(1))
  }).start()
  const { informer, seen, connection } = follow(client(server.url))
  await informer.synced
  server.kill()
  await until(() => connection.at(-1) === false)
  assert.equal(informer.size, 1)
  await server.start()
  await until(() => seen.length === 2)
  assert.deepEqual(connection, [true, false, true])
  assert.equal(informer.get('a/one')?.metadata.resourceVersion, '9')
})

test('a revision the server has lost (restored from an older copy) ends in reading anew', async () => {
  let starts = 0
  const server = await new FakeServer((stream, url) => {
    if (url.searchParams.has('resourceVersion')) {
      return answer(stream, 504, { kind: 'Status', status: 'Failure', reason: 'Timeout', code: 504, message: 'Too large resource version: 9, current: 2' })
    }
    stream.respond({ ':status': 200 })
    if (starts++ === 0) stream.end(line('ADDED', object('one', 9)) + initialEnd(9))
    else stream.write(line('ADDED', object('one', 2)) + initialEnd(2))
  }).start()
  const { seen } = follow(client(server.url))
  await until(() => seen.length === 2, () => seen.join())
  assert.deepEqual(seen, ['ADDED one@9', 'MODIFIED one@2'])
})
