import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Endpoint, EndpointSlice, Service } from '../core/types/index.ts'
import { gatewayOf } from './image-peers.ts'
import { peersOf } from './cluster-network.ts'
import { imagesStatus } from './registration.ts'
import { ServiceTable, serviceContribution } from './services.ts'

const service = (name: string, spec: Service['spec']): Service => ({ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'ns' }, spec })
const slice = (endpoints: Endpoint[], ports = [{ name: 'http', port: 8080, protocol: 'TCP' }]): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: 's', namespace: 'ns' }, addressType: 'IPv4', endpoints, ports,
})
const of = (s: Service, slices: EndpointSlice[]) => serviceContribution(s, slices, 'n1', 'cluster.local')

test('a cluster address: ready endpoints of the port of that name, affinity, node port, external addresses', () => {
  const c = of(service('web', {
    clusterIP: '10.43.0.5', externalIPs: ['203.0.113.1'], sessionAffinity: 'ClientIP',
    ports: [{ name: 'http', port: 80, nodePort: 30080 }, { name: 'other', port: 81 }],
  }), [slice([
    { addresses: ['10.42.0.2'], conditions: { ready: true } }, { addresses: ['10.42.0.3'], conditions: { ready: false } }, { addresses: ['10.42.1.2'] },
  ])])
  assert.deepEqual(c.rules, [
    {
      name: 'ns/web:http', clusterIP: '10.43.0.5', port: 80, protocol: 'tcp', nodePort: 30080, externalIPs: ['203.0.113.1'], affinitySeconds: 10_800,
      endpoints: [{ ip: '10.42.0.2', port: 8080 }, { ip: '10.42.1.2', port: 8080 }],
    },
    { name: 'ns/web:other', clusterIP: '10.43.0.5', port: 81, protocol: 'tcp', externalIPs: ['203.0.113.1'], affinitySeconds: 10_800, endpoints: [] },
  ])
  assert.deepEqual(c.a.get('web.ns.svc.cluster.local'), ['10.43.0.5'])
  assert.deepEqual(c.srv.get('_http._tcp.web.ns.svc.cluster.local'), [{ port: 80, target: 'web.ns.svc.cluster.local' }])
  assert.equal(c.ptr.get('10.43.0.5'), 'web.ns.svc.cluster.local')
})

test('traffic policy Local keeps to this node', () => {
  const c = of(service('web', { clusterIP: '10.43.0.5', internalTrafficPolicy: 'Local', ports: [{ name: 'http', port: 80 }] }),
    [slice([{ addresses: ['10.42.0.2'], nodeName: 'n1' }, { addresses: ['10.42.1.2'], nodeName: 'n2' }])])
  assert.deepEqual(c.rules[0]!.endpoints, [{ ip: '10.42.0.2', port: 8080 }])
})

test('headless: addresses, host names, SRV and reverse names of ready pods', () => {
  const c = of(service('db', { clusterIP: 'None' }), [slice([
    { addresses: ['10.42.0.2'], hostname: 'db-0', targetRef: { kind: 'Pod', namespace: 'ns', name: 'db-0' } },
    { addresses: ['10.42.0.3'] }, { addresses: ['10.42.0.4'], conditions: { ready: false } },
  ])])
  assert.deepEqual(c.rules, [])
  assert.deepEqual(c.a.get('db.ns.svc.cluster.local'), ['10.42.0.2', '10.42.0.3'])
  assert.deepEqual(c.a.get('db-0.db.ns.svc.cluster.local'), ['10.42.0.2'])
  assert.deepEqual(c.a.get('10-42-0-2.ns.pod.cluster.local'), ['10.42.0.2'])
  assert.deepEqual(c.srv.get('_http._tcp.db.ns.svc.cluster.local')?.map(s => s.target),
    ['db-0.db.ns.svc.cluster.local', '10-42-0-3.db.ns.svc.cluster.local'])
  assert.equal(c.ptr.get('10.42.0.2'), 'db-0.db.ns.svc.cluster.local')
})

test('an external name is an alias', () => {
  const c = of(service('ext', { type: 'ExternalName', externalName: 'Example.ORG.' }), [])
  assert.deepEqual([...c.cname], [['ext.ns.svc.cluster.local', 'example.org']])
})

test('the table: what one Service gave goes with it, what others gave stays', () => {
  const table = new ServiceTable()
  const endpoints = [slice([{ addresses: ['10.42.0.2'], targetRef: { kind: 'Pod', namespace: 'ns', name: 'p' } }])]
  table.set('ns/a', of(service('a', { clusterIP: '10.43.0.1', ports: [{ name: 'http', port: 80 }] }), endpoints))
  table.set('ns/b', of(service('b', { clusterIP: '10.43.0.2', ports: [{ name: 'http', port: 80 }] }), endpoints))
  assert.equal(table.rules().length, 2)
  table.set('ns/a', undefined)
  assert.deepEqual([...table.dns.a.keys()].sort(), ['10-42-0-2.ns.pod.cluster.local', 'b.ns.svc.cluster.local'])
  assert.deepEqual([...table.dns.ptr.keys()], ['10.43.0.2'])
  table.set('ns/b', undefined)
  assert.equal(table.dns.a.size + table.dns.srv.size + table.dns.ptr.size + table.rules().length, 0)
})

test('peers are machines with an address and pods\' addresses, without this one', () => {
  const machine = (name: string, address?: string, podCIDR?: string) => ({
    apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name }, spec: { ...(podCIDR && { podCIDR }) }, status: { ...(address && { address }) },
  })
  assert.deepEqual(peersOf([machine('n1', '192.0.2.1', '10.42.0.0/24'), machine('n2', '192.0.2.2', '10.42.1.0/24'), machine('n3', '192.0.2.3'), machine('n4')], 'n1'),
    [{ name: 'n2', address: '192.0.2.2', podCIDR: '10.42.1.0/24' }])
  assert.equal(gatewayOf('10.42.255.0/24'), '10.42.255.1')
  assert.equal(gatewayOf('172.16.0.0/16'), '172.16.0.1')
})

test('the images of a node are listed by tag and by digest', () => {
  const image = { id: 'sha256:c', sizeBytes: 5, createdAtMs: 0, labels: {}, origin: 'local' as const }
  assert.deepEqual(imagesStatus([
    { ...image, names: ['reg:5000/a/b:1', 'reg:5000/a/b:2'], digests: ['sha256:x', 'sha256:y'] }, { ...image, names: [], digests: [] },
  ]), [{ names: ['reg:5000/a/b:1', 'reg:5000/a/b:2', 'reg:5000/a/b@sha256:x', 'reg:5000/a/b@sha256:y'], sizeBytes: 5 }])
})
