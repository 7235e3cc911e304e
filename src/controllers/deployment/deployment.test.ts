import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deployments, pods, replicaSets } from '../../core/kinds.ts'
import type { Deployment, Pod, ReplicaSet } from '../../core/types/index.ts'
import { isActive, isReady } from '../pod-state.ts'
import { deployment, template, TestCluster } from '../testing/cluster.ts'
import { settle } from '../testing/manual-clock.ts'
import { revisionOf, templateHash } from './revisions.ts'

async function cluster(run: (c: TestCluster) => Promise<void>): Promise<void> {
  const c = new TestCluster()
  c.startControllers()
  c.startScheduler()
  c.startAgents()
  for (const n of ['a', 'b', 'c']) await c.addNode(n)
  await c.clock.advance(0)
  try {
    await run(c)
  } finally {
    await c.stop()
  }
}

const find = (c: TestCluster, name = 'web') => c.client.find(deployments, name)!
const sets = (c: TestCluster) => c.client.all(replicaSets).sort((a, b) => revisionOf(a) - revisionOf(b))
const images = (c: TestCluster) => c.client.all(pods).filter(isActive).map((p) => p.spec.containers[0]!.image)
const condition = (d: Deployment, type: string) => d.status?.conditions?.find((x) => x.type === type)

async function setImage(c: TestCluster, image: string): Promise<void> {
  const d = find(c)
  await c.client.update(deployments, { ...d, spec: { ...d.spec, template: template('web', image) } })
}

test('a rollout to a new image ends complete, with revisions, and undo makes the old ReplicaSet the newest', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 4))
  await c.clock.advance(2000)
  assert.deepEqual(images(c), Array(4).fill('web:1'))
  assert.equal(condition(find(c), 'Available')!.status, 'True')
  assert.equal(condition(find(c), 'Progressing')!.reason, 'NewReplicaSetAvailable')
  await setImage(c, 'web:2')
  await c.clock.advance(2000)
  assert.deepEqual(images(c), Array(4).fill('web:2'))
  const { status, metadata } = find(c)
  assert.deepEqual([status!.replicas, status!.updatedReplicas, status!.availableReplicas, status!.unavailableReplicas], [4, 4, 4, 0])
  assert.equal(status!.observedGeneration, metadata.generation)
  assert.equal(metadata.annotations!['deployment.kubernetes.io/revision'], '2')
  await setImage(c, 'web:1')
  await c.clock.advance(2000)
  assert.deepEqual(images(c), Array(4).fill('web:1'))
  assert.equal(sets(c).length, 2)
  assert.deepEqual(sets(c).map(revisionOf), [2, 3])
  assert.equal(sets(c)[1]!.metadata.annotations!['deployment.kubernetes.io/revision-history'], '1')
  assert.equal(find(c).metadata.annotations!['deployment.kubernetes.io/revision'], '3')
}))

test('bounds hold at every moment of a rollout, with Pods that crash and controllers that restart meanwhile', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 6, { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 2, maxUnavailable: 1 } } }))
  await c.clock.advance(1000)
  let least = Infinity
  let most = 0
  const informer = c.client.informer(pods)
  await informer.synced
  informer.on(() => {
    const all = c.client.all(pods).filter(isActive)
    least = Math.min(least, all.filter(isReady).length)
    most = Math.max(most, all.length)
  })
  for (let round = 2; round < 6; round++) {
    await setImage(c, `web:${round}`)
    for (let i = 0; i < 6; i++) {
      await settle(5 + i)
      if (i % 2 === 0) await c.restartControllers()
    }
    await c.clock.advance(2000)
    assert.deepEqual(images(c), Array(6).fill(`web:${round}`))
  }
  informer.stop()
  assert.ok(least >= 5, `${least} ready Pods`)
  assert.ok(most <= 8, `${most} Pods`)
}))

test('a broken new version stops at its bounds and is reported after the deadline', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 4, { progressDeadlineSeconds: 30 }))
  await c.clock.advance(1000)
  c.podsBecomeReady = (p: Pod) => p.spec.containers[0]!.image !== 'web:bad'
  await setImage(c, 'web:bad')
  await c.clock.advance(5000)
  const good = c.client.all(pods).filter((p) => isActive(p) && p.spec.containers[0]!.image === 'web:1')
  assert.equal(good.length, 3)
  assert.equal(images(c).length, 5)
  assert.equal(condition(find(c), 'Progressing')!.status, 'True')
  await c.clock.advance(40_000)
  assert.equal(condition(find(c), 'Progressing')!.reason, 'ProgressDeadlineExceeded')
  await setImage(c, 'web:1')
  await c.clock.advance(2000)
  assert.deepEqual(images(c), Array(4).fill('web:1'))
  assert.equal(condition(find(c), 'Progressing')!.reason, 'NewReplicaSetAvailable')
}))

test('Recreate lets the last old Pod go before the first new one comes', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 3, { strategy: { type: 'Recreate' } }))
  await c.clock.advance(1000)
  const together: string[] = []
  const informer = c.client.informer(pods)
  await informer.synced
  informer.on(() => {
    const now = new Set(c.client.all(pods).map((p) => p.spec.containers[0]!.image))
    if (now.size > 1) together.push([...now].join())
  })
  await setImage(c, 'web:2')
  await c.clock.advance(2000)
  informer.stop()
  assert.deepEqual(together, [])
  assert.deepEqual(images(c), Array(3).fill('web:2'))
}))

test('a paused Deployment scales and does not roll', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 2))
  await c.clock.advance(1000)
  const d = find(c)
  await c.client.update(deployments, { ...d, spec: { ...d.spec, paused: true, replicas: 5, template: template('web', 'web:2') } })
  await c.clock.advance(1000)
  assert.deepEqual(images(c), Array(5).fill('web:1'))
  assert.equal(condition(find(c), 'Progressing')!.reason, 'DeploymentPaused')
  await c.client.update(deployments, { ...find(c), spec: { ...find(c).spec, paused: false } })
  await c.clock.advance(2000)
  assert.deepEqual(images(c), Array(5).fill('web:2'))
}))

test('old ReplicaSets beyond the history limit go', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 1, { revisionHistoryLimit: 2 }))
  for (let i = 1; i < 6; i++) {
    await setImage(c, `web:${i}`)
    await c.clock.advance(1000)
  }
  assert.deepEqual(sets(c).map((rs: ReplicaSet) => [revisionOf(rs), rs.spec.replicas]), [[3, 0], [4, 0], [5, 1]])
}))

test('deleting a Deployment takes its ReplicaSets and Pods with it', () => cluster(async (c) => {
  await c.client.create(deployments, deployment('web', 3))
  await c.clock.advance(1000)
  await c.client.delete(deployments, { namespace: 'default', name: 'web' }, { propagationPolicy: 'Background' })
  await c.clock.advance(1000)
  assert.equal(c.client.all(replicaSets).length + c.client.all(pods).length, 0)
}))

test('the template hash does not depend on the order of members', () => {
  const a = { metadata: { labels: { x: '1', y: '2' } }, spec: { containers: [{ name: 'c', image: 'i' }] } }
  const b = { spec: { containers: [{ image: 'i', name: 'c' }] }, metadata: { labels: { y: '2', x: '1' } } }
  assert.equal(templateHash(a, 0), templateHash(b, 0))
  assert.notEqual(templateHash(a, 0), templateHash(a, 1))
  assert.match(templateHash(a, 0), /^[a-z0-9]{1,10}$/)
})
