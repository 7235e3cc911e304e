import assert from 'node:assert/strict'
import { test } from 'node:test'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { encode } from 'dns-packet'
import { Directory } from './directory.ts'
import { EmbeddedDns } from './server.ts'

const names = 300

async function withServer(work: (port: number) => Promise<void>): Promise<void> {
  const directory = new Directory()
  for (let n = 0; n < names; n++) {
    directory.put('n', 'net', { endpointId: `e${n}`, sandboxId: `s${n}`, ipv4: `10.0.${n >> 8}.${n & 255}/16`, ipv6: '', names: ['all'], links: new Map() })
  }
  const dns = new EmbeddedDns(directory)
  const port = await dns.listen(undefined)
  dns.setAsker({ sandboxId: 's0', upstreams: undefined, ndotsAsked: false }, ['127.0.0.1'])
  try {
    await work(port)
  } finally {
    await dns.close()
  }
}

function question(): Buffer {
  const packet = encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'all' }] })
  const length = Buffer.alloc(2)
  length.writeUInt16BE(packet.length)
  return Buffer.concat([length, packet])
}

test('whoever asks over TCP and does not read the answers is cut off', { timeout: 30_000 }, async () => {
  await withServer(async (port) => {
    const socket = connect(port, '127.0.0.1').pause()
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    const many = Buffer.concat(Array.from({ length: 500 }, question))
    let over = false
    socket.on('close', () => { over = true })
    // 2.4 MB of answers for 14 KB of questions: sent until the server has had enough.
    for (let n = 0; n < 200 && !over; n++) {
      socket.write(many)
      await sleep(5)
    }
    assert.ok(over, 'the connection is still open')
  })
})

test('answers that are read come all, over one connection', { timeout: 30_000 }, async () => {
  await withServer(async (port) => {
    const socket = connect(port, '127.0.0.1')
    let bytes = 0
    let expected = Infinity
    const { promise, resolve } = Promise.withResolvers<void>()
    socket.on('data', (chunk: Buffer) => {
      if (bytes === 0) expected = 20 * (2 + chunk.readUInt16BE(0))
      bytes += chunk.length
      if (bytes >= expected) resolve()
    })
    for (let n = 0; n < 20; n++) socket.write(question())
    await promise
    assert.equal(bytes, expected)
    socket.destroy()
  })
})
