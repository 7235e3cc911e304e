import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as kinds from './kinds.ts'
import { podStatus } from './pod-status.ts'
import { age, shortDuration, tableCells, tableColumns } from './table.ts'
import type { ApiObject, Container, ContainerStatus, Pod, PodStatus } from './types/index.ts'

const now = new Date('2026-01-10T00:00:00Z')
const meta = (name: string, extra: object = {}): ApiObject['metadata'] =>
  ({ name, namespace: 'n', creationTimestamp: '2026-01-07T00:00:00Z', ...extra })

test('durations', () => {
  const s = 1000
  const cases: [number, string][] = [
    [-5 * s, '<invalid>'], [-1, '0s'], [0, '0s'], [119 * s, '119s'], [120 * s, '2m'], [330 * s, '5m30s'], [600 * s, '10m'],
      [3599 * s, '59m'], [10_800 * s, '3h'],
    [3.5 * 3600 * s, '3h30m'], [47 * 3600 * s, '47h'], [48 * 3600 * s, '2d'], [76 * 3600 * s, '3d4h'], [9 * 86_400 * s, '9d'],
      [800 * 86_400 * s, '2y70d'], [3000 * 86_400 * s, '8y'],
  ]
  for (const [ms, text] of cases) assert.equal(shortDuration(ms), text)
  assert.equal(age(undefined, now), '<unknown>')
  assert.equal(age('2026-01-09T23:59:00Z', now), '60s')
})

const main: Container[] = [{ name: 'a', image: 'x' }, { name: 'b', image: 'y' }]
const status = (name: string, state: ContainerStatus['state'], ready = false,
  extra: Partial<ContainerStatus> = {}): ContainerStatus =>
  ({ name, ready, restartCount: 0, image: '', imageID: '', ...(state && { state }), ...extra })
const pod = (s: PodStatus, extra: { metadata?: object; spec?: object } = {}): Pod =>
  ({ apiVersion: 'v1', kind: 'Pod', metadata: meta('p', extra.metadata), spec: { containers: main, ...extra.spec }, status: s })
const running = { running: {} }
const done = (exitCode: number, reason?: string) => ({ terminated: { exitCode, ...(reason !== undefined && { reason }) } })

test("a Pod's status in one word", () => {
  const inits = { spec: { initContainers: [{ name: 'i', image: 'x' }, { name: 's', image: 'x', restartPolicy: 'Always' }] } }
  const cases: [Pod, string, string][] = [
    [pod({ phase: 'Pending' }), 'Pending', '0/2'],
    [pod({ phase: 'Failed', reason: 'Evicted' }), 'Evicted', '0/2'],
    [pod({ phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' }] }),
      'SchedulingGated', '0/2'],
    [pod({ phase: 'Running', containerStatuses: [status('a', running, true), status('b', running, true)] }), 'Running', '2/2'],
    [pod({ phase: 'Running', containerStatuses: [status('a', { waiting: { reason: 'CrashLoopBackOff' } }),
      status('b', running, true)] }), 'CrashLoopBackOff', '1/2'],
    [pod({ phase: 'Running', containerStatuses: [status('a', done(3)), status('b', running, true)] }), 'ExitCode:3', '1/2'],
    [pod({ phase: 'Failed', containerStatuses: [status('a', { terminated: { exitCode: 137, signal: 9 } }),
      status('b', done(1, 'Error'))] }), 'Signal:9', '0/2'],
    [pod({ phase: 'Running', containerStatuses: [status('a', done(0, 'Completed')), status('b', running, true)] }), 'NotReady',
      '1/2'],
    [pod({ phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }],
      containerStatuses: [status('a', done(0, 'Completed')), status('b', running, true)] }), 'Running', '1/2'],
    [pod({ phase: 'Running' }, { metadata: { deletionTimestamp: 'x' } }), 'Terminating', '0/2'],
    [pod({ phase: 'Running', reason: 'NodeLost' }, { metadata: { deletionTimestamp: 'x' } }), 'Unknown', '0/2'],
    [pod({ phase: 'Succeeded', containerStatuses: [status('a', done(0, 'Completed')), status('b', done(0, 'Completed'))] },
      { metadata: { deletionTimestamp: 'x' } }), 'Completed', '0/2'],
    [pod({ phase: 'Pending', initContainerStatuses: [status('i', running)] }, inits), 'Init:0/2', '0/3'],
    [pod({ phase: 'Pending', initContainerStatuses: [status('i', done(2))] }, inits), 'Init:ExitCode:2', '0/3'],
    [pod({ phase: 'Pending', initContainerStatuses: [status('i', { waiting: { reason: 'ErrImagePull' } })] }, inits),
      'Init:ErrImagePull', '0/3'],
    [pod({
      phase: 'Running', initContainerStatuses: [status('i', done(0)), status('s', running, true, { started: true })],
      containerStatuses: [status('a', running, true), status('b', running, true)],
    }, inits), 'Running', '3/3'],
  ]
  for (const [p, reason, ready] of cases) {
    const s = podStatus(p)
    assert.deepEqual([s.reason, `${s.ready}/${s.total}`], [reason, ready], JSON.stringify(p.status))
  }
})

