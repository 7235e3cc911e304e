import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PodSpec } from '../../core/types/index.ts'
import { nextBackoffLevel, plan } from './plan.ts'
import { podPhase, podStatus } from './status.ts'
import { containerViews } from './view.ts'
import type { ContainerView, PodView } from './view.ts'

const NOW = 1_000_000_000

function view(spec: Partial<PodSpec> = {}, o: Partial<PodView> = {}): PodView {
  const full: PodSpec = { containers: [{ name: 'a', image: 'i' }, { name: 'b', image: 'i' }], ...spec }
  return {
    uid: 'u', spec: full, gone: false, sandbox: 'ready', volumes: 'ready', clean: false, deleted: false, ops: new Set(),
    containers: containerViews(full).map(c => ({ ...c, imagePresent: true })), startTimeMs: NOW - 1000, podIP: '10.42.0.2', ...o,
  }
}
const steps = (v: PodView): string[] => plan(v, NOW).steps.map(s => `${s.do}${'container' in s ? ` ${s.container}` : ''}`)
const set = (v: PodView, name: string, o: Partial<ContainerView>): ContainerView => Object.assign(v.containers.find(c => c.name === name)!, o)
const running: Partial<ContainerView> = { state: 'running', started: true, ready: true, id: 'x', startedAtMs: NOW - 500 }
const exited = (exitCode: number, o: Partial<ContainerView> = {}): Partial<ContainerView> =>
  ({ state: 'exited', exitCode, id: 'x', startedAtMs: NOW - 900, finishedAtMs: NOW - 100, ...o })

test('sandbox, volumes and images are prepared together; nothing in progress is planned again', () => {
  const v = view({}, { sandbox: 'none', volumes: 'none' })
  v.containers[0]!.imagePresent = false
  assert.deepEqual(steps(v), ['sandbox', 'volumes', 'pull a'])
  v.ops.add('sandbox').add('volumes')
  v.containers[0]!.op = 'pull'
  assert.deepEqual(steps(v), [])
})

test('containers start in order, one at a time, and one in back-off does not hold up the next', () => {
  const v = view()
  assert.deepEqual(steps(v), ['start a'])
  set(v, 'a', { op: 'start' })
  assert.deepEqual(steps(v), [])
  delete v.containers[0]!.op
  set(v, 'a', exited(1, { attempt: 1 }))
  assert.deepEqual(steps(v), ['start b'])
  assert.equal(plan(v, NOW).wakeAtMs, NOW - 100 + 10_000)
})

test('init containers gate the main ones; a sidecar gates until it has started', () => {
  const v = view({ initContainers: [{ name: 's', restartPolicy: 'Always' }, { name: 'i' }], containers: [{ name: 'a' }] })
  for (const c of v.containers) c.imagePresent = true
  assert.deepEqual(steps(v), ['start s'])
  set(v, 's', { ...running, started: false })
  assert.deepEqual(steps(v), [])
  set(v, 's', running)
  assert.deepEqual(steps(v), ['start i'])
  set(v, 'i', exited(0))
  assert.deepEqual(steps(v), ['start a'])
  set(v, 'a', running)
  set(v, 's', exited(1))
  assert.deepEqual(steps(v), ['start s'])
})

test('restart policies', () => {
  const outcome = (policy: PodSpec['restartPolicy'], a: number, b: number): [string, string[]] => {
    const v = view({ restartPolicy: policy })
    set(v, 'a', exited(a))
    set(v, 'b', exited(b))
    return [podPhase(v), steps(v)]
  }
  assert.deepEqual(outcome('Always', 0, 0), ['Running', ['start a']])
  assert.deepEqual(outcome('OnFailure', 0, 0), ['Succeeded', ['release']])
  assert.deepEqual(outcome('OnFailure', 0, 2), ['Running', ['start b']])
  assert.deepEqual(outcome('Never', 0, 0), ['Succeeded', ['release']])
  assert.deepEqual(outcome('Never', 0, 2), ['Failed', ['release']])
})

test('a failed init container with Never fails the pod', () => {
  const v = view({ restartPolicy: 'Never', initContainers: [{ name: 'i' }] })
  set(v, 'i', exited(1))
  assert.equal(podPhase(v), 'Failed')
  assert.deepEqual(steps(v), ['release'])
})

