import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostAddress, overlaps, underlayOf } from './underlay.ts'

test('networks overlap if they share an address', () => {
  assert.ok(overlaps('10.42.0.0/16', '10.42.7.0/24'))
  assert.ok(overlaps('10.42.7.1/32', '10.42.0.0/16'))
  assert.ok(overlaps('0.0.0.0/0', '192.168.1.0/24'))
  assert.ok(!overlaps('10.42.0.0/16', '10.43.0.0/16'))
  assert.ok(!overlaps('128.0.0.0/1', '127.0.0.1/32'))
})

test('addresses of hosts', () => {
  const u = underlayOf('ab12', '10.190.0.0/24')
  assert.equal(hostAddress(u, 1), '10.190.0.1')
  assert.equal(hostAddress(u, 13), '10.190.0.13')
  assert.throws(() => hostAddress(u, 255))
})