test('rows fit their columns, also of empty objects', () => {
  for (const kind of [...kinds.coreKinds, kinds.composeProjects]) {
    const object = {
      apiVersion: kind.apiVersion, kind: kind.kind, metadata: meta('x'),
        spec: { containers: [], selector: {}, template: { spec: { containers: [] } }, backend: {}, services: {} },
      roleRef: { kind: 'Role', name: 'r' }, involvedObject: {}, addressType: 'IPv4',
    } as unknown as ApiObject
    const columns = tableColumns(kind)
    const cells = tableCells(kind, object, now)
    assert.equal(cells.length, columns.length, kind.kind)
    columns.forEach((c, i) => { assert.equal(typeof cells[i], c.type === 'integer' ? 'number' : 'string',
      `${kind.kind} ${c.name}`) })
  }
})

test('rows', () => {
  const row = (kind: kinds.Kind, object: object): unknown[] => tableCells(kind, object as ApiObject, now)
  assert.deepEqual(row(kinds.pods, pod({
    phase: 'Running', podIP: '10.0.0.1', containerStatuses: [status('a', running, true,
      { restartCount: 3, lastState: { terminated: { exitCode: 1, finishedAt: '2026-01-09T23:58:00Z' } } }),
      status('b', running, true)],
  }, { spec: { nodeName: 'n1' } })), ['p', '2/2', 'Running', '3 (2m ago)', '3d', '10.0.0.1', 'n1', '<none>', '<none>'])
  assert.deepEqual(row(kinds.services, { metadata: meta('s'),
    spec: { type: 'LoadBalancer', clusterIP: '10.43.0.1', ports: [{ port: 80, nodePort: 30000, protocol: 'TCP' },
    { port: 53, protocol: 'UDP' }], selector: { a: 'b' } } }),
    ['s', 'LoadBalancer', '10.43.0.1', '<pending>', '80:30000/TCP,53/UDP', '3d', 'a=b'])
  assert.deepEqual(row(kinds.nodes, {
    metadata: { ...meta('n1'), labels: { 'node-role.kubernetes.io/worker': '', 'node-role.kubernetes.io/edge': '' } },
      spec: { unschedulable: true },
    status: { conditions: [{ type: 'Ready', status: 'True' }], addresses: [{ type: 'InternalIP', address: '1.2.3.4' }],
      nodeInfo: { kubeletVersion: 'v1', osImage: 'Debian' } },
  }), ['n1', 'Ready,SchedulingDisabled', 'edge,worker', '3d', 'v1', '1.2.3.4', '<none>', 'Debian', '<unknown>', '<unknown>'])
  assert.deepEqual(row(kinds.endpoints, { metadata: meta('e'),
    subsets: [{ addresses: ['1', '2', '3', '4', '5'].map(ip => ({ ip })), ports: [{ port: 80 }] }] }),
    ['e', '1:80,2:80,3:80 + 2 more...', '3d'])
  assert.deepEqual(row(kinds.routes, { metadata: meta('r'), spec: { host: 'a.b', path: '/x',
    backend: { service: { name: 's', port: 'http' } } }, status: { url: 'http://a.b/x' } }),
    ['r', 'a.b', '/x', 'service/s:http', 'http://a.b/x', '3d'])
  assert.deepEqual(row(kinds.routes, { metadata: meta('r'), spec: { tcpPort: 5000,
    backend: { selector: { matchLabels: { a: 'b' } }, port: 80 } } }), ['r', '*', '5000', 'a=b:80', '<none>', '3d'])
  assert.deepEqual(row(kinds.machines, { metadata: meta('m'),
    spec: { driver: 'namespace', roles: ['node', 'router'], podCIDR: '10.42.1.0/24' },
    status: { address: '1.1.1.1', phase: 'Running' } }),
    ['m', 'namespace', 'node,router', '1.1.1.1', '10.42.1.0/24', 'Running', '3d'])
  assert.deepEqual(row(kinds.events, {
    metadata: meta('e'), involvedObject: { kind: 'Pod', name: 'p', fieldPath: 'spec' }, reason: 'Pulled', message: 'done\n',
      type: 'Normal', source: { component: 'agent', host: 'n1' },
    firstTimestamp: '2026-01-09T00:00:00Z', lastTimestamp: '2026-01-09T23:59:30Z', count: 4,
  }), ['30s', 'Normal', 'Pulled', 'pod/p', 'done', 'spec', 'agent, n1', '24h', 4, 'e'])
  assert.deepEqual(row(kinds.roleBindings, { metadata: meta('b'), roleRef: { kind: 'Role', name: 'r' },
    subjects: [{ kind: 'User', name: 'u' }, { kind: 'ServiceAccount', name: 's', namespace: 'n' }] }),
    ['b', 'Role/r', '3d', 'u', '', 'n/s'])
})
