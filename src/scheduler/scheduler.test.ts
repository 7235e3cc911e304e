import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryClient } from '../controllers/testing/memory-client.ts'
import { ManualClock } from '../controllers/testing/manual-clock.ts'
import { ApiError } from '../core/errors.ts'
import { events, nodes, pods } from '../core/kinds.ts'
import type { Pod, PodSpec } from '../core/types/index.ts'
import { startScheduler } from './index.ts'

const quiet = { info() {}, warn() {}, error() {} }

async function world(run: (client: MemoryClient, clock: ManualClock) => Promise<void>): Promise<void> {
  const clock = new ManualClock()
  const client = new MemoryClient(clock)
  const scheduler = startScheduler(client, { logger: quiet, clock, random: () => 0.5 })
  try {
    await run(client, clock)
  } finally {
    scheduler.stop()
  }
}

async function addNode(client: MemoryClient, name: string, cpu = '1'): Promise<void> {
  await client.create(nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: {}, status: { allocatable: { cpu, memory: '8Gi', pods: '110' } } })
}

async function addPod(client: MemoryClient, name: string, spec: Partial<PodSpec> = {}): Promise<Pod> {
  return client.create(pods, {
    apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' },
    spec: { containers: [{ name: 'c', resources: { requests: { cpu: '500m' } } }], ...spec },
  })
}

const nodeOf = (client: MemoryClient, name: string) => client.find(pods, name)?.spec.nodeName

test('Pods are bound as long as they fit; the rest is told why, once, and placed when there is room', () => world(async (client, clock) => {
  await addNode(client, 'a')
  for (const p of ['p1', 'p2', 'p3']) await addPod(client, p)
  await clock.advance(500)
  assert.deepEqual(['p1', 'p2', 'p3'].map((p) => nodeOf(client, p)), ['a', 'a', undefined])
  const condition = client.find(pods, 'p3')!.status!.conditions!.find((c) => c.type === 'PodScheduled')!
  assert.deepEqual([condition.status, condition.reason, condition.message], ['False', 'Unschedulable', '0/1 nodes are available: 1 Insufficient cpu.'])
  await clock.advance(200_000)
  assert.equal(client.all(events).filter((e) => e.reason === 'FailedScheduling').length, 1)
  assert.ok(client.all(events).some((e) => e.reason === 'Scheduled' && e.message === 'Successfully assigned default/p1 to a'))
  await client.delete(pods, { namespace: 'default', name: 'p1' }, { gracePeriodSeconds: 0 })
  await clock.advance(0)
  assert.equal(nodeOf(client, 'p3'), 'a')
}))

test('a failed binding gives the room back and is tried again', () => world(async (client, clock) => {
  await addNode(client, 'a')
  let failures = 2
  client.fail = (verb) => verb === 'bind' && failures-- > 0 ? new ApiError('ServiceUnavailable', 'away') : undefined
  await addPod(client, 'p1', { containers: [{ name: 'c', resources: { requests: { cpu: '1' } } }] })
  await clock.advance(500)
  assert.equal(nodeOf(client, 'p1'), undefined)
  await clock.advance(4000)
  assert.equal(nodeOf(client, 'p1'), 'a')
}))

test('a deleted Pod keeps its host port until it is gone, one that has ended by itself does not', () => world(async (client, clock) => {
  await addNode(client, 'a', '8')
  const port = { containers: [{ name: 'c', ports: [{ containerPort: 80, hostPort: 80 }] }] }
  const ended = async (name: string): Promise<Pod> => client.updateStatus(pods, { ...client.find(pods, name)!, status: { phase: 'Failed' } })
  await addPod(client, 'p1', port)
  await clock.advance(100)
  await client.delete(pods, { namespace: 'default', name: 'p1' })
  await ended('p1')
  await addPod(client, 'p2', port)
  await clock.advance(15_000)
  assert.ok(client.find(pods, 'p1')!.metadata.deletionTimestamp)
  assert.equal(nodeOf(client, 'p2'), undefined)
  await client.delete(pods, { namespace: 'default', name: 'p1' }, { gracePeriodSeconds: 0 })
  await clock.advance(100)
  assert.equal(nodeOf(client, 'p2'), 'a')
  await ended('p2')
  await addPod(client, 'p3', port)
  await clock.advance(100)
  assert.equal(nodeOf(client, 'p3'), 'a')
}))

test('gates hold a Pod back, other schedulers\' Pods and Pods that are leaving are not touched', () => world(async (client, clock) => {
  await addNode(client, 'a', '8')
  await addPod(client, 'gated', { schedulingGates: [{ name: 'x' }] })
  await addPod(client, 'other', { schedulerName: 'mine' })
  await clock.advance(100)
  assert.deepEqual([nodeOf(client, 'gated'), nodeOf(client, 'other')], [undefined, undefined])
  assert.equal(client.find(pods, 'gated')!.status!.conditions![0]!.reason, 'SchedulingGated')
  const { schedulingGates: _, ...spec } = client.find(pods, 'gated')!.spec
  await client.update(pods, { ...client.find(pods, 'gated')!, spec })
  await clock.advance(100)
  assert.equal(nodeOf(client, 'gated'), 'a')
}))

test('higher priority goes first, and makes room by preemption; the victims\' room is kept for it', () => world(async (client, clock) => {
  await addPod(client, 'low', { priority: 1 })
  await addPod(client, 'high', { priority: 100, containers: [{ name: 'c', resources: { requests: { cpu: '1' } } }] })
  await addNode(client, 'a')
  await clock.advance(100)
  assert.deepEqual([nodeOf(client, 'high'), nodeOf(client, 'low')], ['a', undefined])
  await addPod(client, 'top', { priority: 1000 })
  await clock.advance(100)
  const victim = client.find(pods, 'high')!
  assert.ok(victim.metadata.deletionTimestamp)
  assert.equal(victim.status!.conditions!.find((c) => c.type === 'DisruptionTarget')!.reason, 'PreemptionByScheduler')
  assert.equal(client.find(pods, 'top')!.status!.nominatedNodeName, 'a')
  await addPod(client, 'late', { priority: 1, containers: [{ name: 'c', resources: { requests: { cpu: '1' } } }] })
  await client.delete(pods, victim.metadata, { gracePeriodSeconds: 0 })
  await clock.advance(100)
  assert.equal(nodeOf(client, 'top'), 'a')
  assert.equal(nodeOf(client, 'late'), undefined)
}))

test('five hundred Pods are spread evenly, each bound once', () => world(async (client, clock) => {
  for (let i = 0; i < 10; i++) await addNode(client, `n${i}`, '64')
  await Promise.all(Array.from({ length: 500 }, (_, i) => addPod(client, `p${i}`)))
  await clock.advance(0)
  const perNode = new Map<string, number>()
  for (const p of client.all(pods)) perNode.set(p.spec.nodeName!, (perNode.get(p.spec.nodeName!) ?? 0) + 1)
  assert.deepEqual([...perNode.values()], Array(10).fill(50))
  assert.equal(client.calls.filter((c) => c === 'bind Pod').length, 500)
}))
