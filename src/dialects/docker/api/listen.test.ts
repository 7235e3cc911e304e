import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect as connectTls } from 'node:tls'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCA, issueCert } from '../../../machines/pki.ts'
import { createDockerApi } from './index.ts'
import { listen } from './listen.ts'
import { FakeBackend, textOf } from './testing/fake-backend.ts'

const silent = { info() {}, warn() {}, error() {} }
const api = () => createDockerApi(new FakeBackend().backend, { serverVersion: '28.2.2', logger: silent })

function folder(t: { after(f: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-docker-listen-'))
  t.after(() => rmSync(dir, { recursive: true }))
  return dir
}

test('a socket is for its group; a stale one is replaced, a served one and other files are not', async t => {
  const unix = join(folder(t), 'docker.sock')
  const first = await listen(api(), { unix })
  assert.equal(first.address, `unix://${unix}`)
  assert.equal(statSync(unix).mode & 0o777, 0o660)
  await assert.rejects(listen(api(), { unix }), /another daemon serves .*docker\.sock/)
  await first.close()
  // A socket of a killed process: the file stays and nobody answers.
  const { spawnSync } = await import('node:child_process')
  spawnSync(process.execPath, ['-e', 'require("node:net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))', unix])
  assert.ok(statSync(unix).isSocket())
  const second = await listen(api(), { unix })
  await second.close()
  writeFileSync(unix, 'a file')
  await assert.rejects(listen(api(), { unix }), /is no socket/)
})

test('TCP needs a certificate of the CA from the client', async t => {
  const dir = folder(t)
  const ca = await createCA('docker')
  const file = (name: string, pem: string): string => {
    writeFileSync(join(dir, name), pem)
    return join(dir, name)
  }
  const server = await issueCert(ca, { commonName: 'd', server: true, dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] })
  const client = await issueCert(ca, { commonName: 'c', client: true })
  const other = await issueCert(await createCA('other'), { commonName: 'c', client: true })
  const tls = { ca: file('ca.pem', ca.cert), cert: file('cert.pem', server.cert), key: file('key.pem', server.key) }
  const listener = await listen(api(), { host: '127.0.0.1', port: 0, tls })
  t.after(() => listener.close())
  const port = Number(listener.address.split(':').pop())
  const ping = async (identity: { cert?: string; key?: string }): Promise<string> => {
    const socket = connectTls({ port, host: '127.0.0.1', ca: ca.cert, ...identity })
    socket.write('GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n')
    // Refused after the handshake, a client sees an error or the end, as the times fall.
    return textOf(socket).catch(() => '')
  }
  assert.match(await ping({ cert: client.cert, key: client.key }), /^HTTP\/1\.1 200 OK[^]*OK$/)
  assert.equal(await ping({}), '')
  assert.equal(await ping({ cert: other.cert, key: other.key }), '')
  await assert.rejects(listen(api(), { host: '127.0.0.1', port: 0, tls: { ...tls, key: join(dir, 'none') } }), /reading .*none/)
  const taken = createServer().listen(0, '127.0.0.1')
  t.after(() => taken.close())
  await new Promise(resolve => taken.once('listening', resolve))
  await assert.rejects(listen(api(), { host: '127.0.0.1', port: (taken.address() as { port: number }).port, tls }), /EADDRINUSE/)
})
