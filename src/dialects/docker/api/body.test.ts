import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { DockerError } from '../errors.ts'
import { upload } from './body.ts'
import { FakeBackend, textOf } from './testing/fake-backend.ts'
import { served } from './testing/client.ts'

const IDLE_MS = 60

test('an upload that stands still fails; one that its reader holds up does not', async () => {
  const still = new IncomingMessage(new Socket())
  still.push('some')
  await assert.rejects(textOf(upload(still, IDLE_MS)), /no data from the client for 0\.06 s/)

  const slow = new IncomingMessage(new Socket())
  const out = upload(slow, IDLE_MS)
  const block = Buffer.alloc(65_536, 'x')
  for (let i = 0; i < 4; i++) slow.push(block)
  await delay(4 * IDLE_MS)
  slow.push(null)
  assert.equal((await textOf(out)).length, 4 * block.length)
})

test('an upload whose client goes fails', async () => {
  const req = new IncomingMessage(new Socket())
  const out = upload(req)
  req.push('some')
  req.destroy()
  await assert.rejects(textOf(out), /closed the connection before the end/)
})

test('a refused upload gets its answer although it goes on', async t => {
  const fake = new FakeBackend({ containers: {
    async archivePut() { throw new DockerError('not-found', 'Could not find the file /x in container c') },
  } })
  const { call } = await served(t, fake.backend)
  const a = await call('PUT', '/containers/c/archive?path=/x', Buffer.alloc(30 << 20))
  assert.deepEqual([a.status, a.json], [404, { message: 'Could not find the file /x in container c' }])
})

test('the backend holds back the client by not reading', async t => {
  let taken = 0
  const { promise: enough, resolve } = Promise.withResolvers<void>()
  const fake = new FakeBackend({ images: {
    async load(tar) {
      await enough
      for await (const chunk of tar as AsyncIterable<Buffer>) taken += chunk.length
    },
  } })
  const { raw } = await served(t, fake.backend)
  const bytes = 32 << 20
  const socket = await raw(`POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: ${bytes}\r\n\r\n`)
  socket.write(Buffer.alloc(bytes))
  await delay(200)
  assert.ok(socket.bytesWritten - socket.writableLength < 4 << 20 || socket.writableLength > bytes / 2, 'the rest is still with the client')
  resolve()
  const chunks: Buffer[] = []
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    if (Buffer.concat(chunks).toString().endsWith('0\r\n\r\n')) break
  }
  assert.match(Buffer.concat(chunks).toString(), /^HTTP\/1\.1 200 OK/)
  assert.equal(taken, bytes)
})
