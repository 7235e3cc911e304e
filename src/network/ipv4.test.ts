import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Addresses } from './addresses.ts'
import { contains, formatIPv4, isIPv4, macOf, parseCidr, parseIPv4 } from './ipv4.ts'
import { namesOf } from './names.ts'
import { NetworkError } from './network.ts'

const refuses = (code: NetworkError['code'], text: RegExp) => (error: unknown): boolean =>
  error instanceof NetworkError && error.code === code && text.test(error.message)

describe('IPv4', () => {
  test('numbers and text', () => {
    assert.equal(parseIPv4('255.0.1.254'), 0xff0001fe)
    assert.equal(formatIPv4(0xff0001fe), '255.0.1.254')
    for (const wrong of ['', '1.2.3', '1.2.3.256', '01.2.3.4', '1.2.3.4 ', '1.2.3.4.5', 'a.b.c.d']) assert.ok(!isIPv4(wrong), wrong)
  })

  test('ranges', () => {
    const range = parseCidr('10.42.3.0/24')
    assert.deepEqual(range, { base: 0x0a2a0300, prefix: 24, size: 256 })
    assert.ok(contains(range, parseIPv4('10.42.3.255')) && !contains(range, parseIPv4('10.42.4.0')))
    assert.deepEqual(parseCidr('0.0.0.0/0').size, 2 ** 32)
    assert.throws(() => parseCidr('10.42.3.1/24'), refuses('invalid', /write 10\.42\.3\.0\/24/))
    for (const wrong of ['10.42.3.0', '10.42.3.0/33', '10.42.3.0/-1', '/8', 'x/8']) assert.throws(() => parseCidr(wrong), refuses('invalid', /not/), wrong)
  })

  test('MACs are local, unicast and differ by kind', () => {
    assert.equal(macOf('vxlan', parseIPv4('10.42.3.0')), '0e:58:0a:2a:03:00')
    assert.equal(new Set((['pod', 'vxlan', 'bridge'] as const).map((kind) => macOf(kind, 1))).size, 3)
    for (const kind of ['pod', 'vxlan', 'bridge'] as const) assert.equal(Number.parseInt(macOf(kind, 1).slice(0, 2), 16) & 3, 2)
  })
})

describe('addresses', () => {
  test('go round before one is used again, and end', () => {
    const addresses = new Addresses(parseCidr('10.0.0.0/29'))
    assert.deepEqual([addresses.take(), addresses.take()], [2, 3])
    addresses.release(2)
    assert.deepEqual([addresses.take(), addresses.take(), addresses.take(), addresses.take()], [4, 5, 6, 2])
    assert.equal(addresses.free, 0)
    assert.throws(() => addresses.take(), refuses('exhausted', /5 pod addresses/))
  })

  test('can be claimed once, except those that are not for pods', () => {
    const addresses = new Addresses(parseCidr('10.0.0.0/29'))
    assert.ok(addresses.claim(4) && !addresses.claim(4))
    for (const special of [0, 1, 7, 8, -1]) assert.ok(!addresses.claim(special), String(special))
    addresses.continueAfter(4)
    assert.equal(addresses.take(), 5)
    assert.throws(() => new Addresses(parseCidr('10.0.0.0/31')), refuses('invalid', /\/30/))
  })
})

test('kernel names fit, and are told from other instances\'', () => {
  const names = namesOf('abcdef')
  assert.ok(names.veth(0xffffff).length <= 15 && names.bridge.length <= 15 && names.vxlan.length <= 15)
  assert.equal(names.offsetOf(names.veth(300)), 300)
  assert.equal(names.offsetOf('eth0'), undefined)
  assert.equal(namesOf('a').offsetOf(namesOf('ab').veth(3)), undefined)
  for (const wrong of ['', 'toolong', 'A', 'a-b', 'a b', '../x']) assert.throws(() => namesOf(wrong), refuses('invalid', /instance/), wrong)
})
