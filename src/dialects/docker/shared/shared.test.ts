import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CreateContainer, EventMessage, HostConfig } from '../model.ts'
import { goFileMode } from './file-mode.ts'
import { eventFilter, labelsMatch } from './filters.ts'
import { commandLine, mergeImageConfig } from './image-defaults.ts'
import { parseBind, planMounts } from './mounts.ts'
import { checkName } from './names.ts'
import { publishedPorts } from './ports.ts'
import { parseSecurityOptions } from './security.ts'
import { statusOf, statusText } from './status-text.ts'
import { humanDuration, parseTimestampNs, rfc3339Nano } from './time.ts'
import { validateCreate, validateResources } from './validate.ts'

const host = { cpus: new Set([0, 1]), memoryNodes: new Set([0]), runtimes: ['runc'] }
const create = (hostConfig: HostConfig, more: Partial<CreateContainer> = {}): CreateContainer => ({ config: {}, hostConfig, endpoints: {}, ...more })
const refuses = (hostConfig: HostConfig, message: RegExp, more?: Partial<CreateContainer>): void => {
  assert.throws(() => validateCreate(create(hostConfig, more), host), { message, kind: 'invalid' })
}

test('times are written as Go writes them', () => {
  assert.equal(rfc3339Nano(0), '0001-01-01T00:00:00Z')
  assert.equal(rfc3339Nano(Date.UTC(2026, 0, 2, 3, 4, 5, 120)), '2026-01-02T03:04:05.12Z')
  assert.equal(rfc3339Nano(Date.UTC(2026, 0, 2, 3, 4, 5)), '2026-01-02T03:04:05Z')
  assert.deepEqual([500, 1000, 59_000, 60_000, 119_000, 3_600_000, 47 * 3_600_000, 48 * 3_600_000, 15 * 86_400_000].map(humanDuration), [
    'Less than a second', '1 second', '59 seconds', 'About a minute', 'About a minute', 'About an hour', '47 hours', '2 days', '2 weeks'])
  assert.equal(parseTimestampNs('1.5'), 1_500_000_000n)
  assert.equal(parseTimestampNs('1m', 120_000), 60_000_000_000n)
  assert.equal(parseTimestampNs('soon'), undefined)
})

test('a state has Docker\'s name and text', () => {
  const base = { running: false, paused: false, restarting: false, removing: false, dead: false, exitCode: 0, startedAtMs: 0, finishedAtMs: 0 }
  assert.deepEqual([statusOf(base), statusText(base, 0)], ['created', 'Created'])
  const up = { ...base, running: true, startedAtMs: 1000 }
  assert.equal(statusText(up, 6000), 'Up 5 seconds')
  assert.equal(statusText({ ...up, health: 'starting' }, 6000), 'Up 5 seconds (health: starting)')
  assert.equal(statusText({ ...up, health: 'healthy', paused: true }, 6000), 'Up 5 seconds (Paused)')
  assert.equal(statusText({ ...up, restarting: true, exitCode: 1, finishedAtMs: 3000 }, 6000), 'Restarting (1) 3 seconds ago')
  assert.equal(statusText({ ...base, startedAtMs: 1000, finishedAtMs: 3000, exitCode: 137 }, 6000), 'Exited (137) 3 seconds ago')
  assert.equal(statusOf({ ...up, paused: true }), 'paused')
})

test('modes are Go\'s', () => {
  assert.equal(goFileMode(0o040755), 2 ** 31 + 0o755)
  assert.equal(goFileMode(0o120777), 2 ** 27 + 0o777)
  assert.equal(goFileMode(0o104755), 2 ** 23 + 0o755)
  assert.equal(goFileMode(0o020666), 2 ** 26 + 2 ** 21 + 0o666)
})

test('an image\'s configuration fills what the user left open', () => {
  const image = { Env: ['A=1', 'B=2'], Cmd: ['serve'], Entrypoint: ['/run'], Labels: { x: 'image', y: 'image' }, WorkingDir: '/srv', Healthcheck: { Test: ['CMD', 'ok'], Retries: 5 } }
  const merged = mergeImageConfig({ Env: ['B=3'], Labels: { x: 'user' }, Healthcheck: { Interval: 1e9 } }, image)
  assert.deepEqual(merged.Env, ['B=3', 'A=1'])
  assert.deepEqual(merged.Labels, { x: 'user', y: 'image' })
  assert.deepEqual(commandLine(merged), { path: '/run', args: ['serve'] })
  assert.equal(merged.Healthcheck?.Retries, 5)
  assert.equal(merged.Healthcheck?.Interval, 1e9)
  // An entrypoint of one's own drops the image's command; an empty one takes the image's entrypoint away.
  assert.deepEqual(commandLine(mergeImageConfig({ Entrypoint: ['sh'] }, image)), { path: 'sh', args: [] })
  assert.deepEqual(commandLine(mergeImageConfig({ Entrypoint: [''], Cmd: ['x'] }, image)), { path: 'x', args: [] })
})

