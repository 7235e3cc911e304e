import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endpoints, endpointSlices, nodes, pods, replicaSets, services } from '../../core/kinds.ts'
import type { Endpoint, EndpointSlice } from '../../core/types/index.ts'
import { replicaSet, service, TestCluster } from '../testing/cluster.ts'
import { planSlices, type SliceIdentity } from './slices.ts'

async function cluster(run: (c: TestCluster) => Promise<void>): Promise<void> {
  const c = new TestCluster()
  c.startControllers()
  c.startScheduler()
  c.startAgents()
  await c.addNode('a')
  await c.addNode('b')
  await c.clock.advance(0)
  try {
    await run(c)
  } finally {
    await c.stop()
  }
}

const slices = (c: TestCluster, name: string) => c.client.all(endpointSlices).filter((s) => s.metadata.labels?.['kubernetes.io/service-name'] === name)
const ready = (c: TestCluster, name: string) => slices(c, name).flatMap((s) => s.endpoints).filter((e) => e.conditions!.ready === true)

test('slices and Endpoints follow the Pods of a Service', () => cluster(async (c) => {
  await c.client.create(services, service('web', 'web'))
  await c.client.create(replicaSets, replicaSet('web', 3))
  await c.clock.advance(100)
  assert.equal(slices(c, 'web').length, 1)
  assert.equal(ready(c, 'web').length, 3)
  assert.deepEqual(slices(c, 'web')[0]!.ports, [{ name: '', protocol: 'TCP', port: 8080 }])
  const { subsets } = c.client.find(endpoints, 'web')!
  assert.equal(subsets![0]!.addresses!.length, 3)
  assert.deepEqual(subsets![0]!.ports, [{ port: 8080, protocol: 'TCP' }])
  const [pod] = c.client.all(pods)
  await c.client.updateStatus(pods, { ...pod!, status: { ...pod!.status, conditions: [{ type: 'Ready', status: 'False' }] } })
  await c.clock.advance(100)
  assert.equal(ready(c, 'web').length, 2)
  assert.equal(c.client.find(endpoints, 'web')!.subsets![0]!.notReadyAddresses!.length, 1)
  const s = c.client.find(services, 'web')!
  await c.client.update(services, { ...s, spec: { ...s.spec, publishNotReadyAddresses: true } })
  await c.clock.advance(100)
  assert.equal(ready(c, 'web').length, 3)
  await c.client.delete(services, s.metadata)
  await c.clock.advance(100)
  assert.equal(slices(c, 'web').length, 0)
  assert.equal(c.client.find(endpoints, 'web'), undefined)
}))

test('a node that is lost withdraws its endpoints before anything else happens to its Pods', () => cluster(async (c) => {
  await c.client.create(services, service('web', 'web'))
  await c.client.create(replicaSets, replicaSet('web', 4))
  await c.clock.advance(100)
  const onA = c.client.all(pods).filter((p) => p.spec.nodeName === 'a').length
  assert.ok(onA > 0 && onA < 4)
  const a = c.client.find(nodes, 'a')!
  await c.client.updateStatus(nodes, { ...a, status: { ...a.status, conditions: [{ type: 'Ready', status: 'Unknown', reason: 'Test' }] } })
  await c.clock.advance(100)
  assert.equal(ready(c, 'web').length, 4 - onA)
}))

test('Endpoints written by hand are mirrored into slices', () => cluster(async (c) => {
  await c.client.create(services, { ...service('ext', 'x'), spec: { ports: [{ port: 80 }] } })
  await c.client.create(endpoints, {
    apiVersion: 'v1', kind: 'Endpoints', metadata: { name: 'ext', namespace: 'default' },
    subsets: [{ addresses: [{ ip: '192.0.2.1' }], ports: [{ port: 9376 }] }],
  })
  await c.clock.advance(100)
  assert.deepEqual(ready(c, 'ext').map((e) => e.addresses[0]), ['192.0.2.1'])
  await c.client.delete(endpoints, { namespace: 'default', name: 'ext' })
  await c.clock.advance(100)
  assert.equal(slices(c, 'ext').length, 0)
}))

const identity: SliceIdentity = { service: 's', namespace: 'default', labels: {}, owner: { apiVersion: 'v1', kind: 'Service', name: 's', uid: 'u' } }
const endpoint = (i: number): Endpoint => ({ addresses: [`10.0.${i >> 8}.${i & 255}`], conditions: { ready: true }, targetRef: { uid: `p${i}` } })
const ports = [{ name: '', protocol: 'TCP', port: 80 }]

function applied(existing: EndpointSlice[], list: Endpoint[]): { slices: EndpointSlice[]; writes: number } {
  const plan = planSlices(identity, existing, list.length > 0 ? [{ ports, endpoints: list }] : [])
  const updated = new Map(plan.update.map((s) => [s.metadata.name, s]))
  const gone = new Set(plan.delete.map((s) => s.metadata.name))
  const kept = existing.filter((s) => !gone.has(s.metadata.name)).map((s) => updated.get(s.metadata.name) ?? s)
  const made = plan.create.map((s, i) => ({ ...s, metadata: { ...s.metadata, name: `s-${existing.length + i}-${list.length}` } }))
  return { slices: [...kept, ...made], writes: plan.create.length + plan.update.length + plan.delete.length }
}

test('a slice holds at most a hundred endpoints, and one change writes one slice', () => {
  const list = Array.from({ length: 450 }, (_, i) => endpoint(i))
  const first = applied([], list)
  assert.deepEqual(first.slices.map((s) => s.endpoints.length), [100, 100, 100, 100, 50])
  assert.equal(applied(first.slices, list).writes, 0)
  const replaced = applied(first.slices, [...list.slice(1), endpoint(1000)])
  assert.equal(replaced.writes, 1)
  assert.equal(replaced.slices.flatMap((s) => s.endpoints).length, 450)
  const emptied = applied(replaced.slices, [])
  assert.deepEqual(emptied.slices.map((s) => s.endpoints.length), [0])
  assert.equal(applied(emptied.slices, []).writes, 0)
  assert.equal(applied(emptied.slices, [endpoint(1)]).slices.flatMap((s) => s.endpoints).length, 1)
})
