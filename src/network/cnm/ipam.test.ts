import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { formatAddress, formatSubnet, overlap, parseAddress, parseSubnet, reverseName, subnetOf } from './ip.ts'
import { SubnetAddresses } from './ipam.ts'
import { macFor, namesOf } from './names.ts'
import { defaultPools, freeSubnet, settlePool, ulaPool } from './pools.ts'

describe('addresses of both families', () => {
  test('come out in the canonical form', () => {
    for (const [given, canonical] of [['10.0.0.1', '10.0.0.1'], ['FD00:0:0:0:0:0:0:1', 'fd00::1'], ['1:0:0:2::3', '1:0:0:2::3'], ['::', '::'], ['::ffff:1.2.3.4', '::ffff:102:304'],
      ['1:2:3:4:5:6:7:0', '1:2:3:4:5:6:7:0'], ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1']] as const) assert.equal(formatAddress(parseAddress(given)!), canonical)
    assert.equal(parseAddress('300.1.1.1'), undefined)
    assert.equal(parseAddress('fe80::1%eth0'), undefined)
    assert.equal(formatSubnet(parseSubnet('10.1.2.3/16')!), '10.1.0.0/16')
    assert.equal(parseSubnet('10.0.0.0/33'), undefined)
    assert.ok(overlap(subnetOf('10.0.0.0/8'), subnetOf('10.3.0.0/16')) && !overlap(subnetOf('10.0.0.0/16'), subnetOf('10.1.0.0/16')))
    assert.equal(reverseName(parseAddress('10.1.2.3')!), '3.2.1.10.in-addr.arpa')
    assert.match(reverseName(parseAddress('fd00::1')!), /^1(\.0){29}\.d\.f\.ip6\.arpa$/)
  })
})

describe('a subnet', () => {
  test('gives addresses in turn and rests those that come back', () => {
    const subnet = new SubnetAddresses({ subnet: '10.1.0.0/29', gateway: '10.1.0.1', auxiliary: { host: '10.1.0.3' } })
    assert.deepEqual([subnet.take(), subnet.take()], ['10.1.0.2/29', '10.1.0.4/29'])
    subnet.release(parseAddress('10.1.0.2')!)
    assert.deepEqual([subnet.take(), subnet.take(), subnet.take()], ['10.1.0.5/29', '10.1.0.6/29', '10.1.0.2/29'])
    assert.throws(() => subnet.take(), { code: 'exhausted' })
  })

  test('gives a certain address once, also outside its range', () => {
    const subnet = new SubnetAddresses({ subnet: '10.1.0.0/16', range: '10.1.9.0/30', gateway: '10.1.0.1' })
    assert.equal(subnet.claim(parseAddress('10.1.200.1')!), '10.1.200.1/16')
    assert.throws(() => subnet.claim(parseAddress('10.1.200.1')!), { code: 'forbidden', message: 'Address already in use' })
    assert.throws(() => subnet.claim(parseAddress('10.1.255.255')!), { message: 'Address already in use' })
    assert.throws(() => subnet.claim(parseAddress('10.2.0.1')!), { code: 'invalid' })
    // A range inside the subnet has neither network nor broadcast address.
    assert.deepEqual(Array.from({ length: 4 }, () => subnet.take()), ['10.1.9.0/16', '10.1.9.1/16', '10.1.9.2/16', '10.1.9.3/16'])
  })

  test('goes on behind what a former process gave', () => {
    const subnet = new SubnetAddresses({ subnet: '10.1.0.0/24', gateway: '10.1.0.1' })
    subnet.restore(parseAddress('10.1.0.7')!)
    assert.equal(subnet.take(), '10.1.0.8/24')
  })
})

describe('pools', () => {
  test('are Docker\'s 31, less what the machine routes', () => {
    const used = [subnetOf('172.17.0.0/16'), subnetOf('172.19.4.0/24')]
    const given: string[] = []
    for (;;) {
      try {
        const subnet = freeSubnet(defaultPools, 4, used)
        used.push(subnet)
        given.push(formatSubnet(subnet))
      } catch (error) {
        assert.equal((error as Error).message, 'all predefined address pools have been fully subnetted')
        break
      }
    }
    assert.equal(given.length, 29)
    assert.deepEqual([given[0], given[1], given.at(-1)], ['172.18.0.0/16', '172.20.0.0/16', '192.168.240.0/20'])
  })

  test('of IPv6 are an instance\'s own', () => {
    assert.notEqual(ulaPool('a').base, ulaPool('b').base)
    const first = freeSubnet([ulaPool('a')], 6, [])
    assert.match(formatSubnet(freeSubnet([ulaPool('a')], 6, [first])), /^fd[0-9a-f:]+:1::\/64$/)
  })

  test('are checked as they are asked for', () => {
    assert.deepEqual(settlePool({ subnet: '10.5.0.9/16' }, true), { subnet: '10.5.0.0/16', gateway: '10.5.0.1' })
    assert.deepEqual(settlePool({ subnet: '10.5.0.0/16', auxiliary: { a: '10.5.0.1' } }, true).gateway, '10.5.0.2')
    assert.throws(() => settlePool({ subnet: '10.5.0.0/16', gateway: '10.6.0.1' }, true), { code: 'invalid' })
    assert.throws(() => settlePool({ subnet: '10.5.0.0/16', range: '10.5.0.0/8' }, true), { code: 'invalid' })
    assert.throws(() => settlePool({ subnet: 'ten' }, true), { code: 'invalid' })
  })
})

test('names and MACs', () => {
  assert.throws(() => namesOf('Too Long!'), { code: 'invalid' })
  const [a, b] = [namesOf('a'), namesOf('b')]
  assert.ok(a.group !== b.group && a.doomedGroup !== a.group && a.group <= 0xffff_ffff)
  assert.equal(macFor('n', '10.0.0.2'), macFor('n', '10.0.0.2'))
  assert.notEqual(macFor('n', '10.0.0.2'), macFor('m', '10.0.0.2'))
  assert.equal(Number.parseInt(macFor('n', '').slice(0, 2), 16) & 3, 2)
})
