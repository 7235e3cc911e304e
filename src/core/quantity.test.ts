import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReason } from './errors.ts'
import { percentOf, scaledValue } from './int-or-string.ts'
import { bytes, canonical, compareQuantity, cpuMilli, isQuantity, parseQuantity } from './quantity.ts'

test('canonical form', () => {
  const cases: [string | number, string][] = [
    ['0', '0'], ['0Mi', '0'], ['1000m', '1'], ['1500m', '1500m'], ['0.1', '100m'], ['.5', '500m'], ['1.', '1'],
      ['50000000', '50M'], ['1024', '1024'],
    ['1024Mi', '1Gi'], ['0.5Gi', '512Mi'], ['1.5Gi', '1536Mi'], ['512', '512'], ['1k', '1k'], ['1000k', '1M'], ['1e3', '1e3'],
      ['1E3', '1e3'], ['12e6', '12e6'],
    ['1E', '1E'], ['100u', '100u'], ['1n', '1n'], ['0.1n', '1n'], ['-1000m', '-1'], ['+5', '5'], ['1Ki', '1Ki'], ['0.5Ki', '512'],
      ['8Ei', '8Ei'], [2, '2'], [0.25, '250m'],
    ['123456789012345678901234567890', '123456789012345678901234567890'],
  ]
  for (const [q, expected] of cases) assert.equal(canonical(q), expected, String(q))
})

test('values', () => {
  assert.equal(cpuMilli('100m'), 100)
  assert.equal(cpuMilli('2'), 2000)
  assert.equal(cpuMilli('1u'), 1)
  assert.equal(cpuMilli(undefined), 0)
  assert.equal(bytes('64Mi'), 64 * 1024 * 1024)
  assert.equal(bytes('50M'), 50_000_000)
  assert.equal(bytes('1m'), 1)
  assert.equal(compareQuantity('1Gi', '1G'), 1)
  assert.equal(compareQuantity('1000m', '1'), 0)
  assert.equal(parseQuantity('9223372036854775807').nano, 9223372036854775807000000000n)
})

test('garbage is refused', () => {
  for (const q of ['', ' ', 'abc', '1 Gi', '1gi', '1KI', '--1', '1e', '1e9999', '0x10', '1Gi2', '.', '+', 'NaN', 'Infinity',
    '1'.repeat(70), '１']) {
    assert.equal(isQuantity(q), false, q)
    assert.throws(() => canonical(q), e => isReason(e, 'BadRequest'), q)
  }
})

test('canonical form keeps the value', () => {
  for (let i = 0; i < 500; i++) {
    const q = `${(i * 7919) % 100_003}${i % 3 === 0 ? `.${i}` : ''}${['', 'm', 'k', 'Mi', 'Gi', 'u', 'e3'][i % 7]}`
    const c = canonical(q)
    assert.equal(canonical(c), c)
    if (!q.includes('.') || !q.endsWith('i')) assert.equal(parseQuantity(c).nano, parseQuantity(q).nano, q)
  }
})

test('int-or-string', () => {
  assert.equal(scaledValue('25%', 10, 'up'), 3)
  assert.equal(scaledValue('25%', 10, 'down'), 2)
  assert.equal(scaledValue('30%', 10, 'up'), 3)
  assert.equal(scaledValue(4, 10, 'up'), 4)
  assert.equal(percentOf('x%'), undefined)
  assert.throws(() => scaledValue('25', 10, 'up'), { reason: 'BadRequest' })
})
