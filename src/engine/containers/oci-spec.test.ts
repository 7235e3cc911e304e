import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ContainerSpec } from '../engine.ts'
import { boundingSet } from './capabilities.ts'
import { mergeEnv, ociResources, ociSpec } from './oci-spec.ts'
import type { OciMount, OciProcess } from './oci-spec.ts'
import { defaultSeccomp } from './seccomp.ts'
import { signalNumber } from './signals.ts'

const ALL = (1n << 41n) - 1n

interface Spec {
  process: OciProcess
  mounts: OciMount[]
  linux: {
    namespaces: { type: string; path?: string }[]
    resources: { cpu?: object; memory?: object; pids?: object }
    seccomp?: object
    maskedPaths?: string[]
  }
}

function make(more: Partial<ContainerSpec> = {}): Spec {
  const user = { uid: 0, gid: 0, additionalGids: [], home: '/root' }
  return ociSpec({ id: 'x', image: 'i', network: { path: '/n' }, ...more }, {
    args: ['a'], env: ['A=1'], cwd: '/', user, cgroupsPath: '/g/x', cgroupV2: true, pidOf: (id) => id.length,
  }) as Spec
}

test('namespaces are made, joined or left out', () => {
  assert.deepEqual(make({ pid: { container: 'four' }, ipc: 'host' }).linux.namespaces, [
    { type: 'mount' }, { type: 'uts' }, { type: 'network', path: '/n' }, { type: 'pid', path: '/proc/4/ns/pid' }, { type: 'cgroup' },
  ])
  assert.equal(make({ network: 'host' }).linux.namespaces.some((n) => n.type === 'network'), false)
})

test('a mount of the caller takes the place of a default one; parents come first', () => {
  const { mounts } = make({ mounts: [
    { type: 'bind', source: '/s', target: '/data/deep', readOnly: true }, { type: 'tmpfs', target: '/data' }, { type: 'bind', source: '/shm', target: '/dev/shm/' },
  ] })
  const own = mounts.filter((o) => o.destination.startsWith('/data')).map((o) => o.destination)
  assert.deepEqual(own, ['/data', '/data/deep'])
  assert.deepEqual(mounts.filter((o) => o.destination === '/dev/shm').map((o) => o.source), ['/shm'])
  assert.deepEqual(mounts.find((o) => o.destination === '/data/deep')?.options, ['rbind', 'rprivate', 'ro'])
  assert.throws(() => make({ mounts: [{ type: 'tmpfs', target: 'relative' }] }), /must be absolute/)
})

test('environment: later wins, PATH and HOME are there', () => {
  assert.deepEqual(mergeEnv(['A=1', 'B=2'], ['A=3', 'B']), ['A=3'])
  assert.deepEqual(make({ tty: true, hostname: 'h' }).process.env.map((e) => e.split('=')[0]), ['A', 'TERM', 'HOSTNAME', 'PATH', 'HOME'])
})

test('privileged drops the fences', () => {
  const { linux } = make({ privileged: true })
  assert.deepEqual([linux.seccomp, linux.maskedPaths], [undefined, undefined])
  assert.ok(make().linux.seccomp !== undefined)
})

test('only resources that are set are sent', () => {
  const { resources } = make({ resources: { memoryBytes: 5, pidsMax: 6 } }).linux
  assert.deepEqual([resources.cpu, resources.memory, resources.pids], [undefined, { limit: 5, swap: 5 }, { limit: 6 }])
})

test('a memory limit is one of swap as well where that can be said', () => {
  assert.deepEqual(ociResources({ memoryBytes: 5 }, true), { memory: { limit: 5, swap: 5 } })
  assert.deepEqual(ociResources({ memoryBytes: 5, memorySwapBytes: 9 }, true), { memory: { limit: 5, swap: 9 } })
  assert.deepEqual(ociResources({ memoryBytes: 5 }, false), { memory: { limit: 5 } })
  assert.deepEqual(ociResources({ cpuShares: 2 }, true), { cpu: { shares: 2 } })
})

test('capabilities', () => {
  assert.equal(boundingSet({}, ALL).length, 14)
  assert.equal(boundingSet({ privileged: true }, ALL).length, 41)
  assert.deepEqual(boundingSet({ drop: ['ALL'], add: ['CAP_net_admin'] }, ALL), ['CAP_NET_ADMIN'])
  assert.equal(boundingSet({ add: ['ALL'], drop: ['SYS_ADMIN'] }, ALL).length, 40)
  assert.deepEqual(boundingSet({ drop: ['ALL'], add: ['NET_ADMIN'] }, 1n), [])
})

test('the filter opens with capabilities', () => {
  const allowed = (caps: string[], call: string): boolean =>
    defaultSeccomp(caps).syscalls.some((r) => r.action === 'SCMP_ACT_ALLOW' && r.args === undefined && r.names.includes(call))
  assert.deepEqual(['mount', 'unshare', 'bpf', 'reboot', 'init_module', 'keyctl', 'userfaultfd', 'io_uring_setup', 'chroot'].filter((c) => allowed([], c)), [])
  assert.ok(allowed(['CAP_SYS_ADMIN'], 'mount') && allowed(['CAP_SYS_CHROOT'], 'chroot') && allowed([], 'openat'))
  assert.equal(defaultSeccomp(['CAP_KILL']), defaultSeccomp(['CAP_KILL']))
})

test('signals', () => {
  assert.deepEqual(['9', 'KILL', 'sigterm', 'SIGRTMIN+3', 15].map(signalNumber), [9, 9, 15, 37, 15])
  for (const bad of ['', '0', '65', 'NOPE', 'SIGRTMIN-1']) assert.throws(() => signalNumber(bad), /invalid signal/)
})
