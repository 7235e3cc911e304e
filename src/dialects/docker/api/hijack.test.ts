import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { ExecInspect } from '../model.ts'
import { DockerError } from '../errors.ts'
import { frame } from '../frames.ts'
import { demux } from './demux.ts'
import { FakeBackend, textOf } from './testing/fake-backend.ts'
import { readUntil, served } from './testing/client.ts'

const UPGRADE = 'Connection: Upgrade\r\nUpgrade: tcp\r\n'
const post = (path: string, headers = '', body = '') => `POST ${path} HTTP/1.1\r\nHost: d\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`
const EVERYTHING = 'stream=1&stdin=1&stdout=1&stderr=1'

async function catContainer(t: Parameters<typeof served>[0], config: object = {}) {
  const fake = new FakeBackend()
  const server = await served(t, fake.backend)
  await server.call('POST', '/containers/create?name=a', { Image: 'x', Cmd: ['cat'], OpenStdin: true, ...config })
  return { fake, ...server }
}

test('attach upgrades, the header alone first; a half-closed client still gets the output', async t => {
  const { raw, call } = await catContainer(t)
  const socket = await raw(post(`/v1.42/containers/a/attach?${EVERYTHING}`, UPGRADE))
  const head = await readUntil(socket, '\r\n\r\n')
  assert.match(head, /^HTTP\/1\.1 101 UPGRADED\r\n/)
  assert.match(head, /Content-Type: application\/vnd\.docker\.multiplexed-stream\r\n/)
  assert.match(head, /Api-Version: 1\.50\r\n/)
  assert.match(head, /Connection: Upgrade\r\nUpgrade: tcp\r\n/)
  await call('POST', '/containers/a/start')
  socket.write('hello')
  assert.equal(await readUntil(socket, 'hello'), frame(1, Buffer.from('hello')).toString('latin1'))
  socket.end('bye')
  assert.equal(await textOf(socket), frame(1, Buffer.from('bye')).toString('latin1'))
})

test('old clients and terminals get the raw type; without an upgrade the answer is 200 and raw bytes both ways', async t => {
  const { raw, call } = await catContainer(t, { Tty: true })
  const upgraded = await raw(post(`/v1.42/containers/a/attach?${EVERYTHING}`, UPGRADE))
  assert.match(await readUntil(upgraded, '\r\n\r\n'), /application\/vnd\.docker\.raw-stream/)
  const plain = await raw(post(`/v1.41/containers/a/attach?${EVERYTHING}`))
  const head = await readUntil(plain, '\r\n\r\n')
  assert.match(head, /^HTTP\/1\.1 200 OK\r\n/)
  assert.doesNotMatch(head, /Content-Length|chunked/)
  await call('POST', '/containers/a/start')
  plain.write('GET /not a request')
  assert.equal(await readUntil(plain, 'request'), 'GET /not a request')
  plain.end()
  assert.equal(await textOf(plain), '')
  upgraded.destroy()
})

test('detach keys leave the container running', async t => {
  const { raw, call, fake } = await catContainer(t, { Tty: true })
  await call('POST', '/containers/a/start')
  const socket = await raw(post(`/containers/a/attach?${EVERYTHING}&detachKeys=ctrl-a,b`, UPGRADE))
  await readUntil(socket, '\r\n\r\n')
  socket.write('x\x01b')
  assert.equal(await textOf(socket), 'x')
  assert.deepEqual([fake.find('a').status, fake.find('a').attached[0]!.detached], ['running', true])
  const wrong = await raw(post('/containers/a/attach?detachKeys=nonsense', UPGRADE))
  assert.match(await textOf(wrong), /^HTTP\/1\.1 400 [^]*Invalid detach keys \(nonsense\) provided/)
})

test('errors before the upgrade are ordinary answers', async t => {
  const { raw } = await catContainer(t)
  const text = await textOf(await raw(post('/containers/none/attach?stream=1', UPGRADE)))
  assert.match(text, /^HTTP\/1\.1 404 [^]*Connection: close[^]*\{"message":"No such container: none"\}\n$/)
})

