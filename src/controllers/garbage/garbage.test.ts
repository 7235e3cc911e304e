import assert from 'node:assert/strict'
import { test } from 'node:test'
import { configMaps, events, namespaces, pods, replicaSets, replicationControllers, secrets, serviceAccounts } from '../../core/kinds.ts'
import type { ConfigMap, OwnerReference } from '../../core/types/index.ts'
import { replicaSet, template, TestCluster } from '../testing/cluster.ts'

async function cluster(run: (c: TestCluster) => Promise<void>): Promise<void> {
  const c = new TestCluster()
  c.startControllers()
  c.startScheduler()
  c.startAgents()
  await c.addNode('a')
  await c.clock.advance(0)
  try {
    await run(c)
  } finally {
    await c.stop()
  }
}

const owner = (o: ConfigMap, more: Partial<OwnerReference> = {}): OwnerReference =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', name: o.metadata.name, uid: o.metadata.uid!, ...more })

function make(c: TestCluster, name: string, ownerReferences: OwnerReference[] = [], namespace = 'default'): Promise<ConfigMap> {
  return c.client.create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, ownerReferences } })
}

test('what has lost its last owner goes, through any number of levels', () => cluster(async (c) => {
  const a = await make(c, 'a')
  const b = await make(c, 'b')
  const both = await make(c, 'both', [owner(a), owner(b)])
  await make(c, 'below', [owner(both)])
  await make(c, 'one', [owner(a)])
  await c.clock.advance(0)
  await c.client.delete(configMaps, a.metadata)
  await c.clock.advance(0)
  assert.equal(c.client.find(configMaps, 'one'), undefined)
  assert.deepEqual(c.client.find(configMaps, 'both')!.metadata.ownerReferences!.map((r) => r.name), ['b'])
  await c.client.delete(configMaps, b.metadata)
  await c.clock.advance(0)
  assert.equal(c.client.find(configMaps, 'below'), undefined)
}))

test('an object made for an owner that is gone, or of another life or namespace, goes', () => cluster(async (c) => {
  const a = await make(c, 'a')
  await make(c, 'stale', [owner(a, { uid: 'of-a-former-life' })])
  await make(c, 'never', [owner(a, { name: 'nobody', uid: 'nobody' })])
  await make(c, 'elsewhere', [owner(a)], 'other')
  await make(c, 'foreign', [owner(a, { apiVersion: 'example.org/v1', kind: 'Unheard', uid: 'x' })])
  await c.clock.advance(0)
  assert.equal(c.client.find(configMaps, 'stale'), undefined)
  assert.equal(c.client.find(configMaps, 'never'), undefined)
  assert.equal(c.client.find(configMaps, 'elsewhere', 'other'), undefined)
  assert.ok(c.client.find(configMaps, 'foreign'), 'a kind that is not known may exist somewhere')
}))

test('with a lagging cache of the owner\'s kind nothing that has an owner is deleted', () => cluster(async (c) => {
  c.client.hold()
  const a = await make(c, 'a')
  await c.client.create(secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace: 'default', ownerReferences: [owner(a)] } })
  c.client.release()
  await c.clock.advance(0)
  assert.ok(c.client.find(secrets, 's'))
}))

test('foreground: the owner waits for those that block it', () => cluster(async (c) => {
  const a = await make(c, 'a')
  const child = await make(c, 'child', [owner(a, { blockOwnerDeletion: true })])
  await c.client.patch(configMaps, child.metadata, 'merge', { metadata: { finalizers: ['example.org/hold'] } })
  await c.clock.advance(0)
  await c.client.delete(configMaps, a.metadata, { propagationPolicy: 'Foreground' })
  await c.clock.advance(0)
  assert.ok(c.client.find(configMaps, 'child')!.metadata.deletionTimestamp)
  assert.ok(c.client.find(configMaps, 'a'))
  await c.client.patch(configMaps, child.metadata, 'merge', { metadata: { finalizers: [] } })
  await c.clock.advance(0)
  assert.equal(c.client.find(configMaps, 'child'), undefined)
  assert.equal(c.client.find(configMaps, 'a'), undefined)
}))

test('orphan: dependents stay, without their owner', () => cluster(async (c) => {
  await c.client.create(replicationControllers, {
    apiVersion: 'v1', kind: 'ReplicationController', metadata: { name: 'rc', namespace: 'default' },
    spec: { replicas: 3, selector: { app: 'rc' }, template: template('rc') },
  })
  await c.clock.advance(0)
  await c.client.delete(replicationControllers, { namespace: 'default', name: 'rc' }, { propagationPolicy: 'Orphan' })
  await c.clock.advance(0)
  assert.equal(c.client.find(replicationControllers, 'rc'), undefined)
  assert.equal(c.client.all(pods).length, 3)
  assert.ok(c.client.all(pods).every((p) => (p.metadata.ownerReferences ?? []).length === 0))
}))

test('a restarted collector finishes what it had begun', () => cluster(async (c) => {
  await c.client.create(replicaSets, replicaSet('web', 40))
  await c.clock.advance(0)
  await c.client.delete(replicaSets, { namespace: 'default', name: 'web' }, { propagationPolicy: 'Background' })
  await c.restartControllers()
  await c.clock.advance(1000)
  assert.equal(c.client.all(pods).length, 0)
}))

test('a namespace gets its defaults, and is emptied before it goes', () => cluster(async (c) => {
  await c.client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } })
  await c.clock.advance(0)
  assert.ok(c.client.find(serviceAccounts, 'default', 'team'))
  assert.deepEqual(c.client.find(configMaps, 'kube-root-ca.crt', 'team')!.data, { 'ca.crt': 'PEM' })
  const held = await make(c, 'held', [], 'team')
  await c.client.patch(configMaps, held.metadata, 'merge', { metadata: { finalizers: ['example.org/hold'] } })
  const rs = replicaSet('web', 5)
  rs.metadata.namespace = 'team'
  await c.client.create(replicaSets, rs)
  await c.clock.advance(1000)
  await c.client.delete(namespaces, { name: 'team' })
  await c.clock.advance(1000)
  assert.equal(c.client.all(pods).length, 0)
  const { status } = c.client.find(namespaces, 'team')!
  assert.equal(status!.phase, 'Terminating')
  assert.match(status!.conditions!.find((x) => x.type === 'NamespaceFinalizersRemaining')!.message!, /example\.org\/hold in 1/)
  await c.client.patch(configMaps, held.metadata, 'merge', { metadata: { finalizers: [] } })
  await c.clock.advance(1000)
  assert.equal(c.client.find(namespaces, 'team'), undefined)
}))

test('events go an hour after they were last seen', () => cluster(async (c) => {
  await c.client.create(events, {
    apiVersion: 'v1', kind: 'Event', metadata: { name: 'e', namespace: 'default' }, involvedObject: {}, lastTimestamp: new Date(c.clock.now()).toISOString(),
  })
  await c.clock.advance(3_590_000)
  assert.ok(c.client.find(events, 'e'))
  await c.clock.advance(20_000)
  assert.equal(c.client.find(events, 'e'), undefined)
}))
