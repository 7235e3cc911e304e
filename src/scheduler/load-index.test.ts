import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LoadIndex } from './load-index.ts'

test('nodes are met in order of load from both ends, through moves and removals', () => {
  let seed = 3
  const random = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % n
  const index = new LoadIndex<{ bucket: number; slot: number; load: number }>()
  const nodes = Array.from({ length: 200 }, () => ({ bucket: -1, slot: -1, load: 0 }))
  const present = new Set<(typeof nodes)[number]>()
  for (let i = 0; i < 5000; i++) {
    const node = nodes[random(200)]!
    if (random(5) === 0) {
      index.remove(node)
      present.delete(node)
    } else {
      node.load = random(1025) / 1023 - 0.0005
      index.place(node, node.load)
      present.add(node)
    }
  }
  for (const from of ['emptiest', 'fullest'] as const) {
    const met: typeof nodes = []
    index.walk(from, (n) => met.push(n) > 0)
    assert.deepEqual(new Set(met), present)
    assert.equal(met.length, present.size)
    const order = met.map((n) => n.bucket)
    assert.deepEqual(order, [...order].sort((a, b) => from === 'emptiest' ? a - b : b - a))
  }
  let seen = 0
  index.walk('emptiest', () => ++seen < 7)
  assert.equal(seen, 7)
})
