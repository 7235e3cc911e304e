/** The test that every Client passes: the in-process one and the one over HTTPS. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import type { Client, WatchEventType } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import type { StatusReason } from '../core/errors.ts'
import { configMaps, namespaces, nodes, pods } from '../core/kinds.ts'
import type { ConfigMap, Pod } from '../core/types/index.ts'

/** `makeClient` gives a client with all rights on a server where it may make namespaces; `cleanUp` ends both. */
export function clientConformance(name: string, makeClient: () => Promise<{ client: Client; cleanUp(): Promise<void> }>): void {
  describe(`${name}: Client conformance`, () => {
    let client: Client
    let cleanUp: () => Promise<void>
    const namespace = `conformance-${randomBytes(4).toString('hex')}`

    before(async () => {
      ({ client, cleanUp } = await makeClient())
      await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
    })
    after(async () => {
      await client.delete(namespaces, { name: namespace }).catch(() => {})
      await cleanUp()
    })

    const configMap = (name: string, data: Record<string, string> = {}, labels?: Record<string, string>): ConfigMap => (
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, ...(labels && { labels }) }, data }
    )
    const pod = (name: string): Pod => (
      { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace }, spec: { containers: [{ name: 'c', image: 'i' }] } }
    )
    const rejects = (promise: Promise<unknown>, reason: StatusReason) => assert.rejects(promise, (e) => isReason(e, reason) || assert.fail(String(e)))

    test('create, get, update and delete, with their refusals', async () => {
      const key = { namespace, name: 'crud' }
      await rejects(client.get(configMaps, key), 'NotFound')
      await rejects(client.delete(configMaps, key), 'NotFound')
      const created = await client.create(configMaps, configMap('crud', { a: '1' }))
      assert.ok(created.metadata.uid)
      assert.ok(created.metadata.resourceVersion)
      assert.ok(created.metadata.creationTimestamp)
      await rejects(client.create(configMaps, configMap('crud')), 'AlreadyExists')
      assert.deepEqual((await client.get(configMaps, key)).data, { a: '1' })
      const updated = await client.update(configMaps, { ...created, data: { a: '2' } })
      assert.notEqual(updated.metadata.resourceVersion, created.metadata.resourceVersion)
      await rejects(client.update(configMaps, { ...created, data: { a: '3' } }), 'Conflict')
      assert.equal((await client.get(configMaps, key)).kind, 'ConfigMap')
      assert.deepEqual((await client.get(configMaps, key)).data, { a: '2' })
      await rejects(client.delete(configMaps, key, { preconditions: { uid: 'another' } }), 'Conflict')
      await client.delete(configMaps, key)
      await rejects(client.get(configMaps, key), 'NotFound')
      await rejects(client.create(configMaps, configMap('Not A Name')), 'Invalid')
    })

    test('a dry run leaves nothing behind', async () => {
      const made = await client.create(configMaps, configMap('dry'), { dryRun: true })
      assert.equal(made.metadata.name, 'dry')
      await rejects(client.get(configMaps, { namespace, name: 'dry' }), 'NotFound')
    })

    test('patches: JSON, merge, strategic, apply', async () => {
      const key = { namespace, name: 'patched' }
      await client.create(configMaps, configMap('patched', { a: '1', b: '2' }))
      await client.patch(configMaps, key, 'json', [{ op: 'replace', path: '/data/a', value: '10' }])
      await client.patch(configMaps, key, 'merge', { data: { b: null, c: '3' } })
      const merged = await client.patch(configMaps, key, 'strategic', { data: { d: '4' } })
      assert.deepEqual(merged.data, { a: '10', c: '3', d: '4' })
      await rejects(client.patch(configMaps, key, 'json', [{ op: 'test', path: '/data/a', value: 'no' }]), 'Invalid')
      const apply = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data: { x: '1' } }
      const applied = { namespace, name: 'applied' }
      await client.patch(configMaps, applied, 'apply', apply, { fieldManager: 'one' })
      await rejects(client.patch(configMaps, applied, 'apply', { ...apply, data: { x: '2' } }, { fieldManager: 'two' }), 'Conflict')
      const forced = await client.patch(configMaps, applied, 'apply', { ...apply, data: { x: '2' } }, { fieldManager: 'two', force: true })
      assert.deepEqual(forced.data, { x: '2' })
    })

    test('lists: selectors and pages', async () => {
      for (let i = 0; i < 7; i++) await client.create(configMaps, configMap(`list-${i}`, {}, { list: 'yes', odd: String(i % 2) }))
      const names = (items: ConfigMap[]) => items.map((c) => c.metadata.name)
      const odd = await client.list(configMaps, { namespace, labelSelector: 'list=yes,odd=1' })
      assert.deepEqual(names(odd.items), ['list-1', 'list-3', 'list-5'])
      assert.ok(odd.items.every((c) => c.kind === 'ConfigMap' && c.apiVersion === 'v1'))
      const one = await client.list(configMaps, { namespace, fieldSelector: 'metadata.name=list-4' })
      assert.deepEqual(names(one.items), ['list-4'])
      const all: string[] = []
      let next: string | undefined
      let pages = 0
      do {
        const page = await client.list(configMaps, { namespace, labelSelector: 'list=yes', limit: 3, continue: next })
        all.push(...names(page.items))
        next = page.metadata.continue
        pages++
      } while (next)
      assert.equal(pages, 3)
      assert.deepEqual(all, Array.from({ length: 7 }, (_, i) => `list-${i}`))
      await rejects(client.list(configMaps, { labelSelector: 'a in (' }), 'BadRequest')
    })

    test('status is written by itself, and a Pod is bound once', async () => {
      const created = await client.create(pods, pod('bound'))
      const changed = structuredClone(created)
      changed.spec.containers[0]!.image = 'other'
      changed.status = { ...changed.status, message: 'written' }
      const updated = await client.updateStatus(pods, changed)
      assert.equal(updated.status?.message, 'written')
      assert.equal(updated.spec.containers[0]!.image, 'i')
      await rejects(client.bind({ namespace, name: 'bound', uid: 'another' }, 'n1'), 'Conflict')
      await client.bind({ namespace, name: 'bound', uid: created.metadata.uid! }, 'n1')
      assert.equal((await client.get(pods, { namespace, name: 'bound' })).spec.nodeName, 'n1')
      await rejects(client.bind({ namespace, name: 'bound' }, 'n2'), 'Conflict')
      await rejects(client.bind({ namespace, name: 'no-such-pod' }, 'n1'), 'NotFound')
      await client.delete(pods, { namespace, name: 'bound' }, { gracePeriodSeconds: 0 })
    })

    test('cluster-scoped kinds have no namespace', async () => {
      const name = `node-${randomBytes(4).toString('hex')}`
      await client.create(nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: {} })
      const found = await client.get(nodes, { name })
      assert.equal(found.metadata.namespace, undefined)
      await client.delete(nodes, { name })
      await rejects(client.get(nodes, { name }), 'NotFound')
    })

    test('an informer follows every change in order and keeps its indexes', async () => {
      await client.create(configMaps, configMap('watch-0', { group: 'x' }, { watch: 'yes' }))
      const informer = client.informer(configMaps, {
        namespace, labelSelector: 'watch=yes', indexes: { group: (c) => [c.data?.['group'] ?? ''] },
      })
      const seen: string[] = []
      const record = (into: string[]) => (type: WatchEventType, object: ConfigMap, old: ConfigMap | undefined) => {
        into.push(`${type} ${object.metadata.name} ${object.data?.['group'] ?? ''}${old ? ` was ${old.data?.['group']}` : ''}`)
      }
      informer.on(record(seen))
      await informer.synced
      assert.equal(informer.size, 1)
      await client.create(configMaps, configMap('watch-1', { group: 'x' }, { watch: 'yes' }))
      await client.create(configMaps, configMap('unseen', { group: 'x' }))
      await client.patch(configMaps, { namespace, name: 'watch-0' }, 'merge', { data: { group: 'y' } })
      // Leaving the selector is a deletion to who selects.
      await client.patch(configMaps, { namespace, name: 'watch-1' }, 'merge', { metadata: { labels: { watch: 'no' } } })
      await client.delete(configMaps, { namespace, name: 'watch-0' })
      await client.create(configMaps, configMap('watch-2', { group: 'y' }, { watch: 'yes' }))
      await until(() => seen.length >= 6)
      assert.deepEqual(seen, [
        'ADDED watch-0 x', 'ADDED watch-1 x', 'MODIFIED watch-0 y was x', 'DELETED watch-1 x was x', 'DELETED watch-0 y was y', 'ADDED watch-2 y',
      ])
      assert.deepEqual([...informer.byIndex('group', 'y')].map((c) => c.metadata.name), ['watch-2'])
      assert.deepEqual([...informer.byIndex('group', 'x')], [])
      assert.equal(informer.get(`${namespace}/watch-2`)?.kind, 'ConfigMap')
      const late: string[] = []
      const off = informer.on(record(late))
      assert.deepEqual(late, ['ADDED watch-2 y'])
      off()
      await client.delete(configMaps, { namespace, name: 'watch-2' })
      await until(() => informer.size === 0)
      assert.equal(late.length, 1)
      informer.stop()
      await client.create(configMaps, configMap('watch-3', {}, { watch: 'yes' }))
      assert.equal(informer.size, 0)
    })

    test('informers agree with a list under concurrent writes', async () => {
      const informer = client.informer(configMaps, { namespace, labelSelector: 'busy=yes' })
      const last = new Map<string, number>()
      informer.on((type, object) => {
        const revision = Number(object.metadata.resourceVersion)
        assert.ok(type === 'DELETED' || revision > (last.get(object.metadata.name) ?? 0), 'an older state followed a newer one')
        last.set(object.metadata.name, revision)
      })
      await Promise.all(Array.from({ length: 20 }, async (_, i) => {
        const key = { namespace, name: `busy-${i}` }
        await client.create(configMaps, configMap(key.name, { n: '0' }, { busy: 'yes' }))
        for (let n = 1; n <= 5; n++) await client.patch(configMaps, key, 'merge', { data: { n: String(n) } })
        if (i % 4 === 0) await client.delete(configMaps, key)
      }))
      await until(() => informer.size === 15 && [...informer.list()].every((c) => c.data?.['n'] === '5'))
      const list = await client.list(configMaps, { namespace, labelSelector: 'busy=yes' })
      assert.deepEqual(
        [...informer.list()].map((c) => `${c.metadata.name}@${c.metadata.resourceVersion}`).sort(),
        list.items.map((c) => `${c.metadata.name}@${c.metadata.resourceVersion}`).sort(),
      )
      informer.stop()
    })
  })
}

async function until(condition: () => boolean, ms = 5000): Promise<void> {
  const end = Date.now() + ms
  while (!condition()) {
    if (Date.now() > end) assert.fail('the condition did not come true in time')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
