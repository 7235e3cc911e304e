import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Query } from './query.ts'

const filtersOf = (text: string, accepted?: string[]) => ({ ...new Query(`filters=${encodeURIComponent(text)}`).filters(accepted) })

test('booleans: only words for no are false', () => {
  for (const no of ['', '0', 'no', 'No', 'FALSE', 'none', ' false ']) assert.equal(new Query(`a=${encodeURIComponent(no)}`).flag('a'), false, no)
  for (const yes of ['1', 'true', 'yes', 'x']) assert.equal(new Query(`a=${yes}`).flag('a'), true, yes)
  assert.equal(new Query('').flag('a'), false)
  assert.equal(new Query('').flagOr('a', true), true)
  assert.equal(new Query('a=0').flagOr('a', true), false)
})

test('filters in both forms; unknown keys and wrong shapes are refused', () => {
  assert.deepEqual(filtersOf('{"label":["a=b","c"]}'), { label: ['a=b', 'c'] })
  assert.deepEqual(filtersOf('{"label":{"a=b":true,"c":true}}'), { label: ['a=b', 'c'] })
  assert.deepEqual(filtersOf('null'), {})
  assert.throws(() => filtersOf('{"x":["y"]}', ['label']), { message: 'invalid filter \'x\'', kind: 'invalid' })
  for (const wrong of ['{', '[]', '"a"', '{"label":"a"}', '{"label":[1]}', '{"label":{"a":1}}']) {
    assert.throws(() => filtersOf(wrong), /invalid filter/, wrong)
  }
  assert.deepEqual(filtersOf('{"__proto__":["y"]}'), Object.fromEntries([['__proto__', ['y']]]))
})

test('times are seconds with decimals', () => {
  assert.equal(new Query('t=1136073600.000000001').timeNs('t'), 1136073600000000001n)
  assert.equal(new Query('t=5.5').timeNs('t'), 5500000000n)
  assert.equal(new Query('t=0').timeNs('t'), undefined)
  assert.throws(() => new Query('t=soon').timeNs('t'), /"t": "soon" is not a Unix time/)
})

test('numbers that are none are refused by name', () => {
  assert.equal(new Query('t=-1').integer('t'), -1)
  for (const wrong of ['1.5', 'x', '99999999999999999999']) assert.throws(() => new Query(`t=${wrong}`).integer('t'), /"t"/, wrong)
  assert.throws(() => new Query('t=4294967296').integer('t', { max: 4294967295 }), /"t"/)
})
