import assert from 'node:assert/strict'
import { test } from 'node:test'
import { overlayChanges, peerTable } from './overlay.ts'

const context = { vxlan: 'gvx-t', podCIDR: '10.42.1.0/24', clusterCIDR: '10.42.0.0/16', gateway: '10.42.1.1' }
const peer = (number: number, address: string) => ({ name: `m${number}`, address, podCIDR: `10.42.${number}.0/24` })

test('a peer is a forwarding entry, a neighbour and a route', () => {
  const { table } = peerTable([peer(1, '192.0.2.1'), peer(2, '192.0.2.2')], context)
  assert.deepEqual([...table], [['10.42.2.0/24', '192.0.2.2']])
  const changes = overlayChanges(new Map(), table, context)
  assert.deepEqual(changes, {
    bridge: ['fdb replace 0e:58:0a:2a:02:00 dev gvx-t dst 192.0.2.2 self permanent'],
    ip: ['neigh replace 10.42.2.0 lladdr 0e:58:0a:2a:02:00 dev gvx-t nud permanent', 'route replace 10.42.2.0/24 via 10.42.2.0 dev gvx-t onlink src 10.42.1.1'],
  })
  assert.deepEqual(overlayChanges(table, table, context), { bridge: [], ip: [] })
})

test('a peer with a new address keeps its route; one that went loses all', () => {
  const { table: before } = peerTable([peer(2, '192.0.2.2'), peer(3, '192.0.2.3')], context)
  const { table: after } = peerTable([peer(2, '192.0.2.22')], context)
  const { bridge, ip } = overlayChanges(before, after, context)
  assert.deepEqual(bridge, ['fdb del 0e:58:0a:2a:03:00 dev gvx-t dst 192.0.2.3 self', 'fdb replace 0e:58:0a:2a:02:00 dev gvx-t dst 192.0.2.22 self permanent'])
  assert.deepEqual(ip, ['route del 10.42.3.0/24 dev gvx-t', 'neigh del 10.42.3.0 dev gvx-t'])
})

test('bad peers are refused by name', () => {
  assert.match(peerTable([{ ...peer(2, '192.0.2.2'), podCIDR: '10.99.0.0/24' }], context).faults[0]!.message, /peer m2: 10\.99\.0\.0\/24 is not within/)
  assert.match(peerTable([peer(2, 'nonsense')], context).faults[0]!.message, /"nonsense" is not an IPv4 address/)
  assert.match(peerTable([peer(2, '192.0.2.2'), { ...peer(2, '192.0.2.3'), name: 'twin' }], context).faults[0]!.message, /peer twin: .* belongs to 192\.0\.2\.2/)
})
