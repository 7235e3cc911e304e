import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Controller, watch } from './controller.ts'
import { InformerCache } from './informer-cache.ts'
import type { Informer } from './client.ts'
import type { ConfigMap } from './types/index.ts'
import { WorkQueue } from './workqueue.ts'
import type { Clock } from './workqueue.ts'

/** A clock that only moves when told to. */
class TestClock implements Clock {
  #now = 0
  #timers = new Map<number, { at: number; f: () => void }>()
  #id = 0
  now(): number { return this.#now }
  setTimeout(f: () => void, ms: number): unknown {
    this.#timers.set(++this.#id, { at: this.#now + ms, f })
    return this.#id
  }
  clearTimeout(handle: unknown): void { this.#timers.delete(handle as number) }
  get pending(): number { return this.#timers.size }
  advance(ms: number): void {
    this.#now += ms
    for (const [id, t] of [...this.#timers].sort((a, b) => a[1].at - b[1].at)) {
      if (t.at <= this.#now && this.#timers.delete(id)) t.f()
    }
  }
}

test('a key waits once and is not worked on twice at a time', async () => {
  const q = new WorkQueue()
  q.add('a')
  q.add('a')
  q.add('b')
  assert.equal(q.length, 2)
  assert.equal(await q.get(), 'a')
  q.add('a')
  q.add('a')
  assert.equal(await q.get(), 'b')
  assert.equal(q.length, 0)
  q.done('a')
  assert.equal(q.length, 1)
  assert.equal(await q.get(), 'a')
  const waiting = q.get()
  q.shutDown()
  assert.equal(await waiting, undefined)
  assert.equal(await q.get(), undefined)
})

test('delays: the earliest counts, failures back off to a cap', async () => {
  const clock = new TestClock()
  const q = new WorkQueue({ clock, maxDelayMs: 15 })
  q.addAfter('a', 100)
  q.addAfter('a', 50)
  q.addAfter('a', 70)
  clock.advance(49)
  assert.equal(q.length, 0)
  clock.advance(1)
  assert.equal(q.length, 1)
  assert.equal(clock.pending, 0)
  await q.get()
  q.done('a')
  for (const delay of [5, 10, 15, 15]) {
    q.addRateLimited('a')
    clock.advance(delay - 1)
    assert.equal(q.length, 0)
    clock.advance(1)
    assert.equal(await q.get(), 'a')
    q.done('a')
  }
  q.forget('a')
  q.addRateLimited('a')
  clock.advance(5)
  assert.equal(q.length, 1)
  q.addAfter('b', 10)
  q.shutDown()
  assert.equal(clock.pending, 0)
})

function informerOf(cache: InformerCache<ConfigMap>): Informer<ConfigMap> {
  return {
    synced: Promise.resolve(), get: k => cache.get(k), list: () => cache.list(), get size() { return cache.size },
    byIndex: (i, v) => cache.byIndex(i, v), on: h => cache.on(h), stop: () => undefined,
  }
}

const configMap = (name: string, revision: number): ConfigMap =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'n', resourceVersion: String(revision) } })

test('controller: reconciles what changes, retries failures, stops', async () => {
  const cache = new InformerCache<ConfigMap>()
  const worked: string[] = []
  const errors: string[] = []
  let active = 0
  let most = 0
  cache.apply('ADDED', configMap('old', 1))
  const controller = new Controller({
    name: 'test', workers: 2, sources: [watch(informerOf(cache))],
    onError: (e, key) => errors.push(`${key}: ${(e as Error).message}`),
    reconcile: async key => {
      active++
      most = Math.max(most, active)
      await new Promise(resolve => setImmediate(resolve))
      active--
      worked.push(key)
      if (key === 'n/bad' && worked.filter(k => k === key).length < 3) throw new Error('not yet')
    },
  })
  await controller.start()
  for (const name of ['a', 'b', 'bad']) cache.apply('ADDED', configMap(name, 2))
  controller.enqueueAfter('later', 1)
  const end = Date.now() + 5000
  while (worked.filter(k => k === 'n/bad').length < 3 || !worked.includes('later')) {
    assert.ok(Date.now() < end, 'timed out')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  assert.deepEqual(errors, ['n/bad: not yet', 'n/bad: not yet'])
  assert.deepEqual([...new Set(worked)].sort(), ['later', 'n/a', 'n/b', 'n/bad', 'n/old'])
  assert.equal(most, 2)
  await controller.stop()
  const count = worked.length
  cache.apply('ADDED', configMap('after', 9))
  await new Promise(resolve => setTimeout(resolve, 10))
  assert.equal(worked.length, count)
})
