import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bool, bytes, enumeration, int32, int64, list, map, message, string, uint32, uint64 } from './protobuf.ts'

const inner = message({ text: [1, string], data: [2, bytes] })
const all = message({
  text: [1, string], flag: [2, bool], signed: [3, int32], unsigned: [4, uint32], long: [5, int64], size: [6, uint64],
  kind: [7, enumeration('ZERO', 'ONE', 'TWO')], data: [8, bytes], one: [9, inner], many: [10, list(inner)], names: [11, list(string)],
  labels: [12, map(string)], byName: [300, map(inner)],
})
const zero = {
  text: '', flag: false, signed: 0, unsigned: 0, long: 0, size: 0, kind: 'ZERO', data: Buffer.alloc(0), one: null, many: [], names: [],
  labels: {}, byName: {},
}
const hex = (...parts: string[]): Buffer => Buffer.from(parts.join('').replaceAll(' ', ''), 'hex')

describe('protobuf', () => {
  it('writes the bytes that the format prescribes', () => {
    const cases: [object, Buffer][] = [
      // The two examples of the format's own page.
      [{ signed: 150 }, hex('18 9601')],
      [{ text: 'testing' }, hex('0a 07 74657374696e67')],
      [{ flag: true, unsigned: 0xffff_ffff }, hex('10 01', '20 ffffffff0f')],
      [{ signed: -2 }, hex('18 feffffffffffffffff01')],
      // The second 0 of year 1, in which Go's zero time travels.
      [{ long: -62135596800 }, hex('28 8092b8c398feffffff01')],
      [{ size: 2 ** 53 - 1 }, hex('30 ffffffffffffff0f')],
      [{ kind: 'TWO' }, hex('38 02')],
      [{ one: {} }, hex('4a 00')],
      [{ many: [{ text: 'a' }, {}] }, hex('52 03 0a0161', '52 00')],
      [{ names: ['', 'b'] }, hex('5a 00', '5a 01 62')],
      [{ labels: { k: 'v', e: '' } }, hex('62 06 0a016b 120176', '62 03 0a0165')],
      [{ byName: { n: { text: 'x' } } }, hex('e212 08 0a016e 1203 0a0178')],
    ]
    for (const [value, expected] of cases) {
      assert.deepEqual(all.encode(value), expected, JSON.stringify(value))
      const back = { ...zero, ...value } as Record<string, unknown>
      if (back['one'] !== null) back['one'] = { text: '', data: Buffer.alloc(0) }
      back['many'] = (back['many'] as object[]).map((m) => ({ text: '', data: Buffer.alloc(0), ...m }))
      if ('byName' in value) back['byName'] = { n: { text: 'x', data: Buffer.alloc(0) } }
      assert.deepEqual(all.decode(expected), back)
    }
  })

  it('keeps lengths right at every size of their own', () => {
    for (const size of [0, 1, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16_379, 16_380, 16_381, 16_384, 2_097_150, 2_097_152]) {
      const value = { one: { text: 'é'.repeat(3), data: Buffer.alloc(size, size) }, many: [{ text: 'x'.repeat(size), data: Buffer.from('y') }], text: 'end' }
      assert.deepEqual(all.decode(all.encode(value)), { ...zero, ...value }, String(size))
    }
  })

  it('leaves room before the message', () => {
    const framed = all.encode({ text: 'x'.repeat(1000) }, 5)
    assert.deepEqual(all.decode(framed.subarray(5)), { ...zero, text: 'x'.repeat(1000) })
  })

  it('does not send what is zero, null, undefined or not of the message, and refuses unknown names of enumerations', () => {
    assert.equal(all.encode({ ...zero, text: undefined, other: 1 }).length, 0)
    assert.throws(() => all.encode({ kind: 'FOUR' }), /"FOUR" is none of ZERO, ONE, TWO/)
  })

  it('passes over fields it does not know, and numbers that have no name', () => {
    const unknown = hex('a006 05', 'a106 0102030405060708', 'a206 02 ffff', 'a506 01020304')
    assert.deepEqual(all.decode(Buffer.concat([unknown, hex('10 01'), unknown])), { ...zero, flag: true })
    // A known number with another wire type than its own.
    assert.deepEqual(all.decode(hex('08 05', '12 01 00')), zero)
    assert.deepEqual(all.decode(hex('38 09')), zero)
  })

  it('takes the keys of maps as data', () => {
    const { labels } = all.decode(all.encode({ labels: JSON.parse('{"__proto__": "x"}') as object })) as { labels: object }
    assert.deepEqual(Object.entries(labels), [['__proto__', 'x']])
    assert.equal(Object.getPrototypeOf(labels), Object.prototype)
  })

  it('refuses what is cut short or none of the format', () => {
    const whole = all.encode({ text: 'text', long: -1, one: { text: 'a', data: Buffer.alloc(200) }, labels: { a: 'b' }, byName: { c: { text: 'd' } } })
    const ends = new Set<number>()
    for (let end = 0; end < whole.length; end++) {
      try {
        all.decode(whole.subarray(0, end))
        ends.add(end)
      } catch (e) {
        assert.ok(e instanceof RangeError, String(e))
      }
    }
    // Only between fields.
    assert.equal(ends.size, 5)
    for (const bad of ['0b', '0f', '08 ffffffffffffffffffffff01', '0a ffffffffffffffffff01 00', '0a ffffffff7f 00']) {
      assert.throws(() => all.decode(hex(bad)), RangeError, bad)
    }
  })
})
