import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ContainerSpec } from '../engine.ts'
import { boundingSet } from './capabilities.ts'
import type { OciMount } from './oci-mounts.ts'
import { ociResources, supportedResources } from './oci-resources.ts'
import type { SupportedResources } from './oci-resources.ts'
import { mergeEnv, ociSpec } from './oci-spec.ts'
import type { OciProcess } from './oci-spec.ts'
import { parseRule, wantedDevices } from './devices.ts'
import type { SeccompProfile } from './seccomp-profile.ts'
import { customSeccomp, defaultSeccomp, resolveProfile } from './seccomp.ts'
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
  assert.deepEqual([linux.seccomp, linux.maskedPaths], [undefined, []])
  assert.ok(make().linux.seccomp !== undefined)
})

test('only resources that are set are sent', () => {
  const { resources } = make({ resources: { memoryBytes: 5, pidsMax: 6 } }).linux
  const { memory } = ociResources({ memoryBytes: 5 }, supportedResources()) as { memory: object }
  assert.deepEqual([resources.cpu, resources.memory, resources.pids], [undefined, memory, { limit: 6 }])
})

const everything: SupportedResources = {
  cgroupVersion: 2, memory: true, swap: true, memoryReservation: true, memorySwappiness: true, oomKillDisable: true, cpuShares: true, cpuQuota: true,
  cpuRealtime: true, cpuset: true, pids: true, blkioWeight: true, blkioWeightDevice: true, blkioThrottle: true,
}

test('a memory limit is one of swap as well where that can be said', () => {
  assert.deepEqual(ociResources({ memoryBytes: 5 }, everything), { memory: { limit: 5, swap: 5 } })
  assert.deepEqual(ociResources({ memoryBytes: 5, memorySwapBytes: 9 }, everything), { memory: { limit: 5, swap: 9 } })
  assert.deepEqual(ociResources({ memoryBytes: 5 }, { ...everything, cgroupVersion: 1 }), { memory: { limit: 5 } })
  assert.deepEqual(ociResources({ cpuShares: 2 }, everything), { cpu: { shares: 2 } })
})

test('limits the kernel lacks are left out, the others are named as runtimes name them', () => {
  const wish = {
    memoryBytes: 5, memorySwapBytes: 9, memorySwappiness: 0, oomKillDisable: true, cpusetCpus: '0', pidsMax: 0, blkioWeight: 10,
    blkioReadBps: [{ path: '/dev/null', rate: 7 }], blkioWriteIops: [],
  }
  assert.deepEqual(ociResources(wish, everything), {
    cpu: { cpus: '0' }, memory: { limit: 5, swap: 9, swappiness: 0, disableOOMKiller: true }, pids: { limit: -1 },
    blockIO: { weight: 10, throttleReadBpsDevice: [{ major: 1, minor: 3, rate: 7 }] },
  })
  const poor = { ...everything, swap: false, memorySwappiness: false, oomKillDisable: false, blkioWeight: false, blkioThrottle: false, cpuset: false }
  assert.deepEqual(ociResources(wish, poor), { memory: { limit: 5 }, pids: { limit: -1 } })
  assert.throws(() => ociResources({ blkioReadBps: [{ path: '/dev/nosuch', rate: 7 }] }, everything), /no such device: \/dev\/nosuch/)
})

test('devices: a directory stands for all in it; rules are read as the kernel writes them', () => {
  const { devices, rules } = wantedDevices([{ hostPath: '/dev/null', containerPath: '/dev/mine', permissions: 'rw' }])
  assert.deepEqual([devices[0]?.path, devices[0]?.type, devices[0]?.major, devices[0]?.minor], ['/dev/mine', 'c', 1, 3])
  assert.deepEqual(rules, [{ allow: true, type: 'c', major: 1, minor: 3, access: 'rw' }])
  const all = wantedDevices([{ hostPath: '/dev', containerPath: '/host', permissions: 'r' }]).devices.map((d) => d.path)
  assert.ok(all.includes('/host/null') && all.includes('/host/zero') && !all.some((p) => p.startsWith('/host/pts/')))
  assert.throws(() => wantedDevices([{ hostPath: '/etc/passwd', containerPath: '/x', permissions: 'r' }]), /not a device node/)
  assert.deepEqual(parseRule('b 8:* rm'), { allow: true, type: 'b', access: 'rm', major: 8 })
  assert.throws(() => parseRule('x 1:1 r'), /invalid device cgroup rule format: 'x 1:1 r'/)
})

test('what only Docker asks for reaches the runtime', () => {
  const s = make({
    tty: true, consoleSize: { rows: 4, columns: 5 }, uts: 'host', hostname: 'h', ipc: 'none', cgroupNamespace: 'host', maskedPaths: [], annotations: { a: 'b' },
    ulimits: [{ name: 'nofile', soft: 10, hard: -1 }], mounts: [{ type: 'tmpfs', target: '/t', options: ['exec'] }], shmSizeBytes: 9,
  }) as Spec & { hostname?: string; annotations: object }
  assert.deepEqual([s.process.consoleSize, s.hostname, s.linux.maskedPaths, s.annotations], [{ height: 4, width: 5 }, undefined, [], { a: 'b' }])
  assert.equal(JSON.stringify(s.process.rlimits), '[{"type":"RLIMIT_NOFILE","soft":10,"hard":18446744073709551615}]')
  assert.deepEqual(s.linux.namespaces.map((n) => n.type), ['mount', 'network', 'pid', 'ipc'])
  assert.equal(s.mounts.some((m) => m.destination === '/dev/shm'), false)
  assert.deepEqual(s.mounts.at(-1)?.options, ['nosuid', 'nodev', 'noexec', 'rw', 'mode=1777', 'exec'])
})

test('profiles of the user are read with their conditions', () => {
  const profile = JSON.stringify({
    defaultAction: 'SCMP_ACT_ALLOW', archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
    syscalls: [
      { names: ['a'], action: 'SCMP_ACT_ERRNO', errnoRet: 2 }, { name: 'b', action: 'SCMP_ACT_ERRNO', errnoRet: 2, includes: { caps: ['CAP_KILL'] } },
      { names: ['c'], action: 'SCMP_ACT_ERRNO', excludes: { minKernel: '4.8' } }, { names: ['d'], action: 'SCMP_ACT_KILL', includes: { arches: ['sparc'] } },
      { names: ['e'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }] },
    ],
  })
  const filter = resolveProfile(JSON.parse(profile) as SeccompProfile, { machine: 'x86_64', kernel: '6.1.0-1', capabilities: ['CAP_KILL'] })
  assert.deepEqual(filter.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'])
  assert.deepEqual(filter.syscalls.map((r) => [r.names, r.errnoRet, r.args?.length]), [[['a', 'b'], 2, undefined], [['e'], undefined, 1]])
  assert.throws(() => customSeccomp('{', []), /Decoding seccomp profile failed/)
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
