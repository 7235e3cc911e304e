import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { Type } from '../../dns/wire.ts'
import { Directory } from './directory.ts'

const member = (sandboxId: string, network: string, ipv4: string, names: string[], links: [string, string][] = [], ipv6 = '') => (
  { endpointId: `${sandboxId}-${network}`, sandboxId, ipv4, ipv6, names, links: new Map(links) })

describe('names', () => {
  let directory: Directory
  const addresses = (asker: string, name: string, type: number = Type.A): string[] | 'unknown' => {
    const answer = directory.lookup(asker, name, type)
    return answer === 'unknown' ? answer : answer.records.map((record) => [...record.subarray(12)].join('.'))
  }

  beforeEach(() => {
    directory = new Directory()
    directory.put('n1', 'Front', member('web', 'n1', '10.1.0.2/16', ['web', 'www'], [['store', 'db']]))
    directory.put('n1', 'Front', member('db', 'n1', '10.1.0.3/16', ['DB', 'www'], [], 'fd00::3/64'))
    directory.put('n2', 'back', member('db', 'n2', '10.2.0.3/16', ['db']))
    directory.put('n2', 'back', member('batch', 'n2', '10.2.0.4/16', ['batch']))
  })

  test('mean something to those who share a network', () => {
    assert.deepEqual(addresses('web', 'db'), ['10.1.0.3'])
    assert.deepEqual(addresses('batch', 'db'), ['10.2.0.3'])
    assert.equal(addresses('web', 'batch'), 'unknown')
    assert.equal(addresses('nobody', 'db'), 'unknown')
    assert.deepEqual(addresses('db', 'db.back'), ['10.2.0.3'])
    assert.deepEqual(addresses('web', 'db.front'), ['10.1.0.3'])
    assert.equal(addresses('web', 'db.back'), 'unknown')
  })

  test('may be shared, may be private, and are known in every type', () => {
    assert.deepEqual(addresses('web', 'www'), ['10.1.0.2', '10.1.0.3'])
    assert.deepEqual(addresses('web', 'store'), ['10.1.0.3'])
    assert.equal(addresses('db', 'store'), 'unknown')
    assert.deepEqual(addresses('web', 'web', Type.AAAA), [])
    assert.equal(addresses('web', 'db', Type.AAAA).length, 1)
    assert.deepEqual(addresses('web', 'db', Type.SRV), [])
  })

  test('are found by address', () => {
    const answer = directory.lookup('web', '3.0.1.10.in-addr.arpa', Type.PTR)
    assert.ok(answer !== 'unknown' && answer.records[0]!.includes('\x02DB\x05front'))
    assert.equal(directory.lookup('web', '4.0.2.10.in-addr.arpa', Type.PTR), 'unknown')
  })

  test('go with their endpoint', () => {
    const { version } = directory
    directory.remove('n1', 'db-n1')
    assert.ok(directory.version > version)
    assert.deepEqual(addresses('web', 'www'), ['10.1.0.2'])
    assert.equal(addresses('web', 'db'), 'unknown')
    assert.equal(addresses('web', 'store'), 'unknown')
    assert.deepEqual(addresses('db', 'batch'), ['10.2.0.4'])
  })
})
