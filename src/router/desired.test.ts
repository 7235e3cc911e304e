import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EndpointSlice, Pod, Route, Service } from '../core/types/index.ts'
import { desiredOf, type Lookup } from './desired.ts'

const route = (name: string, spec: Route['spec'], created = '2026-01-01T00:00:00Z'): Route =>
  ({ apiVersion: 'gantry.dev/v1', kind: 'Route', metadata: { name, namespace: 'ns', creationTimestamp: created }, spec })
const service: Service = {
  apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'ns' },
  spec: { ports: [{ name: 'http', port: 80, targetPort: 'w' }, { name: 'admin', port: 81 }] },
}
const slice = (addresses: [string, boolean][]): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: 'web-1', namespace: 'ns' }, addressType: 'IPv4',
  ports: [{ name: 'http', port: 8080 }], endpoints: addresses.map(([ip, ready]) => ({ addresses: [ip], conditions: { ready } })),
})
const pod = (name: string, ip: string, ready: boolean, gone = false): Pod => ({
  apiVersion: 'v1', kind: 'Pod', spec: { containers: [] },
  metadata: { name, namespace: 'ns', labels: { app: 'x' }, ...(gone && { deletionTimestamp: '2026-01-01T00:00:00Z' }) },
  status: { podIP: ip, conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
})
const lookup: Lookup = {
  service: key => key === 'ns/web' ? service : undefined,
  slices: () => [slice([['10.0.0.2', true], ['10.0.0.1', true], ['10.0.0.3', false]])],
  pods: namespace => namespace === 'ns' ? [pod('a', '10.0.1.1', true), pod('b', '10.0.1.2', false), pod('c', '10.0.1.3', true, true)] : [],
}
const options = { domain: 'd.test', reservedPorts: new Set([6443]) }

test('a service\'s port leads to the ready endpoints, by number and by name', () => {
  for (const port of [80, 'http']) {
    const { ways } = desiredOf([route('r', { host: 'Web', path: '/shop/', backend: { service: { name: 'web', port } } })], lookup, options)
    assert.deepEqual(ways, [{ route: 'ns/r', match: 'web.d.test/shop/', sticky: false, targets: [{ ip: '10.0.0.1', port: 8080 }, { ip: '10.0.0.2', port: 8080 }] }])
  }
  assert.deepEqual(desiredOf([route('r', { host: 'a.b', backend: { service: { name: 'web', port: 99 } } })], lookup, options).ways[0]!.targets, [])
})

test('a selector leads to ready pods that are not going', () => {
  const { ways } = desiredOf([route('r', { tcpPort: 5432, backend: { selector: { matchLabels: { app: 'x' } }, port: 7 } })], lookup, options)
  assert.deepEqual(ways, [{ route: 'ns/r', tcpPort: 5432, sticky: false, targets: [{ ip: '10.0.1.1', port: 7 }] }])
})

test('what is no IPv4 address never reaches the proxy', () => {
  const bad = slice([['10.0.0.9', true], ['a\nprogram x', true], ['1.2.3.4;show info', true], ['fd00::1', true]])
  const { ways } = desiredOf([route('r', { host: 'a.b', backend: { service: { name: 'web', port: 80 } } })], { ...lookup, slices: () => [bad] }, options)
  assert.deepEqual(ways[0]!.targets, [{ ip: '10.0.0.9', port: 8080 }])
})

test('the older of two routes holds a host or a port; the router\'s own ports are nobody\'s', () => {
  const backend = { service: { name: 'web', port: 80 } }
  const { ways, refusals } = desiredOf([
    route('young', { host: 'a.b', backend }, '2026-01-02T00:00:00Z'), route('old', { host: 'A.b', backend }),
    route('deep', { host: 'a.b', path: '/x', backend }), route('t2', { tcpPort: 1, backend }, '2026-01-03T00:00:00Z'), route('t1', { tcpPort: 1, backend }),
    route('api', { tcpPort: 6443, backend }),
  ], lookup, options)
  assert.deepEqual(ways.map(w => w.route).sort(), ['ns/deep', 'ns/old', 'ns/t1'])
  assert.deepEqual(refusals.map(r => [r.route, r.reason]).sort(), [['ns/api', 'PortConflict'], ['ns/t2', 'PortConflict'], ['ns/young', 'HostConflict']])
})