test('ending: mains, then sidecars in reverse, then clean-up, then the last delete', () => {
  const v = view({ initContainers: [{ name: 's1', restartPolicy: 'Always' }, { name: 's2', restartPolicy: 'Always' }] }, { deleting: { deadlineMs: NOW + 5000 } })
  for (const c of v.containers) Object.assign(c, running)
  assert.deepEqual(steps(v), ['stop a', 'stop b'])
  set(v, 'a', { op: 'stop', stopDeadlineMs: NOW + 5000 })
  set(v, 'b', exited(0))
  assert.deepEqual(steps(v), [])
  v.deleting = { deadlineMs: NOW + 1000 }
  assert.deepEqual(steps(v), ['stop a'], 'a shorter grace is applied')
  delete set(v, 'a', exited(0)).op
  assert.deepEqual(steps(v), ['stop s2'])
  set(v, 's2', exited(0))
  assert.deepEqual(steps(v), ['stop s1'])
  set(v, 's1', exited(0))
  assert.deepEqual(steps(v), ['teardown'])
  v.clean = true
  assert.deepEqual(steps(v), ['delete'])
  v.deleted = true
  assert.deepEqual(steps(v), [])
})

test('nothing starts in a pod that is being deleted', () => {
  assert.deepEqual(steps(view({}, { sandbox: 'none', volumes: 'none', deleting: { deadlineMs: NOW } })), ['teardown'])
})

test('the back-off level grows with each attempt and begins anew after ten minutes of running', () => {
  const level = (o: Partial<ContainerView>): number => nextBackoffLevel({ ...view().containers[0]!, ...o })
  assert.equal(level(exited(1, { attempt: 0, backoffLevel: 0 })), 0)
  assert.equal(level(exited(1, { attempt: 1, backoffLevel: 0 })), 1)
  assert.equal(level(exited(1, { attempt: 4, backoffLevel: 3 })), 4)
  assert.equal(level(exited(1, { attempt: 4, backoffLevel: 3, startedAtMs: NOW - 700_000 })), 0)
})

test('a container that somebody wants stopped is stopped with the grace asked for', () => {
  const v = view()
  set(v, 'b', running)
  set(v, 'a', { ...running, stopWanted: { message: 'failed', graceMs: 3000 } })
  assert.deepEqual(plan(v, NOW).steps, [{ do: 'stop', container: 'a', deadlineMs: NOW + 3000, message: 'failed' }])
})

test('the deadline ends the pod', () => {
  const v = view({ activeDeadlineSeconds: 1 })
  assert.deepEqual(steps(v), ['fail'])
  assert.equal(plan(view({ activeDeadlineSeconds: 60 }), NOW).wakeAtMs, NOW + 59_000)
})

test('status: waiting reasons, crash loop, readiness', () => {
  const v = view({ initContainers: [{ name: 'i' }] })
  let s = podStatus(v, undefined, '192.0.2.1', NOW)
  assert.equal(s.phase, 'Pending')
  assert.equal(s.containerStatuses![0]!.state!.waiting!.reason, 'PodInitializing')
  assert.equal(s.conditions!.find(c => c.type === 'Initialized')!.reason, 'ContainersNotInitialized')
  set(v, 'i', exited(0))
  set(v, 'a', { ...running, ready: false })
  set(v, 'b', exited(137, { attempt: 2, oomKilled: true }))
  s = podStatus(v, s, '192.0.2.1', NOW)
  assert.equal(s.phase, 'Running')
  assert.deepEqual(s.containerStatuses!.map(c => c.state!.waiting?.reason), [undefined, 'CrashLoopBackOff'])
  assert.equal(s.containerStatuses![1]!.lastState!.terminated!.reason, 'OOMKilled')
  assert.equal(s.conditions!.find(c => c.type === 'Ready')!.message, 'containers with unready status: [a b]')
})

test('status: transition times change with the status only, and conditions of others stay', () => {
  const v = view()
  for (const c of v.containers) Object.assign(c, running)
  const gate = { type: 'lb/ready', status: 'False' as const }
  const first = podStatus(v, { conditions: [gate] }, '192.0.2.1', NOW)
  const second = podStatus(v, first, '192.0.2.1', NOW + 60_000)
  assert.deepEqual(second, first)
  assert.deepEqual(second.conditions!.at(-1), gate)
  v.spec.readinessGates = [{ conditionType: 'lb/ready' }]
  assert.equal(podStatus(v, first, '192.0.2.1', NOW).conditions!.find(c => c.type === 'Ready')!.reason, 'ReadinessGatesNotReady')
})
