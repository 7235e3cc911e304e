/** The in-process client over a real store. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { isReason } from '../core/errors.ts'
import { KindTable, configMaps, machines, namespaces, pods, services } from '../core/kinds.ts'
import type { ConfigMap, Machine, Namespace, Pod, Service } from '../core/types/index.ts'
import { openSqliteStore } from '../store/sqlite.ts'
import type { Store } from '../store/store.ts'
import { Cache } from './cache.ts'
import { furnishNamespace } from './furnish.ts'
import { Ipam } from './ipam.ts'
import { LocalClient } from './local-client.ts'
import { Registry } from './registry.ts'

const log = { info() {}, warn() {}, error() {} }
const dir = mkdtempSync(join(tmpdir(), 'gantry-local-'))
let store: Store
let cache: Cache
let ipam: Ipam
let client: LocalClient

async function open(): Promise<void> {
  store = await openSqliteStore(join(dir, 'state.db'))
  const kinds = new KindTable()
  cache = new Cache(store, kinds.all(), Buffer.alloc(32, 1), log)
  await cache.start()
  ipam = new Ipam('10.43.0.0/16', '10.42.0.0/16')
  ipam.start(cache)
  client = new LocalClient(new Registry(cache, kinds, ipam, (r, n) => furnishNamespace(r, n, 'CA')))
}
async function shut(): Promise<void> {
  cache.stop()
  ipam.stop()
  await store.close()
}
before(async () => {
  await open()
  await client.create<Namespace>(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } })
})
after(async () => {
  await shut()
  rmSync(dir, { recursive: true })
})

const cm = (name: string, labels?: Record<string, string>): ConfigMap => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default', ...(labels && { labels }) }, data: { a: '1' } })
const pod = (name: string): Pod => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' }, spec: { containers: [{ name: 'c', image: 'i' }] } })

test('objects are shared, frozen, and the caller’s own stay the caller’s', async () => {
  const mine = cm('shared')
  const made = await client.create(configMaps, mine)
  mine.data!['a'] = 'changed'
  const got = await client.get(configMaps, { namespace: 'default', name: 'shared' })
  assert.equal(got, made)
  assert.equal(got.data!['a'], '1')
  assert.throws(() => { got.data!['a'] = '2' }, TypeError)
  assert.equal((await client.list(configMaps, { namespace: 'default', fieldSelector: 'metadata.name=shared' })).items[0], made)
})

test('an informer is synced at once, and told before the write resolves', async () => {
  const seen: string[] = []
  const informer = client.informer(configMaps, { labelSelector: 'on=yes', indexes: { byA: o => [o.data?.['a'] ?? ''] } })
  informer.on((type, o) => seen.push(`${type} ${o.metadata.name}`))
  const made = await client.create(configMaps, cm('i', { on: 'yes' }))
  assert.deepEqual(seen, ['ADDED i'])
  assert.equal(informer.get('default/i'), made)
  assert.deepEqual([...informer.byIndex('byA', '1')], [made])
  await client.update(configMaps, { ...made, metadata: { ...made.metadata, labels: { on: 'no' } } })
  await client.create(configMaps, cm('other'))
  assert.deepEqual(seen, ['ADDED i', 'DELETED i'])
  informer.stop()
  await client.create(configMaps, cm('later', { on: 'yes' }))
  assert.equal(informer.size, 0)
})

test('errors are ApiErrors', async () => {
  const is = (reason: Parameters<typeof isReason>[1]) => (e: unknown): boolean => isReason(e, reason)
  await assert.rejects(client.get(configMaps, { namespace: 'default', name: 'none' }), is('NotFound'))
  const made = await client.create(configMaps, cm('e'))
  await assert.rejects(client.create(configMaps, cm('e')), is('AlreadyExists'))
  await client.update(configMaps, { ...made, data: { a: '2' } })
  await assert.rejects(client.update(configMaps, { ...made, data: { a: '3' } }), is('Conflict'))
  await assert.rejects(client.delete(configMaps, { namespace: 'default', name: 'e' }, { preconditions: { uid: 'x' } }), is('Conflict'))
  const p = await client.create(pods, pod('b'))
  await assert.rejects(client.bind({ namespace: 'default', name: 'b', uid: 'x' }, 'n'), is('Conflict'))
  await client.bind({ namespace: 'default', name: 'b', uid: p.metadata.uid! }, 'n')
  await assert.rejects(client.bind({ namespace: 'default', name: 'b' }, 'n'), is('Conflict'))
})

test('two creates and many deletes of one name at once: one of each wins', async () => {
  const creates = await Promise.allSettled(Array.from({ length: 20 }, () => client.create(configMaps, cm('race'))))
  assert.equal(creates.filter(r => r.status === 'fulfilled').length, 1)
  const deletes = await Promise.allSettled(Array.from({ length: 20 }, () => client.delete(configMaps, { namespace: 'default', name: 'race' })))
  assert.equal(deletes.filter(r => r.status === 'fulfilled').length, 1)
})

test('what allocators gave out is known after a restart, and free after a deletion', async () => {
  const service = (name: string): Service => ({ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' }, spec: { ports: [{ port: 80 }] } })
  const a = await client.create(services, service('a'))
  const m = await client.create<Machine>(machines, { apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name: 'm' }, spec: {} })
  await shut()
  await open()
  const taken = service('b')
  taken.spec.clusterIP = a.spec.clusterIP!
  await assert.rejects(client.create(services, taken), /already allocated/)
  const m2 = await client.create<Machine>(machines, { apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name: 'm2' }, spec: {} })
  assert.notEqual(m2.spec.podCIDR, m.spec.podCIDR)
  await client.delete(services, { namespace: 'default', name: 'a' })
  assert.equal((await client.create(services, taken)).spec.clusterIP, a.spec.clusterIP)
})
