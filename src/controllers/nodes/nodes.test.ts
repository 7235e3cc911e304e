import assert from 'node:assert/strict'
import { test } from 'node:test'
import { machines, nodes, pods, replicaSets } from '../../core/kinds.ts'
import type { Pod, Toleration } from '../../core/types/index.ts'
import { isActive, isReady } from '../pod-state.ts'
import { replicaSet, template, TestCluster } from '../testing/cluster.ts'
import { evictionMs } from './eviction.ts'
import { readyOf } from './lifecycle.ts'

async function cluster(run: (c: TestCluster) => Promise<void>): Promise<void> {
  const c = new TestCluster()
  c.startControllers()
  c.startScheduler()
  c.startAgents()
  for (const n of ['a', 'b', 'c']) await c.addNode(n)
  await c.clock.advance(2000)
  try {
    await run(c)
  } finally {
    await c.stop()
  }
}

const node = (c: TestCluster, name: string) => c.client.find(nodes, name)!
const working = (c: TestCluster) => c.client.all(pods).filter((p) => isActive(p) && isReady(p))
const on = (c: TestCluster, name: string) => c.client.all(pods).filter((p) => p.spec.nodeName === name)
const taints = (c: TestCluster, name: string) => (node(c, name).spec.taints ?? []).map((t) => `${t.key}:${t.effect}`)

test('a killed node\'s replicas run elsewhere within four seconds of its last heartbeat', () => cluster(async (c) => {
  await c.client.create(machines, { apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name: 'a' }, spec: {}, status: { phase: 'Running' } })
  await c.client.create(replicaSets, replicaSet('web', 6))
  await c.clock.advance(1000)
  assert.equal(on(c, 'a').length, 2)
  c.kill('a')
  await c.clock.advance(4000)
  assert.equal(readyOf(node(c, 'a'))!.status, 'Unknown')
  assert.deepEqual(taints(c, 'a'), ['node.kubernetes.io/unreachable:NoSchedule', 'node.kubernetes.io/unreachable:NoExecute'])
  assert.equal(on(c, 'a').length, 0)
  assert.equal(working(c).length, 6)
  assert.equal(c.client.find(machines, 'a')!.status!.phase, 'Lost')
  c.revive('a')
  await c.clock.advance(2000)
  assert.equal(readyOf(node(c, 'a'))!.status, 'True')
  assert.deepEqual(taints(c, 'a'), [])
  assert.equal(c.client.find(machines, 'a')!.status!.phase, 'Running')
}))

test('Pods that say how long they wait, and lone Pods, are not replaced at once', () => cluster(async (c) => {
  const patient: Toleration = { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 60 }
  const rs = replicaSet('web', 3)
  rs.spec.template.spec.tolerations = [patient]
  await c.client.create(replicaSets, rs)
  const lone: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'lone', namespace: 'default' }, spec: { ...template('lone').spec, nodeName: 'a' } }
  await c.client.create(pods, lone)
  await c.clock.advance(1000)
  c.kill('a')
  await c.clock.advance(20_000)
  assert.equal(on(c, 'a').filter(isActive).length, 2)
  await c.clock.advance(60_000)
  assert.deepEqual(on(c, 'a').filter(isActive).map((p) => p.metadata.name), ['lone'])
  assert.equal(on(c, 'a').find((p) => !isActive(p))!.status!.reason, 'NodeLost')
  await c.clock.advance(300_000)
  assert.equal(on(c, 'a').filter(isActive).length, 0)
}))

test('a silent node that holds its tunnel is given more time', () => cluster(async (c) => {
  await c.client.create(replicaSets, replicaSet('web', 3))
  await c.clock.advance(1000)
  c.connection!('a', true)
  c.kill('a')
  c.connection!('a', true)
  await c.clock.advance(5000)
  assert.equal(readyOf(node(c, 'a'))!.status, 'Unknown')
  assert.equal(on(c, 'a').filter(isActive).length, 1)
  await c.clock.advance(7000)
  assert.equal(on(c, 'a').length, 0)
}))

test('controllers that start late wait for agents to find them before they call a node dead', () => cluster(async (c) => {
  await c.client.create(replicaSets, replicaSet('web', 3))
  await c.clock.advance(1000)
  const before = c.client.all(pods).map((p) => p.metadata.uid)
  for (const n of ['a', 'b', 'c']) c.kill(n)
  await c.restartControllers()
  await c.clock.advance(8000)
  for (const n of ['a', 'b', 'c']) c.revive(n)
  await c.clock.advance(20_000)
  assert.deepEqual(c.client.all(pods).map((p) => p.metadata.uid), before)
  assert.ok(c.client.all(nodes).every((n) => readyOf(n)!.status === 'True'))
}))

test('when no node is heard of at all nothing is evicted', () => cluster(async (c) => {
  await c.client.create(replicaSets, replicaSet('web', 3))
  await c.clock.advance(1000)
  const before = c.client.all(pods).map((p) => p.metadata.uid)
  for (const n of ['a', 'b', 'c']) c.kill(n)
  await c.clock.advance(30_000)
  assert.deepEqual(c.client.all(pods).map((p) => p.metadata.uid), before)
}))

test('removing a taint in time cancels the eviction; a cordon is a taint', () => cluster(async (c) => {
  const pod: Pod = {
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'default' },
    spec: { ...template('p').spec, nodeName: 'a', tolerations: [{ key: 'maintenance', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 10 }] },
  }
  await c.client.create(pods, pod)
  const taint = async (list: object[]) => { await c.client.patch(nodes, { name: 'a' }, 'merge', { spec: { taints: list } }) }
  await taint([{ key: 'maintenance', effect: 'NoExecute', timeAdded: new Date(c.clock.now()).toISOString() }])
  await c.clock.advance(5000)
  await taint([])
  await c.clock.advance(20_000)
  assert.ok(isActive(c.client.find(pods, 'p')!))
  await taint([{ key: 'maintenance', effect: 'NoExecute', timeAdded: new Date(c.clock.now()).toISOString() }])
  await c.clock.advance(11_000)
  assert.equal(c.client.find(pods, 'p'), undefined)
  await taint([])
  await c.client.patch(nodes, { name: 'a' }, 'merge', { spec: { unschedulable: true } })
  await c.clock.advance(0)
  assert.deepEqual(taints(c, 'a'), ['node.kubernetes.io/unschedulable:NoSchedule'])
}))

test('Pods of a Node object that was deleted go after a while', () => cluster(async (c) => {
  await c.client.create(replicaSets, replicaSet('web', 3))
  await c.clock.advance(1000)
  c.kill('a')
  await c.client.delete(nodes, { name: 'a' })
  await c.clock.advance(5000)
  assert.equal(on(c, 'a').length, 1)
  await c.clock.advance(7000)
  assert.equal(on(c, 'a').length, 0)
  assert.equal(working(c).length, 3)
}))

test('the shortest toleration of all taints decides', () => {
  const pod = (tolerations: Toleration[]): Pod => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [], tolerations } })
  const at = Date.parse('2026-01-01T00:00:00Z')
  const taint = (key: string) => ({ key, effect: 'NoExecute' as const, timeAdded: '2026-01-01T00:00:00Z' })
  assert.equal(evictionMs(pod([]), [taint('x')], at + 5), at + 5)
  assert.equal(evictionMs(pod([{ operator: 'Exists' }]), [taint('x')], at), Infinity)
  assert.equal(evictionMs(pod([{ key: 'x', operator: 'Exists', tolerationSeconds: 9 }, { key: 'y', operator: 'Exists', tolerationSeconds: 4 }]), [taint('x'), taint('y')], at), at + 4000)
})
