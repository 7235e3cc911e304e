import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clone, equal } from './clone.ts'
import * as names from './names.ts'

test('grammars', () => {
  const check = (rule: (s: string) => string | undefined, good: string[], bad: string[]): void => {
    for (const s of good) assert.equal(rule(s), undefined, s)
    for (const s of bad) assert.equal(typeof rule(s), 'string', s)
  }
  check(names.dns1123Label, ['a', '1-b', 'x'.repeat(63)], ['', 'A', '-a', 'a-', 'a.b', 'x'.repeat(64), 'a_b', 'a\n'])
  check(names.dns1123Subdomain, ['a.b', 'a-1.b', 'a'], ['a..b', '.a', 'a.', 'A.b', '../etc', 'a/b', 'x'.repeat(254)])
  check(names.dns1035Label, ['a1', 'a-b'], ['1a', 'a.b', ''])
  check(names.labelKey, ['app', 'a.b/c_D', 'App.kubernetes'], ['', '/a', 'a/', 'a/b/c', '-a', 'A.b/c', 'a b'])
  check(names.labelValue, ['', 'a', 'A_b.c-1'], ['-a', 'a-', 'a b', 'x'.repeat(64)])
  check(names.portName, ['http', 'a-1'], ['', '1', 'a--b', 'HTTP', 'sixteen-letters-x'])
  check(names.envName, ['PATH', 'a.b-c', '1A'], ['', 'A=B', 'ü', 'a\n'])
  check(names.configKey, ['a.txt', '_x', '.hidden'], ['', '.', '..', '..a', 'a/b', 'a b'])
  check(names.pathSegment, ['system:node', 'a b'], ['.', '..', 'a/b', 'a%'])
})

test('generated names', () => {
  let n = 0
  const name = names.generateName('x'.repeat(70), max => n++ % max)
  assert.equal(name, `${'x'.repeat(58)}bcdfg`)
})

test('clone and equal', () => {
  const value = JSON.parse('{"a":[1,{"b":null}],"__proto__":{"x":1},"c":"d"}') as Record<string, unknown>
  const copy = clone(value)
  assert.deepEqual(copy, value)
  assert.equal((copy as { x?: number }).x, undefined)
  assert.notEqual(copy['a'], value['a'])
  assert.equal(equal(value, copy), true)
  assert.equal(equal({ a: undefined, b: 1 }, { b: 1 }), true)
  assert.equal(equal({ a: 1 }, { a: 1, b: 2 }), false)
  assert.equal(equal({ a: 1, b: 2 }, { a: 1 }), false)
  assert.equal(equal({ toString: 1 }, {}), false)
  assert.equal(equal([1, 2], [1]), false)
  assert.equal(equal({}, []), false)
  assert.equal(equal(null, {}), false)
})
