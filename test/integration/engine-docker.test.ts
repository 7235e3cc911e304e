/** What Docker asks of a container beyond a Pod: attachments before the start, init, shared memory, limits, counters. Needs root. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe, it } from 'node:test'
import { supportedResources } from '../../src/engine/index.ts'
import { cgroups } from '../../src/engine/containers/cgroups.ts'
import { TestMachine, until } from './engine-support.ts'

const m = new TestMachine()
before(() => m.start())
after(() => m.stop())

describe('attachments before the start', () => {
  it('give every client every byte of a container that exits at once', async () => {
    const c = m.engine.containers
    for (let round = 0; round < 5; round++) {
      await c.create(m.spec('early', ['sh', '-c', 'echo first; echo err >&2; exit 3']))
      const clients = await Promise.all([1, 2, 3].map(() => c.attach('early')))
      const seen = clients.map((p) => Promise.all([text(p.stdout), text(p.stderr!), p.exit]))
      await c.start('early')
      for (const s of seen) assert.deepEqual(await s, ['first\n', 'err\n', 3])
      await c.remove('early')
    }
  })

  it('give what was written before the start, and its end, to stdin', async () => {
    const c = m.engine.containers
    await c.create(m.spec('fed', ['sh', '-c', 'cat; echo over'], { stdin: true }))
    const p = await c.attach('fed')
    p.stdin?.end('typed ahead\n')
    const out = text(p.stdout)
    await c.start('fed')
    assert.equal(await out, 'typed ahead\nover\n')
    assert.equal(await p.exit, 0)
    await c.remove('fed')
  })

  it('leave stdin open for the next client where it is not said to close', async () => {
    const c = m.engine.containers
    await c.create(m.spec('open', ['sh', '-c', 'read a; read b; echo $a $b'], { stdin: true, stdinOnce: false }))
    const first = await c.attach('open')
    await c.start('open')
    first.stdin?.end('one\n')
    await sleep(100)
    assert.equal(c.inspect('open')?.state, 'running')
    const second = await c.attach('open')
    const out = text(second.stdout)
    second.stdin?.end('two\n')
    assert.equal(await out, 'one two\n')
    await m.exited('open')
    await c.remove('open')
  })

  it('end with a start that fails, and with a removal', async () => {
    const c = m.engine.containers
    await c.create(m.spec('bad', ['/nosuch']))
    const p = await c.attach('bad')
    const out = text(p.stdout)
    await assert.rejects(c.start('bad'), /no such file or directory/)
    assert.deepEqual([await out, await p.exit], ['', 127])
    const again = await c.attach('bad')
    await c.remove('bad')
    assert.equal(await text(again.stdout), '')
    await again.exit
  })

  it('that never read hold up neither the container nor other clients', async () => {
    const c = m.engine.containers
    await c.create(m.spec('ignored', ['sh', '-c', 'head -c 8388608 /dev/zero; echo done >&2']))
    const [idle, busy] = await Promise.all([c.attach('ignored'), c.attach('ignored')])
    const [bytes, err] = [text(busy.stdout), text(busy.stderr!)]
    await c.start('ignored')
    await m.exited('ignored', 30_000)
    assert.equal((await bytes).length, 8 << 20)
    assert.equal(await err, 'done\n')
    idle.close()
    await c.remove('ignored')
  })
})

describe('the spec', () => {
  it('begins a container with changes that only its start knew, and keeps them', async () => {
    const c = m.engine.containers
    await c.create(m.spec('late', ['sh', '-c', 'echo $LATE; cat /late'], { env: ['LATE=no'] }))
    await c.start('late', { env: ['LATE=yes'], mounts: [{ type: 'bind', source: join(m.dir, 'containerd.toml'), target: '/late', readOnly: true }] })
    await m.exited('late')
    assert.match(await m.text('late'), /^yes\nversion = 2/)
    await c.start('late')
    await m.exited('late')
    assert.match(await m.text('late'), /yes\n[^]*yes\n/)
    await c.remove('late')
  })

  it('gives terminals their first size, and changes it', async () => {
    const c = m.engine.containers
    await c.create(m.spec('term', ['sh', '-c', 'stty size; read x; stty size'], { tty: true, stdin: true, consoleSize: { rows: 33, columns: 111 } }))
    const p = await c.attach('term')
    let seen = ''
    p.stdout.on('data', (b: Buffer) => { seen += b.toString() })
    await c.start('term')
    await until(() => seen.includes('33 111'), 'the first size')
    await c.resize('term', { rows: 44, columns: 55 })
    p.stdin?.write('\n')
    await until(() => seen.includes('44 55'), 'the second size')
    await m.exited('term')
    await c.remove('term')
  })

  it('runs an init that reaps, limits, names and sysctls', async () => {
    const out = await m.output('spec1', ['sh', '-c', 'cat /proc/1/cmdline | tr "\\0" " "; echo; ulimit -n; cat /proc/sys/kernel/domainname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/net/ipv4/ping_group_range; cat /proc/sys/kernel/msgmax; id -G; df -k /dev/shm | tail -1'], {
      init: true, ulimits: [{ name: 'nofile', soft: 123, hard: 456 }], domainname: 'example.org', sysctls: { 'kernel.msgmax': '4321' },
      additionalGroups: ['extra', '77'], shmSizeBytes: 3 << 20,
    })
    assert.match(out, /^\/sbin\/docker-init -- sh -c [^]*\n123\nexample.org\n0\n0\s2147483647\n4321\n0 (?:2000 77|77 2000)\n\S+\s+3072 /)
  })

  it('lends devices, and no others', async () => {
    const out = await m.output('dev', ['sh', '-c', 'head -c1 /dev/mine | wc -c; mknod /k c 1 1 && head -c1 /k 2>&1'], {
      devices: [{ hostPath: '/dev/zero', containerPath: '/dev/mine', permissions: 'r' }],
    })
    assert.match(out, /^1\n[^]*(?:not permitted)/)
  })

  it('mounts tmpfs with options, read-only trees and control groups', async () => {
    const out = await m.output('mnt', ['sh', '-c', 'grep -E " (/t|/x|/ro|/sys/fs/cgroup|/sys/fs/cgroup/pids) " /proc/self/mounts; touch /ro/x'], {
      mounts: [
        { type: 'tmpfs', target: '/t', sizeBytes: 1 << 20, mode: 0o700 }, { type: 'tmpfs', target: '/x', options: ['exec', 'size=64k'] },
        { type: 'bind', source: m.dir, target: '/ro', readOnly: true, recursiveReadOnly: true },
      ],
    })
    assert.match(out, /\/t tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700/)
    assert.match(out, /\/x tmpfs rw,nosuid,nodev,relatime,size=64k/)
    assert.match(out, /\/sys\/fs\/cgroup(?:\/pids cgroup| cgroup2) ro/)
    assert.match(out, /\/ro\/x: Read-only/)
  })

  it('shares memory with those that join, and cleans it away', async () => {
    const c = m.engine.containers
    await m.run('ipc-a', ['sleep', '100000'], { ipc: 'shareable', shmSizeBytes: 2 << 20 })
    await m.run('ipc-b', ['sh', '-c', 'echo hello > /dev/shm/note; sleep 100000'], { ipc: { container: 'ipc-a' } })
    await until(() => existsSync(`${c.rootPath('ipc-a')}/dev/shm/note`), 'the note')
    assert.equal(readFileSync(`${c.rootPath('ipc-a')}/dev/shm/note`, 'utf8').trim(), 'hello')
    for (const id of ['ipc-b', 'ipc-a']) await c.remove(id, true)
    await until(() => !readFileSync('/proc/self/mounts', 'utf8').includes(join(m.dir, 'run/shm')), 'the mount to go')
  })

  it('obeys a profile of its own', async () => {
    const profile = JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }] })
    assert.match(await m.output('prof', ['sh', '-c', 'mkdir /d 2>&1; true'], { seccomp: { profile } }), /not implemented/)
  })
})

describe('limits and counters', () => {
  it('agree with the kernel, and change while it runs', async () => {
    const c = m.engine.containers
    const can = supportedResources()
    await m.run('limits', ['sh', '-c', 'sh -c "while :; do :; done" & sleep 100000'], {
      resources: { memoryBytes: 64 << 20, cpuShares: 512, cpuQuotaUs: 50_000, cpuPeriodUs: 100_000, pidsMax: 77, cpusetCpus: '0', memoryReservationBytes: 32 << 20 },
    })
    const file = (controller: string, v1: string, v2: string): string => {
      const dir = cgroups().path(controller, join(m.cgroup, 'limits'))
      return readFileSync(join(dir ?? '', can.cgroupVersion === 1 ? v1 : v2), 'utf8').trim()
    }
    assert.equal(file('memory', 'memory.limit_in_bytes', 'memory.max'), String(64 << 20))
    assert.equal(file('memory', 'memory.soft_limit_in_bytes', 'memory.low'), String(32 << 20))
    assert.equal(file('cpuset', 'cpuset.cpus', 'cpuset.cpus'), '0')
    assert.equal(file('pids', 'pids.max', 'pids.max'), '77')
    // On a busy machine it takes a while until it has used up its share.
    let s = await c.detailedStats('limits')
    for (const end = Date.now() + 10_000; s?.cpu.throttledPeriods === 0 && Date.now() < end; s = await c.detailedStats('limits')) await sleep(50)
    assert.ok(s !== undefined)
    const kernel = BigInt(can.cgroupVersion === 1 ? file('cpuacct', 'cpuacct.usage', '') : `${/usage_usec (\d+)/.exec(file('cpu', '', 'cpu.stat'))?.[1]}000`)
    const shown = JSON.stringify(s, (_, v: unknown) => typeof v === 'bigint' ? String(v) : v)
    assert.ok(s.cpu.totalNs > 50_000_000n && s.cpu.totalNs <= kernel && s.cpu.periods > 0 && s.cpu.throttledPeriods > 0, shown)
    assert.deepEqual([s.memory.limitBytes, s.pids.limit], [64 << 20, 77])
    assert.ok(s.pids.current >= 2 && s.memory.usageBytes > 0 && Object.keys(s.memory.stats).length > 10, shown)
    const pids = await c.pids('limits')
    assert.equal(pids.length, s.pids.current)
    assert.ok(pids.includes(c.inspect('limits')?.pid ?? 0))
    await c.update('limits', { memoryBytes: 48 << 20, pidsMax: 0 })
    assert.equal(file('memory', 'memory.limit_in_bytes', 'memory.max'), String(48 << 20))
    assert.equal(file('pids', 'pids.max', 'pids.max'), 'max')
    await c.remove('limits', true)
    await c.create(m.spec('idle', ['true']))
    assert.equal(await c.detailedStats('idle'), undefined)
    await assert.rejects(c.pids('idle'), /is not running/)
    await c.remove('idle')
  })
})

describe('processes run later', () => {
  before(() => m.run('host', ['sleep', '100000'], { env: ['A=1'], user: 'app', additionalGroups: ['77'], ulimits: [{ name: 'nofile', soft: 99, hard: 99 }] }))
  after(() => m.engine.containers.remove('host', true))
  const c = (): TestMachine['engine']['containers'] => m.engine.containers

  it('have what the container has, and what they ask for', async () => {
    const p = await c().exec('host', { command: ['sh', '-c', 'id -u; id -G; ulimit -n; echo $A$B; pwd'], env: ['B=2'], workingDir: '/etc' })
    assert.match(await text(p.stdout), /^1000\n1000 (?:77 2000|2000 77)\n99\n12\n\/etc\n$/)
    const root = await c().exec('host', { command: ['sh', '-c', 'id -u; grep CapEff /proc/self/status'], user: '0', privileged: true })
    assert.match(await text(root.stdout), /^0\nCapEff:\t0*1ff[0-9a-f]{8}\n/)
  })

  it('have a pid of the machine, and die by signals', async () => {
    const p = await c().exec('host', { command: ['sleep', '100000'] })
    assert.match(readFileSync(`/proc/${p.pid}/cmdline`, 'utf8'), /^sleep/)
    await p.kill?.('TERM')
    assert.equal(await p.exit, 143)
    await p.kill?.('KILL')
  })

  it('have given all they wrote when their exit is told', async () => {
    for (let i = 0; i < 10; i++) {
      const p = await c().exec('host', { command: ['sh', '-c', 'head -c 300000 /dev/zero; exit 4'] })
      let bytes = 0
      p.stdout.on('data', (b: Buffer) => { bytes += b.length })
      p.stderr?.resume()
      assert.equal(await p.exit, 4)
      assert.equal(bytes, 300_000)
    }
  })

  it('begin with the terminal\'s size, and fail in docker\'s words', async () => {
    const p = await c().exec('host', { command: ['stty', 'size'], tty: true, consoleSize: { rows: 12, columns: 34 } })
    assert.equal(await text(p.stdout), '12 34\r\n')
    const cases: [string[], number, RegExp][] = [
      [['nosuch'], 127, /executable file not found in \$PATH/], [['/no/such'], 127, /no such file or directory/],
      [['/etc/noexec.sh'], 126, /permission denied/], [['/etc'], 126, /is a directory|permission denied/],
    ]
    for (const [command, exit, words] of cases) {
      const f = await c().exec('host', { command })
      const [err, got] = await Promise.all([text(f.stderr!), f.exit])
      assert.match(err, words)
      assert.equal(got, exit, command.join(' '))
    }
  })
})
