import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OrderedOutput } from './output.ts'

test('stages speak in turn, whoever is first', () => {
  let said = ''
  const out = new OrderedOutput(3, t => { said += t })
  const [a, b, c] = [out.stage(0), out.stage(1), out.stage(2)]
  c('c1 ')
  b('b1 ')
  a('a1 ')
  assert.equal(said, 'a1 ')
  out.end(1)
  a('a2 ')
  out.end(0)
  assert.equal(said, 'a1 a2 b1 c1 ')
  c('c2')
  assert.equal(said, 'a1 a2 b1 c1 c2')
})
