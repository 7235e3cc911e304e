/** The store's conformance test, and what only several servers need, against a real etcd on the loopback. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Identity } from '../../src/machines/layout.ts'
import { createCA, issueCert, writeIdentity } from '../../src/machines/pki.ts'
import { etcdCommand, SERVER_NAME } from '../../src/machines/provision.ts'
import { startTestServer } from '../../src/server/testing/start.ts'
import { storeConformance } from '../../src/store/conformance.ts'
import { openEtcdStore } from '../../src/store/etcd.ts'
import type { Change } from '../../src/store/store.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-etcd-'))
let etcd: ChildProcess
let endpoint = ''
let clusters = 0

async function freePort(): Promise<number> {
  const s = createServer()
  await new Promise<void>(resolve => s.listen(0, '127.0.0.1', resolve))
  const { port } = s.address() as { port: number }
  await new Promise(resolve => s.close(resolve))
  return port
}

async function startEtcd(client: number, peer: number): Promise<void> {
  endpoint = `https://127.0.0.1:${client}`
  const [command, ...args] = etcdCommand({ dataDir: join(dir, 'data'), clientPort: client, peerPort: peer, tls })
  etcd = spawn(command!, args, { stdio: 'ignore' })
  for (const end = Date.now() + 15_000; ;) {
    try {
      await (await openEtcdStore({ endpoints: [endpoint], prefix: '/probe', tls })).close()
      return
    } catch (e) {
      if (Date.now() > end) throw e
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

let ports: [number, number]
let tls: Identity
let strangerTls: Identity
before(async () => {
  const ca = await createCA('gantry test')
  const request = { client: true, ipAddresses: ['127.0.0.1'] }
  tls = await writeIdentity(dir, await issueCert(ca, { ...request, commonName: SERVER_NAME, dnsNames: [SERVER_NAME], server: true }), 'server')
  strangerTls = await writeIdentity(dir, await issueCert(ca, { ...request, commonName: 'system:node:n1' }), 'node')
  ports = [await freePort(), await freePort()]
  await startEtcd(...ports)
})
after(() => {
  etcd?.kill('SIGKILL')
  rmSync(dir, { recursive: true, force: true })
})

storeConformance('etcd', async () => {
  const prefix = `/test-${++clusters}`
  return { open: () => openEtcdStore({ endpoints: [endpoint], prefix, tls }), remove: async () => {} }
})

test('a certificate of the same CA that is not the server\'s is refused', async () => {
  await assert.rejects(openEtcdStore({ endpoints: [endpoint], prefix: '/x', tls: strangerTls }), /does not answer/)
})

test('two stores see each other’s writes, and one of them holds the lease', async t => {
  const options = { endpoints: [endpoint], prefix: '/two', tls }
  const [a, b] = [await openEtcdStore(options), await openEtcdStore(options)]
  t.after(async () => { await a.close(); await b.close() })
  const seen: Change[] = []
  b.subscribe((await b.load()).revision, cs => seen.push(...cs), e => assert.fail(e))
  const r = await a.put('k', Buffer.from('1'), { exists: false })
  await assert.rejects(b.put('k', Buffer.from('2'), { exists: false }), /at revision/)
  await b.put('k', Buffer.from('2'), { revision: r })
  assert.deepEqual(seen.map(c => String(c.value)), ['1', '2'])

  assert.equal(await a.lease('leader', 'a', 2000), true)
  assert.equal(await b.lease('leader', 'b', 2000), false)
  assert.equal(await a.lease('leader', 'a', 2000), true)
  await a.close()
  assert.equal(await b.lease('leader', 'b', 2000), true)
})

test('a watch survives a restart of etcd', async t => {
  const store = await openEtcdStore({ endpoints: [endpoint], prefix: '/restart', tls })
  t.after(() => store.close())
  const seen: string[] = []
  store.subscribe((await store.load()).revision, cs => seen.push(...cs.map(c => c.key)), e => assert.fail(e))
  await store.put('before', Buffer.from('1'), undefined)
  const gone = new Promise(resolve => etcd.once('exit', resolve))
  etcd.kill('SIGKILL')
  await gone
  await startEtcd(...ports)
  for (const end = Date.now() + 10_000; ;) {
    try {
      await store.put('after', Buffer.from('2'), undefined)
      break
    } catch (e) {
      if (Date.now() > end) throw e
    }
  }
  assert.deepEqual([...new Set(seen)], ['before', 'after'])
})

test('a whole server on etcd: what it acknowledged is there after a restart', async t => {
  const server = await startTestServer({ store: { type: 'etcd', endpoints: [endpoint], prefix: '/server', tls } })
  t.after(() => server.close())
  const path = '/api/v1/namespaces/default/configmaps'
  const created = await server.call('POST', path, { metadata: { name: 'x' }, data: { a: '1' } })
  assert.equal(created.status, 201)
  const updated = await server.call('PUT', `${path}/x`, { ...created.body, data: { a: '2' } })
  assert.equal(updated.status, 200)
  await server.restart()
  const { body } = await server.call('GET', `${path}/x`)
  assert.deepEqual([body.data.a, body.metadata.resourceVersion], ['2', updated.body.metadata.resourceVersion])
})
