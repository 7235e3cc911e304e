import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from '../../core/errors.ts'
import { events, pods, replicaSets, replicationControllers } from '../../core/kinds.ts'
import type { Pod } from '../../core/types/index.ts'
import { replicaSet, template, TestCluster } from '../testing/cluster.ts'
import { settle } from '../testing/manual-clock.ts'
import { byLossOrder } from './ranking.ts'

async function cluster(run: (c: TestCluster) => Promise<void>): Promise<void> {
  const c = new TestCluster()
  c.startControllers()
  await settle()
  try {
    await run(c)
  } finally {
    await c.stop()
  }
}

const creates = (c: TestCluster) => c.client.calls.filter((x) => x === 'create Pod').length

test('a ReplicaSet makes its Pods, replaces a lost one, shrinks, and tells so in status and events', () => cluster(async (c) => {
  c.startAgents()
  c.startScheduler()
  await c.addNode('a')
  await c.client.create(replicaSets, replicaSet('web', 30))
  await c.clock.advance(0)
  assert.equal(c.client.all(pods).length, 30)
  const victim = c.client.all(pods)[0]!
  assert.match(victim.metadata.name, /^web-/)
  assert.equal(victim.metadata.ownerReferences?.[0]?.controller, true)
  await c.client.delete(pods, victim.metadata, { gracePeriodSeconds: 0 })
  await c.clock.advance(0)
  assert.equal(c.client.all(pods).length, 30)
  const rs = c.client.find(replicaSets, 'web')!
  await c.client.update(replicaSets, { ...rs, spec: { ...rs.spec, replicas: 3 } })
  await c.clock.advance(1000)
  assert.equal(c.client.all(pods).length, 3)
  const { status, metadata } = c.client.find(replicaSets, 'web')!
  assert.deepEqual([status!.replicas, status!.readyReplicas, status!.availableReplicas, status!.observedGeneration], [3, 3, 3, metadata.generation])
  const reasons = new Set(c.client.all(events).map((e) => e.reason))
  assert.ok(reasons.has('SuccessfulCreate') && reasons.has('SuccessfulDelete'))
}))

test('a ReplicationController works alike, with its template\'s labels as its selector', () => cluster(async (c) => {
  await c.client.create(replicationControllers, {
    apiVersion: 'v1', kind: 'ReplicationController', metadata: { name: 'rc', namespace: 'default' }, spec: { replicas: 2, template: template('rc') },
  })
  await c.clock.advance(0)
  assert.equal(c.client.all(pods).length, 2)
}))

test('with a cache that lags nothing is created twice', () => cluster(async (c) => {
  const rs = await c.client.create(replicaSets, replicaSet('web', 5))
  await settle()
  c.client.hold()
  await c.client.update(replicaSets, { ...c.client.find(replicaSets, 'web')!, spec: { ...rs.spec, replicas: 8 } })
  c.client.release()
  c.client.hold()
  await settle()
  assert.equal(creates(c), 8)
  c.client.release()
  await settle()
  assert.equal(creates(c), 8)
}))

test('controllers restarted at any point make exactly the wanted Pods', () => cluster(async (c) => {
  for (let turns = 1; turns < 14; turns += 2) {
    const name = `web${turns}`
    await c.client.create(replicaSets, replicaSet(name, 20))
    await settle(turns)
    await c.restartControllers()
    await c.clock.advance(1000)
    const own = c.client.all(pods).filter((p) => p.metadata.labels?.['app'] === name)
    assert.equal(own.length, 20, `restarted after ${turns} turns`)
  }
  assert.equal(creates(c), c.client.all(pods).length)
}))

test('matching orphans are adopted, and Pods that no longer match are let go and replaced', () => cluster(async (c) => {
  const lone: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'lone', namespace: 'default', labels: { app: 'web' } }, spec: template('web').spec }
  await c.client.create(pods, lone)
  await c.client.create(replicaSets, replicaSet('web', 2))
  await c.clock.advance(0)
  assert.equal(c.client.all(pods).length, 2)
  assert.equal(c.client.find(pods, 'lone')!.metadata.ownerReferences?.[0]?.name, 'web')
  await c.client.patch(pods, lone.metadata, 'merge', { metadata: { labels: { app: 'debug' } } })
  await c.clock.advance(0)
  assert.equal(c.client.all(pods).length, 3)
  assert.deepEqual(c.client.find(pods, 'lone')!.metadata.ownerReferences, [])
}))

test('a refused creation is not tried a hundred times, told of in a condition, and tried again later', () => cluster(async (c) => {
  let refused = 0
  c.client.fail = (verb, kind) => {
    if (verb !== 'create' || kind.kind !== 'Pod') return undefined
    refused++
    return new ApiError('Forbidden', 'pods "x" is forbidden: exceeded quota: q')
  }
  await c.client.create(replicaSets, replicaSet('web', 100))
  await settle()
  // Once for the ReplicaSet, and once for its own new status.
  assert.equal(refused, 2)
  const condition = c.client.find(replicaSets, 'web')!.status!.conditions![0]!
  assert.deepEqual([condition.type, condition.status, condition.reason], ['ReplicaFailure', 'True', 'FailedCreate'])
  c.client.fail = () => undefined
  await c.clock.advance(1000)
  assert.equal(c.client.all(pods).length, 100)
  assert.equal(c.client.find(replicaSets, 'web')!.status!.conditions, undefined)
}))

test('the cheapest loss goes first', () => {
  const now = Date.parse('2026-01-01T01:00:00Z')
  const pod = (name: string, p: { node?: string; phase?: 'Pending' | 'Running'; readyAt?: string; cost?: string; restarts?: number }): Pod => ({
    apiVersion: 'v1', kind: 'Pod',
    metadata: { name, creationTimestamp: '2026-01-01T00:00:00Z', annotations: p.cost === undefined ? {} : { 'controller.kubernetes.io/pod-deletion-cost': p.cost } },
    spec: { containers: [], ...(p.node !== undefined && { nodeName: p.node }) },
    status: {
      phase: p.phase ?? 'Running', conditions: p.readyAt === undefined ? [] : [{ type: 'Ready', status: 'True', lastTransitionTime: p.readyAt }],
      containerStatuses: [{ name: 'c', ready: true, restartCount: p.restarts ?? 0, image: '', imageID: '' }],
    },
  })
  const old = '2026-01-01T00:00:00Z'
  const list = [
    pod('steady', { node: 'a', readyAt: old }),
    pod('restarted', { node: 'a', readyAt: old, restarts: 3 }),
    pod('young', { node: 'a', readyAt: '2026-01-01T00:59:00Z' }),
    pod('crowded', { node: 'b', readyAt: old }),
    pod('cheap', { node: 'a', readyAt: old, cost: '-5' }),
    pod('unready', { node: 'a' }),
    pod('pending', { node: 'a', phase: 'Pending' }),
    pod('unassigned', { phase: 'Pending' }),
  ]
  list.sort(byLossOrder((p) => p.spec.nodeName === 'b' ? 2 : 1, now))
  assert.deepEqual(list.map((p) => p.metadata.name), ['unassigned', 'pending', 'unready', 'cheap', 'crowded', 'young', 'restarted', 'steady'])
})