test('a client that never reads holds back the output', async t => {
  const { raw, call, fake } = await catContainer(t)
  await call('POST', '/containers/a/start')
  const socket = await raw(post('/containers/a/attach?stream=1&stdout=1', UPGRADE))
  await readUntil(socket, '\r\n\r\n')
  socket.pause()
  while (fake.find('a').attached.length === 0) await delay(5)
  const { output } = fake.find('a').attached[0]!
  let written = 0
  const block = Buffer.alloc(65_536)
  // As long as somebody takes it: sockets and buffers on the way hold little.
  while (written < 64 << 20) {
    if (output.write(frame(1, block))) continue
    written += block.length
    const drained = await Promise.race([new Promise(r => output.once('drain', () => r(true))), delay(200, false)])
    if (drained === false) break
  }
  assert.ok(written < 4 << 20, `${written} bytes went to a client that does not read`)
  socket.destroy()
  output.write(frame(1, block))
  while (!fake.find('a').attached[0]!.closed) await delay(5)
})

function execBackend(start: 'fails' | 'runs') {
  const state = { Running: false, ExitCode: null as number | null }
  const output = new PassThrough()
  const fake = new FakeBackend({ execs: {
    async inspect(id) {
      if (id !== 'e1') throw new DockerError('not-found', `No such exec instance: ${id}`)
      return { ...state, ID: id, DetachKeys: '', ProcessConfig: { tty: false } } as unknown as ExecInspect
    },
    async start() {
      await delay(20)
      if (start === 'fails') throw new DockerError('failed', 'exec: "nope": executable file not found in $PATH')
      state.Running = true
      output.end(frame(1, Buffer.from('done')))
      return { tty: false, output, close() {} }
    },
  } })
  return { fake, state }
}

test('exec: the body before the upgrade, failures of the start in the stream, others as status', async t => {
  const good = execBackend('runs')
  const { raw } = await served(t, good.fake.backend)
  const body = '{"Detach":false,"Tty":false}'
  const headers = UPGRADE + 'Content-Type: application/json\r\n'
  const socket = await raw(post('/exec/e1/start', headers, body))
  assert.match(await readUntil(socket, '\r\n\r\n'), /^HTTP\/1\.1 101/)
  assert.equal(await textOf(socket), frame(1, Buffer.from('done')).toString('latin1'))
  assert.match(await textOf(await raw(post('/exec/e1/start', headers, body))), /^HTTP\/1\.1 409/)
  assert.match(await textOf(await raw(post('/exec/e2/start', headers, body))), /^HTTP\/1\.1 404/)
  const bad = await served(t, execBackend('fails').fake.backend)
  const failed = await bad.raw(post('/exec/e1/start', headers, body))
  assert.match(await readUntil(failed, '\r\n\r\n'), /^HTTP\/1\.1 101/)
  assert.match(await textOf(failed), /executable file not found in \$PATH\r\n$/)
})

test('attach over a WebSocket: messages without frames', async t => {
  const { path, call } = await catContainer(t)
  await call('POST', '/containers/a/start')
  const ws = new WebSocket(`ws+unix://${path}:/containers/a/attach/ws?${EVERYTHING}`)
  await new Promise(resolve => ws.once('open', resolve))
  const message = new Promise<Buffer>(resolve => ws.once('message', (data: Buffer) => resolve(data)))
  ws.send(Buffer.from('ping'))
  assert.equal((await message).toString(), 'ping')
  ws.close()
  const missing = new WebSocket(`ws+unix://${path}:/containers/none/attach/ws`)
  assert.match((await new Promise<Error>(resolve => missing.once('error', resolve))).message, /404/)
})

test('demux finds payloads wherever reads cut', async () => {
  const bytes = Buffer.concat([frame(1, Buffer.from('one')), frame(2, Buffer.alloc(0)), frame(2, Buffer.from('two'))])
  for (const size of [1, 3, 8, 100]) {
    const d = demux()
    for (let i = 0; i < bytes.length; i += size) d.write(bytes.subarray(i, i + size))
    d.end()
    assert.equal(await textOf(d), 'onetwo')
  }
})
