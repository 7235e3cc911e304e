import { test } from 'node:test'
import assert from 'node:assert/strict'
import { parseRange } from './serve.ts'
import { chainIds } from './unpack.ts'
import { sha256 } from './content.ts'

test('byte ranges', () => {
  assert.deepEqual(parseRange('bytes=0-', 10), { offset: 0, size: 10 })
  assert.deepEqual(parseRange('bytes=3-5', 10), { offset: 3, size: 3 })
  assert.deepEqual(parseRange('bytes=3-99', 10), { offset: 3, size: 7 })
  assert.deepEqual(parseRange('bytes=-4', 10), { offset: 6, size: 4 })
  assert.equal(parseRange('bytes=10-', 10), 'unsatisfiable')
  assert.equal(parseRange('bytes=-0', 10), 'unsatisfiable')
  for (const whole of ['bytes=1-2,4-5', 'lines=1-2', 'bytes=-', 'bytes=5-3']) assert.equal(parseRange(whole, 10), undefined, whole)
})

test('chain ids follow the image specification', () => {
  const [a, b, c] = ['a', 'b', 'c'].map(l => `sha256:${l.repeat(64)}`) as [string, string, string]
  const ids = chainIds([a, b, c])
  assert.equal(ids[0], a)
  assert.equal(ids[1], sha256(`${a} ${b}`))
  assert.equal(ids[2], sha256(`${ids[1]} ${c}`))
})
