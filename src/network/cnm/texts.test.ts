import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import { hostsText, machineResolvConf, parseResolvConf, resolvConfText } from './texts.ts'

const machine = (text: string): { text: string; parsed: ReturnType<typeof parseResolvConf> } => ({ text, parsed: parseResolvConf(text) })
const nothing = { dns: [], dnsSearch: [], dnsOptions: [] }

describe('resolv.conf', () => {
  const stub = machine('nameserver 127.0.0.53\nnameserver ::1\nsearch corp.example\noptions edns0\n')
  test('of a user network names the embedded server and keeps the search list', () => {
    assert.equal(resolvConfText(stub, nothing, 'embedded', false), 'nameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n')
    assert.equal(resolvConfText(stub, { dns: ['9.9.9.9'], dnsSearch: ['.'], dnsOptions: ['ndots:3'] }, 'embedded', false), 'nameserver 127.0.0.11\noptions ndots:3\n')
  })
  test('of the default network has no server that only the machine can reach', () => {
    assert.equal(resolvConfText(stub, nothing, 'plain', false), 'nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch corp.example\noptions edns0\n')
    assert.equal(resolvConfText(machine('nameserver 10.0.0.53\nnameserver fd00::53\n'), nothing, 'plain', false), 'nameserver 10.0.0.53\n')
    assert.equal(resolvConfText(machine('nameserver 10.0.0.53\nnameserver fd00::53\n'), nothing, 'plain', true), 'nameserver 10.0.0.53\nnameserver fd00::53\n')
  })
  test('of the machine itself is a copy', () => {
    assert.equal(resolvConfText(stub, nothing, 'host', false), stub.text)
  })
  test('behind systemd-resolved is the real one', () => {
    const files: Record<string, string> = { '/etc/resolv.conf': 'nameserver 127.0.0.53\n', '/run/systemd/resolve/resolv.conf': 'nameserver 10.9.9.9\n' }
    assert.deepEqual(machineResolvConf((path) => files[path]).parsed.nameservers, ['10.9.9.9'])
  })
})

test('hosts: fixed lines, extra ones, links, then the container itself', () => {
  const record = { mode: 'bridged', hostname: 'web', domainname: 'lan', extraHosts: ['up:host-gateway', 'six=[fd00::1]'], hostsLinks: [{ names: ['db', 'mysql'], ip: '172.17.0.9' }] }
  const text = hostsText(record as unknown as SandboxRecord, [{ ipv4: '172.17.0.2/16', ipv6: '' } as EndpointRecord], '172.17.0.1')
  assert.deepEqual(text.split('\n').slice(6), ['172.17.0.1\tup', 'fd00::1\tsix', '172.17.0.9\tdb mysql', '172.17.0.2\tweb.lan web', ''])
  assert.equal(text.split('\n')[0], '127.0.0.1\tlocalhost')
})
