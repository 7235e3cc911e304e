import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Plugin, Plugins } from '../../plugins/index.ts'
import type { EndpointRecord, NetworkRecord } from './records.ts'
import { RemoteIpam, RemoteNetworks } from './remote.ts'

const network = { id: 'n', driver: 'd', pools: [], options: {} } as unknown as NetworkRecord
const newEndpoint = (): EndpointRecord => ({ id: 'e', ipv4: '', ipv6: '', mac: '', spec: {} }) as unknown as EndpointRecord

function answering(answers: Record<string, object>): { plugins: Plugins; calls: string[] } {
  const calls: string[] = []
  const call = async (method: string): Promise<object> => {
    calls.push(method)
    return answers[method] ?? {}
  }
  return { plugins: { get: async () => ({ call }) as unknown as Plugin } as unknown as Plugins, calls }
}

const INJECTED = '10.9.0.2/24\nnetns exec x touch /tmp/x'

test('what a network plugin answers is taken over', async () => {
  const { plugins } = answering({
    'NetworkDriver.CreateEndpoint': { Interface: { Address: '10.9.0.2/24', MacAddress: '02:00:00:00:00:01' } },
    'NetworkDriver.Join': {
      InterfaceName: { SrcName: 'tap0', DstPrefix: 'net' }, Gateway: '10.9.0.1',
      StaticRoutes: [{ Destination: '10.8.0.0/16', RouteType: 0, NextHop: '10.9.0.9' }, { Destination: '10.7.0.0/16', RouteType: 1 }],
    },
  })
  const remote = new RemoteNetworks(plugins)
  const endpoint = newEndpoint()
  await remote.createEndpoint(network, endpoint)
  assert.deepEqual([endpoint.ipv4, endpoint.ipv6, endpoint.mac], ['10.9.0.2/24', '', '02:00:00:00:00:01'])
  assert.deepEqual(await remote.join(network, endpoint, '/x'), {
    source: 'tap0', prefix: 'net', name: undefined, gateway: '10.9.0.1', gatewayV6: '',
    routes: [{ destination: '10.8.0.0/16', nextHop: '10.9.0.9' }, { destination: '10.7.0.0/16' }],
  })
})

test('what a network plugin answers cannot be more than an address or a name, and is undone then', async () => {
  for (const Interface of [{ Address: INJECTED }, { AddressIPv6: INJECTED }, { MacAddress: `02:00:00:00:00:01\n` }, { Address: 7 }]) {
    const { plugins, calls } = answering({ 'NetworkDriver.CreateEndpoint': { Interface } })
    await assert.rejects(new RemoteNetworks(plugins).createEndpoint(network, newEndpoint()), /which is no/)
    assert.deepEqual(calls, ['NetworkDriver.CreateEndpoint', 'NetworkDriver.DeleteEndpoint'])
  }
  for (const answer of [
    { InterfaceName: { SrcName: 'a\nb' } }, { InterfaceName: { DstPrefix: 'e th' } }, { InterfaceName: { DstName: '-x' } }, { Gateway: INJECTED }, { GatewayIPv6: INJECTED },
    { StaticRoutes: [{ Destination: INJECTED, RouteType: 1 }] }, { StaticRoutes: [{ Destination: '10.0.0.0/8', RouteType: 0, NextHop: INJECTED }] },
  ]) {
    const { plugins, calls } = answering({ 'NetworkDriver.Join': answer })
    await assert.rejects(new RemoteNetworks(plugins).join(network, newEndpoint(), '/x'), { name: 'CnmError' }, JSON.stringify(answer))
    assert.deepEqual(calls, ['NetworkDriver.Join', 'NetworkDriver.Leave'])
  }
})

test('what an IPAM plugin answers is a subnet and addresses', async () => {
  const good = answering({ 'IpamDriver.RequestPool': { PoolID: 'p', Pool: '10.9.0.0/24' }, 'IpamDriver.RequestAddress': { Address: '10.9.0.1/24' } })
  assert.equal((await new RemoteIpam(good.plugins).requestPool('d', {}, {}, false)).gateway, '10.9.0.1')
  const badPool = answering({ 'IpamDriver.RequestPool': { PoolID: 'p', Pool: INJECTED } })
  await assert.rejects(new RemoteIpam(badPool.plugins).requestPool('d', {}, {}, false), /no subnet/)
  const badAddress = answering({ 'IpamDriver.RequestPool': { PoolID: 'p', Pool: '10.9.0.0/24' }, 'IpamDriver.RequestAddress': { Address: INJECTED } })
  await assert.rejects(new RemoteIpam(badAddress.plugins).requestPool('d', {}, {}, false), /no IP address/)
  await assert.rejects(new RemoteIpam(badAddress.plugins).requestAddress('d', { subnet: '10.9.0.0/24' }, undefined, undefined), /no IP address/)
})