test('binds are read, and wrong ones refused', () => {
  assert.deepEqual(parseBind('/a:/b:ro,rslave'), { target: '/b', readOnly: true, mode: 'ro,rslave', type: 'bind', source: '/a', propagation: 'rslave', createSource: true })
  assert.equal(parseBind('vol:/b:nocopy').noCopy, true)
  assert.equal(parseBind('/b').anonymous, true)
  assert.throws(() => parseBind('/a:b'), /mount path must be absolute/)
  assert.throws(() => parseBind('/a:/b:ro,rw'), /invalid mode: ro,rw/)
  assert.throws(() => parseBind('/a:/'), /destination can't be '\/'/)
  assert.throws(() => parseBind('a$b:/x'), /includes invalid characters/)
})

test('mounts of all kinds become one plan', () => {
  const plan = planMounts({ Volumes: { '/data': {}, '/own': {} } }, { Binds: ['/h:/data'], Tmpfs: { '/t': 'size=1m,mode=700' } }, [])
  assert.deepEqual(plan.map((m) => [m.target, m.type]), [['/data', 'bind'], ['/own', 'volume'], ['/t', 'tmpfs']])
  assert.deepEqual(plan[2]?.tmpfs, { sizeBytes: 1 << 20, mode: 0o700, options: [] })
  assert.throws(() => planMounts({}, { Binds: ['/a:/x'], Tmpfs: { '/x/': '' } }, []), /Duplicate mount point: \/x/)
})

test('ports are published as bound, and with publish-all as exposed', () => {
  assert.deepEqual(publishedPorts({ PortBindings: { '80/tcp': [{ HostPort: '8080' }], '53/udp': null }, PublishAllPorts: true }, { '80/tcp': {}, '90-91/tcp': {} }), [
    { containerPort: 53, protocol: 'udp', hostIP: '', hostPort: '' }, { containerPort: 80, protocol: 'tcp', hostIP: '', hostPort: '8080' },
    { containerPort: 90, protocol: 'tcp', hostIP: '', hostPort: '' }, { containerPort: 91, protocol: 'tcp', hostIP: '', hostPort: '' },
  ])
})

test('a creation is refused in dockerd\'s words', () => {
  assert.deepEqual(validateCreate(create({}), host), [])
  refuses({ AutoRemove: true, RestartPolicy: { Name: 'always' } }, /can't create 'AutoRemove' container with restart policy/)
  refuses({ RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } }, /maximum retry count can only be used with 'on-failure'/)
  refuses({ Memory: 1000 }, /Minimum memory limit allowed is 6MB/)
  refuses({ MemorySwap: 1 << 30 }, /You should always set the Memory limit/)
  refuses({ NanoCpus: 3e9 }, /range of CPUs is from 0.01 to 2.00/)
  refuses({ CpusetCpus: '0-7' }, /Requested CPUs are not available - requested 0-7, available: 0-1/)
  refuses({ CapAdd: ['FLY'] }, /unknown capability: "CAP_FLY"/)
  refuses({ NetworkMode: 'container:x', PublishAllPorts: true }, /port publishing and the container type network mode/)
  refuses({ LogConfig: { Type: 'papyrus' } }, /plugin "papyrus" not found/)
  refuses({ PortBindings: { '80/tcp': [{ HostPort: '99999' }] } }, /invalid port specification: "99999"/)
  refuses({}, /working directory 'x' is invalid/, { config: { WorkingDir: 'x' } })
  refuses({}, /user specified IP address is supported on user defined networks only/, { endpoints: { bridge: { IPAMConfig: { IPv4Address: '10.0.0.2' } } } })
  assert.throws(() => validateResources({ CpuQuota: 5000 }, host, { NanoCpus: 1e9 }), { kind: 'conflict' })
  assert.throws(() => checkName('x'), /Invalid container name \(x\)/)
  assert.throws(() => parseSecurityOptions(['bogus']), /invalid --security-opt 1: "bogus"/)
})

test('events are filtered by kind, name, label and image', () => {
  const e: EventMessage = {
    Type: 'container', Action: 'exec_create: ls', Actor: { ID: 'abc123', Attributes: { name: 'web', image: 'redis:7', team: 'a' } }, scope: 'local', time: 0, timeNano: 0,
  }
  for (const filters of [{}, { event: ['exec_create'] }, { container: ['abc'] }, { container: ['nope', 'web'] }, { image: ['redis'] }, { label: ['team=a'] }]) {
    assert.equal(eventFilter(filters as Record<string, string[]>)(e), true, JSON.stringify(filters))
  }
  for (const filters of [{ type: ['image'] }, { event: ['start'] }, { container: ['db'] }, { label: ['team=b'] }, { image: ['nginx'] }]) {
    assert.equal(eventFilter(filters as unknown as Record<string, string[]>)(e), false, JSON.stringify(filters))
  }
  assert.equal(labelsMatch(['a', 'b=2'], { a: '', b: '2' }), true)
})
