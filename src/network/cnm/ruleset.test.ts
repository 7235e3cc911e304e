import assert from 'node:assert/strict'
import { test } from 'node:test'
import { namesOf } from './names.ts'
import { bridgeSettings } from './options.ts'
import type { EndpointRecord, NetworkRecord } from './records.ts'
import { addNetwork, baseRuleset, deleteNetwork, networkChainsIn, portChanges, portElements } from './ruleset.ts'

const names = namesOf('test')
const network = (more: Partial<NetworkRecord> = {}): NetworkRecord => ({
  id: 'abcdef012345'.padEnd(64, '0'), name: 'n', pools: [{ subnet: '10.1.0.0/16', gateway: '10.1.0.1' }], internal: false, ipv6: false, options: {}, ...more,
} as NetworkRecord)
const settingsOf = (record: NetworkRecord) => bridgeSettings(record.options, record.id)
const endpoint = { ipv4: '10.1.0.2/16', ipv6: 'fd00::2/64' } as EndpointRecord

test('the operators\' chain is declared and never emptied', () => {
  const text = baseRuleset(names).join('\n')
  assert.match(text, /chain user \{ \}/)
  assert.doesNotMatch(text, /flush chain inet \S+ user/)
})

test('a network\'s elements and chains go as they came', () => {
  const record = network({ options: { 'com.docker.network.bridge.enable_icc': 'false' } })
  const added = addNetwork(names, record, settingsOf(record)).join('\n')
  assert.match(added, /"br-abcdef012345" \. "br-abcdef012345" : drop/)
  assert.match(added, /guard4 \{ 10\.1\.0\.0\/16 : goto guard-abcdef012345 \}/)
  assert.deepEqual(networkChainsIn(added), ['guard-abcdef012345', 'masq-abcdef012345'])
  const deleted = deleteNetwork(names, record, settingsOf(record)).join('\n')
  assert.match(deleted, /delete element inet gantry-cnm-test same \{ "br-abcdef012345" \. "br-abcdef012345" \}/)
  assert.match(deleted, /delete chain inet gantry-cnm-test masq-abcdef012345/)
})

test('modes decide what is guarded and what is translated', () => {
  const text = (options: Record<string, string>, more: Partial<NetworkRecord> = {}): string => {
    const record = network({ options, ...more })
    return addNetwork(names, record, settingsOf(record)).join('\n')
  }
  assert.match(text({}), /nfproto ipv4 masquerade/)
  assert.doesNotMatch(text({ 'com.docker.network.bridge.enable_ip_masquerade': 'false' }), /nfproto ipv4/)
  assert.match(text({ 'com.docker.network.host_ipv4': '192.0.2.7' }), /snat ip to 192\.0\.2\.7/)
  assert.doesNotMatch(text({ 'com.docker.network.bridge.gateway_mode_ipv4': 'routed' }), /add element \S+ \S+ guard4/)
  assert.doesNotMatch(text({}, { internal: true }), /masq4/)
  assert.throws(() => text({ 'com.docker.network.bridge.gateway_mode_ipv4': 'magic' }), { code: 'invalid', message: 'unknown gateway mode magic' })
  assert.throws(() => text({ 'com.docker.network.bridge.name': 'a b; drop' }), { code: 'invalid' })
})

test('ports are elements of maps, and only differences reach the kernel', () => {
  const ports = [{ containerPort: 80, protocol: 'tcp' as const, hostIP: '0.0.0.0', hostPort: 8080 }, { containerPort: 80, protocol: 'tcp' as const, hostIP: '::', hostPort: 8080 },
    { containerPort: 53, protocol: 'udp' as const, hostIP: '127.0.0.1', hostPort: 5353 }]
  const elements = portElements(ports, [{ containerPort: 80, protocol: 'tcp' }, { containerPort: 53, protocol: 'udp' }], { v4: { endpoint, mode: 'nat' } })
  assert.deepEqual([...elements].toSorted(), ['open4 10.1.0.2 . tcp . 80', 'open4 10.1.0.2 . udp . 53', 'ports4 tcp . 8080 : 10.1.0.2 . 80',
    'ports4-at 127.0.0.1 . udp . 5353 : 10.1.0.2 . 53'])
  assert.deepEqual(portChanges(names, elements, elements), [])
  const moved = portElements(ports, [], { v4: { endpoint: { ...endpoint, ipv4: '10.1.0.9/16' }, mode: 'nat' } })
  assert.deepEqual(portChanges(names, new Set(['ports4 tcp . 8080 : 10.1.0.2 . 80']), new Set([...moved].slice(0, 1))),
    ['delete element inet gantry-cnm-test ports4 { tcp . 8080 }', 'add element inet gantry-cnm-test ports4 { tcp . 8080 : 10.1.0.9 . 80 }'])
  const routed = portElements(ports, [{ containerPort: 80, protocol: 'tcp' }], { v4: { endpoint, mode: 'routed' } })
  assert.deepEqual([...routed], ['open4 10.1.0.2 . tcp . 80'])
})
