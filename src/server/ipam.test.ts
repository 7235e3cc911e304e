import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReason } from '../core/errors.ts'
import type { Machine, Service } from '../core/types/index.ts'
import { Ipam } from './ipam.ts'

let uids = 0
const service = (spec: Service['spec']): Service => ({ apiVersion: 'v1', kind: 'Service', metadata: { name: 's', uid: `u${++uids}` }, spec })
const machine = (podCIDR?: string): Machine => ({ apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name: 'm', uid: `u${++uids}` }, spec: podCIDR === undefined ? {} : { podCIDR } })
const invalid = (field: string) => (e: unknown): boolean => isReason(e, 'Invalid') && (e as { details: { causes: { field: string }[] } }).details.causes[0]!.field === field

test('addresses are unique, in range, and leave the reserved ones alone', () => {
  const ipam = new Ipam('10.43.0.0/26', '10.42.0.0/16')
  const seen = new Set<string>()
  for (let i = 0; i < 60; i++) {
    const s = service({ ports: [{ port: 80 }] })
    ipam.assign(s, undefined)
    assert.deepEqual(s.spec.clusterIPs, [s.spec.clusterIP])
    seen.add(s.spec.clusterIP!)
  }
  // 62 hosts less the API server's and the DNS address.
  assert.equal(seen.size, 60)
  assert.ok(!seen.has('10.43.0.1') && !seen.has('10.43.0.10'))
  assert.throws(() => ipam.assign(service({}), undefined), /every address/)
  const api = service({ clusterIP: ipam.apiAddress })
  ipam.assign(api, undefined)
  assert.equal(api.spec.clusterIP, '10.43.0.1')
})

test('an address that was asked for: out of range, taken, given back; headless and external names have none', () => {
  const ipam = new Ipam('10.43.0.0/16', '10.42.0.0/16')
  const first = service({ clusterIP: '10.43.7.7' })
  ipam.assign(first, undefined)
  assert.throws(() => ipam.assign(service({ clusterIP: '10.43.7.7' }), undefined), invalid('spec.clusterIPs'))
  assert.throws(() => ipam.assign(service({ clusterIP: '10.44.0.1' }), undefined), invalid('spec.clusterIPs'))
  assert.throws(() => ipam.assign(service({ clusterIP: '10.43.7' }), undefined), invalid('spec.clusterIPs'))
  ipam.release(first)
  ipam.assign(service({ clusterIP: '10.43.7.7' }), undefined)
  const headless = service({ clusterIP: 'None' })
  ipam.assign(headless, undefined)
  assert.deepEqual(headless.spec.clusterIPs, ['None'])
  const external = service({ type: 'ExternalName', externalName: 'x.example', clusterIP: '' })
  ipam.assign(external, undefined)
  assert.equal(external.spec.clusterIP, undefined)
})

test('node ports: made, kept over updates, refused when taken', () => {
  const ipam = new Ipam('10.43.0.0/16', '10.42.0.0/16')
  const s = service({ type: 'NodePort', ports: [{ port: 80 }, { port: 443, nodePort: 30443 }] })
  ipam.assign(s, undefined)
  const port = s.spec.ports![0]!.nodePort!
  assert.ok(port >= 30000 && port <= 32767)
  const next: Service = { ...s, spec: { type: 'NodePort', ports: [{ port: 80 }, { port: 443 }] } }
  ipam.assign(next, s)
  assert.deepEqual(next.spec.ports!.map(p => p.nodePort), [port, 30443])
  assert.equal(next.spec.clusterIP, s.spec.clusterIP)
  assert.throws(() => ipam.assign(service({ type: 'NodePort', ports: [{ port: 1, nodePort: 30443 }] }), undefined), invalid('spec.ports[0].nodePort'))
  assert.throws(() => ipam.assign(service({ type: 'NodePort', ports: [{ port: 1, nodePort: 80 }] }), undefined), invalid('spec.ports[0].nodePort'))
})

test('each Machine has a subnet of its own', () => {
  const ipam = new Ipam('10.43.0.0/16', '10.42.0.0/22')
  const machines = [machine('10.42.2.0/24'), machine(), machine(), machine()]
  for (const m of machines) ipam.assignSubnet(m)
  assert.deepEqual(machines.map(m => m.spec.podCIDR), ['10.42.2.0/24', '10.42.0.0/24', '10.42.1.0/24', '10.42.3.0/24'])
  assert.throws(() => ipam.assignSubnet(machine()), /every subnet/)
  assert.throws(() => ipam.assignSubnet(machine('10.42.2.0/24')), invalid('spec.podCIDR'))
  assert.throws(() => ipam.assignSubnet(machine('10.42.0.0/25')), invalid('spec.podCIDR'))
  ipam.releaseSubnet(machines[2]!)
  const again = machine()
  ipam.assignSubnet(again)
  assert.equal(again.spec.podCIDR, '10.42.1.0/24')
})
