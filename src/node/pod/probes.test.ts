import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import type { Probe } from '../../core/types/index.ts'
import { ContainerProbes, Threshold } from './probes.ts'
import type { ProbeKind } from './probes.ts'

test('thresholds count results in a row', () => {
  const t = new Threshold({ successThreshold: 2, failureThreshold: 3 })
  assert.deepEqual([false, false, true, true, false, false, true, false, false, false, false].map(ok => t.add(ok)),
    [undefined, undefined, undefined, true, undefined, undefined, undefined, undefined, undefined, false, false])
})

interface Run { calls: string[]; results: Record<ProbeKind, boolean>; advance(ms: number): Promise<void>; probes: ContainerProbes }

/** Runs probes on a mocked clock; `calls` tells what was reported, with the time in ms. */
function run(t: { after(f: () => void): void }, spec: Partial<Record<ProbeKind, Probe>>, known = { started: false, ready: false }): Run {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 })
  t.after(() => mock.timers.reset())
  const calls: string[] = []
  const results = { startup: true, liveness: true, readiness: true }
  const say = (text: string): void => void calls.push(`${Date.now() - 1_000_000} ${text}`)
  const probes = new ContainerProbes(spec, 1_000_000, known, {
    check: async kind => ({ ok: results[kind], message: 'm' }),
    onReady: r => say(`ready=${r}`), onStarted: () => say('started'),
    onFailed: kind => say(`failed ${kind}`), onUnhealthy: kind => say(`unhealthy ${kind}`),
  })
  const advance = async (ms: number): Promise<void> => {
    for (let i = 0; i < ms; i += 5) {
      mock.timers.tick(5)
      await Promise.resolve()
      await Promise.resolve()
    }
  }
  return { calls, results, advance, probes }
}

test('without probes a container is started and ready at once', t => {
  const r = run(t, {})
  assert.deepEqual(r.calls, ['0 started', '0 ready=true'])
})

test('readiness: early tries find a quick server, failures before it is ready count only at their period', async t => {
  const r = run(t, { readiness: { tcpSocket: { port: 1 }, periodSeconds: 1, failureThreshold: 2 } })
  r.results.readiness = false
  await r.advance(200)
  assert.deepEqual(r.calls, ['0 started', '5 unhealthy readiness'])
  r.results.readiness = true
  await r.advance(200)
  assert.equal(r.calls.length, 3)
  assert.match(r.calls[2]!, /ready=true/)
  assert.ok(Number(r.calls[2]!.split(' ')[0]) < 400)
  r.results.readiness = false
  await r.advance(2100)
  assert.deepEqual(r.calls.slice(3).map(c => c.split(' ').slice(1).join(' ')), ['unhealthy readiness', 'unhealthy readiness', 'ready=false'])
  r.probes.stop()
})

test('liveness: the container fails at its threshold, not before', async t => {
  const r = run(t, { liveness: { exec: { command: ['x'] }, periodSeconds: 1, failureThreshold: 3, initialDelaySeconds: 2 } })
  r.results.liveness = false
  await r.advance(1900)
  assert.deepEqual(r.calls, ['0 started', '0 ready=true'])
  await r.advance(4000)
  assert.deepEqual(r.calls.slice(2).map(c => c.split(' ').slice(1).join(' ')),
    ['unhealthy liveness', 'unhealthy liveness', 'unhealthy liveness', 'failed liveness'])
})

test('startup gates readiness and liveness', async t => {
  const r = run(t, {
    startup: { exec: { command: ['x'] }, periodSeconds: 1, failureThreshold: 5 },
    liveness: { exec: { command: ['x'] }, periodSeconds: 1, failureThreshold: 1 }, readiness: { exec: { command: ['x'] }, periodSeconds: 1 },
  })
  r.results.startup = r.results.liveness = false
  await r.advance(2500)
  assert.ok(r.calls.every(c => c.endsWith('unhealthy startup')))
  r.results.startup = r.results.liveness = true
  await r.advance(1000)
  assert.deepEqual(r.calls.slice(-2).map(c => c.split(' ')[1]), ['started', 'ready=true'])
  r.probes.stop()
})

test('a startup probe that fails for good fails the container', async t => {
  const r = run(t, { startup: { exec: { command: ['x'] }, periodSeconds: 1, failureThreshold: 2 } })
  r.results.startup = false
  await r.advance(2500)
  assert.match(r.calls.at(-1)!, /failed startup/)
})

test('an adopted container keeps its readiness until its probe says otherwise; deletion ends liveness', async t => {
  const r = run(t, {
    readiness: { exec: { command: ['x'] }, periodSeconds: 1, failureThreshold: 2 }, liveness: { exec: { command: ['x'] }, periodSeconds: 1, failureThreshold: 1 },
  }, { started: true, ready: true })
  r.probes.stopLiveness()
  r.results.readiness = r.results.liveness = false
  await r.advance(900)
  assert.deepEqual(r.calls.map(c => c.split(' ').slice(1).join(' ')), ['unhealthy readiness'])
  await r.advance(1000)
  assert.match(r.calls.at(-1)!, /ready=false/)
  r.probes.stop()
})
