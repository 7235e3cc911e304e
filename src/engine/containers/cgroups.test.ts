import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Cgroups, parseMounts, thaw } from './cgroups.ts'
import { ownProcs } from './attach-ahead.ts'
import { oomKills, readStats } from './stats.ts'

const unified = '30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot'
const v1Mounts = [
  '31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct',
  '32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
]

const root = mkdtempSync(join(tmpdir(), 'cgroups-'))
after(() => rmSync(root, { recursive: true }))

function group(name: string, files: Record<string, string>): string {
  mkdirSync(join(root, name))
  for (const [file, text] of Object.entries(files)) writeFileSync(join(root, name, file), text)
  return name
}

const at = (v2: boolean): Cgroups => ({ v2, path: (_, cgroup) => join(root, cgroup), all: (cgroup) => [join(root, cgroup)] })

test('what is frozen below a group is thawed, and nothing else written', () => {
  for (const [v2, file, frozen, thawed] of [[false, 'freezer.state', 'FROZEN\n', 'THAWED'], [true, 'cgroup.freeze', '1\n', '0']] as const) {
    const pod = group(`pod${v2}`, {})
    const [stuck, free] = [group(`pod${v2}/stuck`, { [file]: frozen }), group(`pod${v2}/free`, { [file]: 'as it was' })]
    thaw(pod, at(v2))
    assert.equal(readFileSync(join(root, stuck, file), 'utf8'), thawed)
    assert.equal(readFileSync(join(root, free, file), 'utf8'), 'as it was')
    thaw('not-there', at(v2))
  }
})

test('the group this process is in, of both versions', () => {
  assert.equal(ownProcs('5:freezer:/a/b\n1:name=systemd:/c\n0::/u\n', at(false)), join(root, '/a/b/cgroup.procs'))
  assert.equal(ownProcs('0::/user.slice/x:y\n', at(true)), join(root, '/user.slice/x:y/cgroup.procs'))
  assert.equal(ownProcs('', at(true)), undefined)
})

test('mounts of version 2, 1 and both', () => {
  const two = parseMounts(unified)
  assert.ok(two.v2)
  assert.equal(two.path('memory', '/a/b'), '/sys/fs/cgroup/a/b')
  const hybrid = parseMounts([...v1Mounts, unified.replace('/sys/fs/cgroup', '/sys/fs/cgroup/unified')].join('\n'))
  assert.ok(!hybrid.v2)
  assert.equal(hybrid.path('cpuacct', '/a'), '/sys/fs/cgroup/cpu,cpuacct/a')
  assert.equal(hybrid.path('pids', '/a'), undefined)
})

test('figures of version 2', () => {
  const g = group('two', {
    'memory.current': '5000\n', 'memory.max': 'max\n', 'memory.stat': 'anon 1\ninactive_file 2000\nactive_file 7\n',
    'cpu.stat': 'usage_usec 123\nuser_usec 100\n', 'pids.current': '3\n', 'io.stat': '8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n',
  })
  assert.deepEqual(readStats(g, 0, 9, at(true)), {
    atMs: 9, cpuNs: 123_000n, memoryBytes: 5000, workingSetBytes: 3000, pids: 3, readBytes: 11, writeBytes: 22,
  })
  writeFileSync(join(root, g, 'memory.max'), '65536\n')
  assert.equal(readStats(g, 0, 9, at(true))?.memoryLimitBytes, 65536)
  assert.equal(readStats('absent', 0, 9, at(true)), undefined)
})

test('figures of version 1', () => {
  const g = group('one', {
    'memory.usage_in_bytes': '5000\n', 'memory.limit_in_bytes': '9223372036854771712\n', 'memory.stat': 'cache 1\ntotal_inactive_file 6000\n',
    'cpuacct.usage': '123456\n', 'pids.current': '3\n', 'blkio.throttle.io_service_bytes': '8:0 Read 10\n8:0 Write 20\nTotal 30\n',
  })
  assert.deepEqual(readStats(g, 0, 9, at(false)), {
    atMs: 9, cpuNs: 123_456n, memoryBytes: 5000, workingSetBytes: 0, pids: 3, readBytes: 10, writeBytes: 20,
  })
})

test('kills for want of memory', () => {
  assert.equal(oomKills(group('two-oom', { 'memory.events': 'low 0\noom 2\noom_kill 1\noom_group_kill 0\n' }), at(true)), 1)
  assert.equal(oomKills(group('one-oom', { 'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 4\n' }), at(false)), 4)
  assert.equal(oomKills('absent', at(true)), 0)
})
