import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HealthMonitor, probeCommand } from './health.ts'
import type { Clock } from './health.ts'
import { RestartManager } from './restart.ts'
import { parsePs } from './top.ts'

test('pauses double up to a minute, and begin anew after a long run', () => {
  const m = new RestartManager({ Name: 'always' }, 0)
  assert.deepEqual([1, 2, 3, 4].map(() => m.afterExit(1, false, 50)), [100, 200, 400, 800])
  for (let i = 0; i < 12; i++) m.afterExit(0, false, 50)
  assert.equal(m.afterExit(0, false, 50), 60_000)
  assert.equal(m.afterExit(0, false, 10_000), 100)
})

test('policies decide who is started again', () => {
  const failing = new RestartManager({ Name: 'on-failure', MaximumRetryCount: 2 }, 0)
  assert.deepEqual([1, 2, 3].map(() => failing.afterExit(1, false, 0) !== undefined), [true, true, false])
  assert.equal(new RestartManager({ Name: 'on-failure' }, 0).afterExit(0, false, 0), undefined)
  assert.equal(new RestartManager({ Name: 'no' }, 0).afterExit(1, false, 0), undefined)
  assert.equal(new RestartManager({ Name: 'unless-stopped' }, 0).atOpening(0, true), false)
  assert.equal(new RestartManager({ Name: 'always' }, 0).atOpening(0, true), true)
  const stopped = new RestartManager({ Name: 'always' }, 0)
  stopped.cancel()
  assert.equal(stopped.afterExit(1, true, 0), undefined)
  stopped.reset()
  assert.equal(stopped.afterExit(1, false, 0), 100)
})

/** Time that goes on only when it is told to. */
class FakeClock implements Clock {
  #now = 0
  #timers: { at: number; work: () => void }[] = []
  now(): number { return this.#now }
  after(ms: number, work: () => void): () => void {
    const timer = { at: this.#now + ms, work }
    this.#timers.push(timer)
    return () => { this.#timers = this.#timers.filter((t) => t !== timer) }
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms
    for (let next = this.#due(end); next !== undefined; next = this.#due(end)) {
      this.#now = next.at
      this.#timers = this.#timers.filter((t) => t !== next)
      next.work()
      await new Promise(setImmediate)
    }
    this.#now = end
  }

  #due(end: number): { at: number; work: () => void } | undefined {
    return this.#timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0]
  }
}

test('health starts, turns healthy, and after three failures unhealthy', async () => {
  const clock = new FakeClock()
  const codes = [1, 0, 1, 1, 1, 0]
  const told: string[] = []
  const m = new HealthMonitor(['check'], { Interval: 1e9, StartPeriod: 5e9, StartInterval: 5e8 }, {
    clock, probe: () => Promise.resolve({ exitCode: codes.shift() ?? 0, output: 'x' }), onStatus: (s) => { told.push(s) },
  })
  m.start(0)
  assert.equal(m.inspect().Status, 'starting')
  await clock.advance(500)
  assert.deepEqual([m.inspect().Status, m.inspect().FailingStreak], ['starting', 0], 'a failure in the start period does not count')
  await clock.advance(500)
  assert.equal(m.status, 'healthy')
  await clock.advance(3000)
  assert.deepEqual([m.inspect().Status, m.inspect().FailingStreak], ['unhealthy', 3])
  await clock.advance(1000)
  assert.deepEqual(told, ['healthy', 'unhealthy', 'healthy'])
  assert.equal(m.inspect().Log?.length, 5)
  m.stop()
  await clock.advance(10_000)
  assert.equal(told.length, 3)
})

test('a health check\'s command comes in three forms', () => {
  assert.deepEqual(probeCommand({ Healthcheck: { Test: ['CMD', 'a', 'b'] } }), ['a', 'b'])
  assert.deepEqual(probeCommand({ Healthcheck: { Test: ['CMD-SHELL', 'a b'] } }), ['/bin/sh', '-c', 'a b'])
  assert.equal(probeCommand({ Healthcheck: { Test: ['NONE'] } }), undefined)
})

test('of ps only the container\'s lines stay', () => {
  assert.deepEqual(parsePs('UID PID CMD\nroot 1 init\nroot 42 sleep 100\n', new Set([42])), { Titles: ['UID', 'PID', 'CMD'], Processes: [['root', '42', 'sleep 100']] })
  assert.throws(() => parsePs('USER CMD\n', new Set()), /Couldn't find PID field/)
})
