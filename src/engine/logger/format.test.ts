import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LineFormatter, MAX_LINE_BYTES, Stamps } from './format.ts'

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5, 678)
const P = '2026-01-02T03:04:05.678'

function formatter(): LineFormatter { return new LineFormatter('stdout', new Stamps()) }

test('stamps have nanoseconds and grow within a millisecond', () => {
  const s = new Stamps()
  assert.deepEqual([s.next(NOW), s.next(NOW), s.next(NOW + 1)], [`${P}000000Z`, `${P}000001Z`, '2026-01-02T03:04:05.679000000Z'])
})

test('lines are cut where newlines are, wherever chunks end', () => {
  const f = formatter()
  assert.equal(f.push(Buffer.from('a\nb'), NOW), `${P}000000Z stdout F a\n`)
  assert.equal(f.push(Buffer.from('c'), NOW), '')
  assert.equal(f.push(Buffer.from('\n\n'), NOW), `${P}000002Z stdout F bc\n${P}000002Z stdout F \n`)
  f.push(Buffer.from('tail'), NOW)
  assert.equal(f.end(NOW), `${P}000004Z stdout P tail\n`)
  assert.equal(f.end(NOW), '')
})

test('any bytes come through', () => {
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i).filter((b) => b !== 10))
  const out = Buffer.from(formatter().push(Buffer.concat([all, Buffer.from('\n')]), NOW), 'latin1')
  assert.ok(out.subarray(out.indexOf(' F ') + 3, -1).equals(all))
})

test('long lines are split into partial ones of 16 KiB, in one chunk or many', () => {
  const long = `short\n${'x'.repeat(2 * MAX_LINE_BYTES + 5)}\nend\n`
  for (const step of [long.length, 1000, 16384]) {
    const f = formatter()
    let out = ''
    for (let at = 0; at < long.length; at += step) out += f.push(Buffer.from(long.slice(at, at + step)), NOW)
    const shape = out.trim().split('\n').map((l) => [l.split(' ')[2], (l.split(' ')[3] ?? '').length])
    assert.deepEqual(shape, [['F', 5], ['P', MAX_LINE_BYTES], ['P', MAX_LINE_BYTES], ['F', 5], ['F', 3]], `steps of ${step}`)
  }
})

test('a line of exactly the limit is whole in one chunk', () => {
  const out = formatter().push(Buffer.from(`${'x'.repeat(MAX_LINE_BYTES)}\n`), NOW)
  assert.equal(out.length, `${P}000000Z stdout F \n`.length + MAX_LINE_BYTES)
})
