/** Containers on a real containerd: life cycle, processes, output, isolation. Needs root, containerd, runc, busybox-static. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe, it } from 'node:test'
import type { Readable } from 'node:stream'
import { EngineError } from '../../src/engine/index.ts'
import type { ExecSpec } from '../../src/engine/index.ts'
import { TestMachine, until } from './engine-support.ts'

const m = new TestMachine()
before(() => m.start())
after(() => m.stop())

async function exec(id: string, command: string[], more: Partial<ExecSpec> = {}): Promise<{ code: number; out: string; err: string }> {
  const p = await m.engine.containers.exec(id, { command, ...more })
  const [out, err, code] = await Promise.all([text(p.stdout), p.stderr === undefined ? '' : text(p.stderr), p.exit])
  return { code, out, err }
}

const hasCode = (code: EngineError['code']) => (e: unknown): boolean => e instanceof EngineError && e.code === code

describe('life cycle', () => {
  it('creates, starts, exits, starts again on the same files, removes', async () => {
    const c = m.engine.containers
    await c.create(m.spec('life', ['sh', '-c', 'echo run >> /tmp/runs; cat /tmp/runs; exit 7'], { labels: { a: 'b' } }))
    assert.equal(c.inspect('life')?.state, 'created')
    await assert.rejects(c.create(m.spec('life', ['true'])), hasCode('conflict'))
    const pid = await c.start('life')
    assert.ok(pid > 0)
    const exit = await m.exited('life')
    assert.deepEqual([exit.exitCode, exit.oomKilled], [7, false])
    assert.equal(await m.text('life'), 'run\n')
    await c.start('life')
    await m.exited('life')
    assert.equal(await m.text('life'), 'run\nrun\nrun\n')
    const info = c.inspect('life')
    assert.equal(info?.exitCode, 7)
    assert.deepEqual(info.labels, { a: 'b' })
    assert.ok(info.imageId.startsWith('sha256:'))
    await c.remove('life')
    await c.remove('life')
    assert.equal(c.inspect('life'), undefined)
    assert.equal(existsSync(c.logDir('life')), false)
    assert.doesNotMatch(m.ctr('containers', 'ls'), /life/)
    assert.doesNotMatch(m.ctr('snapshots', 'ls'), /life/)
  })

  it('reports exit codes, signals and failures to start as docker users know them', async () => {
    const c = m.engine.containers
    await m.run('killed', ['sleep', '1000'])
    await c.kill('killed', 'KILL')
    assert.equal((await m.exited('killed')).exitCode, 137)
    await c.kill('killed', 'TERM')
    await c.create(m.spec('absent', ['nosuchprogram']))
    await assert.rejects(c.start('absent'), /nosuchprogram.*executable file not found in \$PATH/)
    assert.deepEqual([c.inspect('absent')?.state, c.inspect('absent')?.exitCode], ['created', 127])
    await c.create(m.spec('noexec', ['/etc/noexec.sh']))
    await assert.rejects(c.start('noexec'), /permission denied/)
    assert.equal(c.inspect('noexec')?.exitCode, 126)
    await assert.rejects(c.create({ ...m.spec('noimage', ['true']), image: 'nosuch/image' }), hasCode('not-found'))
    await assert.rejects(c.start('nobody'), hasCode('not-found'))
    for (const id of ['killed', 'absent', 'noexec']) await c.remove(id)
  })

  it('stops with the signal first, with SIGKILL after the grace, also when paused', async () => {
    const c = m.engine.containers
    await m.run('polite', ['sh', '-c', 'trap "exit 3" USR1; echo ready; while :; do sleep 0.05; done'], { stopSignal: 'USR1' })
    await waitForLog('polite', 'ready')
    await c.stop('polite', 10_000)
    assert.equal((await m.exited('polite')).exitCode, 3)
    await m.run('deaf', ['sleep', '1000'])
    const before = Date.now()
    await c.stop('deaf', 300)
    assert.ok(Date.now() - before >= 290)
    assert.equal((await m.exited('deaf')).exitCode, 137)
    await m.run('frozen', ['sleep', '1000'])
    await c.pause('frozen')
    assert.equal(c.inspect('frozen')?.state, 'paused')
    await assert.rejects(c.exec('frozen', { command: ['true'] }), /is paused/)
    await c.stop('frozen', 0)
    assert.equal((await m.exited('frozen')).exitCode, 137)
    await m.run('thawed', ['sleep', '1000'])
    await c.pause('thawed')
    await c.resume('thawed')
    assert.equal((await exec('thawed', ['true'])).code, 0)
    await assert.rejects(c.remove('thawed'), hasCode('conflict'))
    for (const id of ['polite', 'deaf', 'frozen', 'thawed']) await c.remove(id, true)
  })

  it('shares one shim in a group, and outlives its first member', async () => {
    const c = m.engine.containers
    const before = m.shims().length
    await m.run('pod-a', ['sleep', '1000'], { group: 'pod-1' })
    await m.run('pod-b', ['sleep', '1000'], { group: 'pod-1', pid: { container: 'pod-a' } })
    assert.equal(m.shims().length, before + 1)
    assert.match((await exec('pod-b', ['ps'])).out, /1 root\s+sleep[^]*sleep 1000/)
    await m.run('pod-c', ['sleep', '1000'], { group: 'pod-1' })
    await c.remove('pod-a', true)
    assert.equal((await exec('pod-c', ['echo', 'alive'])).out, 'alive\n')
    await m.run('pod-a', ['echo', 'again'], { group: 'pod-1' })
    assert.equal((await m.exited('pod-a')).exitCode, 0)
    for (const id of ['pod-a', 'pod-b', 'pod-c']) await c.remove(id, true)
    await until(() => m.shims().length === before, 'the shim to go')
  })

  it('flags out-of-memory kills', async () => {
    await m.run('hungry', ['sh', '-c', 'tail /dev/zero'], { resources: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 } })
    await m.exited('hungry', 30_000)
    await m.run('hungry2', ['tail', '/dev/zero'], { resources: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 } })
    const exit = await m.exited('hungry2', 30_000)
    assert.deepEqual([exit.exitCode, exit.oomKilled], [137, true])
    await until(() => m.events.some((e) => e.type === 'oom' && e.id === 'hungry2'), 'the oom event')
    assert.equal(m.events.filter((e) => e.type === 'oom' && e.id === 'hungry2').length, 1)
    for (const id of ['hungry', 'hungry2']) await m.engine.containers.remove(id)
  })

  it('measures and limits', async () => {
    const c = m.engine.containers
    await m.run('busy', ['sh', '-c', 'while :; do :; done'], { resources: { memoryBytes: 64 << 20, pidsMax: 50, cpuShares: 2 } })
    await sleep(300)
    const s = await c.stats('busy')
    assert.ok(s !== undefined && s.cpuNs > 1_000_000n && s.memoryBytes > 0 && s.pids >= 1, JSON.stringify(s, (_, v: unknown) => String(v)))
    assert.equal(s.memoryLimitBytes, 64 << 20)
    assert.equal(s.rxBytes, 0)
    await c.update('busy', { memoryBytes: 32 << 20, memorySwapBytes: 32 << 20 })
    assert.equal((await c.stats('busy'))?.memoryLimitBytes, 32 << 20)
    assert.ok(existsSync(join(c.rootPath('busy') ?? '', 'bin/busybox')))
    await c.remove('busy', true)
  })
})

describe('processes', () => {
  before(() => m.run('host', ['sleep', '100000'], { hostname: 'box', env: ['OTHER=b'], stdin: true }))
  after(() => m.engine.containers.remove('host', true))

  it('has environment, directory, host name and user of image and spec', async () => {
    const { out } = await exec('host', ['sh', '-c', 'echo $FROM_IMAGE $OTHER $HOME $HOSTNAME $EXTRA; hostname; pwd'], { env: ['EXTRA=1'], workingDir: '/tmp' })
    assert.equal(out, 'yes b /root box 1\nbox\n/tmp\n')
  })

  it('gives exit codes, both streams, and docker\'s codes for what cannot be run', async () => {
    assert.deepEqual(await exec('host', ['sh', '-c', 'echo o; echo e >&2; exit 9']), { code: 9, out: 'o\n', err: 'e\n' })
    const absent = await exec('host', ['nosuch'])
    assert.equal(absent.code, 127)
    assert.match(absent.err, /OCI runtime exec failed.*nosuch.*executable file not found/)
    assert.equal((await exec('host', ['/etc/noexec.sh'])).code, 126)
  })

  it('takes 10 MiB on stdin to its end', async () => {
    const data = randomBytes(10 << 20)
    const p = await m.engine.containers.exec('host', { command: ['sha256sum'], stdin: true })
    p.stdin?.end(data)
    assert.equal((await text(p.stdout)).split(' ')[0], createHash('sha256').update(data).digest('hex'))
    assert.equal(await p.exit, 0)
  })

  it('gives 20 MiB of output to a slow reader whole', async () => {
    const p = await m.engine.containers.exec('host', { command: ['sh', '-c', 'head -c 20971520 /dev/zero; echo x >&2'] })
    const err = text(p.stderr as Readable)
    let bytes = 0
    for await (const b of p.stdout) {
      // Longer than output may stand still after an exit.
      if (bytes === 0 || (bytes < 20 << 20 && bytes + (b as Buffer).length >= 20 << 20)) await sleep(2500)
      bytes += (b as Buffer).length
    }
    assert.equal(bytes, 20 << 20)
    assert.equal(await p.exit, 0)
    assert.equal(await err, 'x\n')
  })

  it('has terminals that can be resized', async () => {
    const p = await m.engine.containers.exec('host', { command: ['sh', '-c', 'read x; stty size; tty'], tty: true, stdin: true })
    assert.equal(p.stderr, undefined)
    await p.resize(101, 37)
    p.stdin?.write('\n')
    const out = await text(p.stdout)
    assert.match(out, /37 101\r\n\/dev\/pts\/0\r\n/)
    assert.equal(await p.exit, 0)
  })

  it('attaches to stdin and output, and survives a detach', async () => {
    await m.run('cat', ['sh', '-c', 'while read x; do echo "got $x"; printf prompt; done; echo end; exit 5'], { stdin: true })
    const first = await m.engine.containers.attach('cat')
    const seen = reader(first.stdout)
    first.stdin?.write('one\n')
    await until(() => seen.text === 'got one\nprompt', 'the first answer')
    first.close()
    const second = await m.engine.containers.attach('cat')
    const more = text(second.stdout)
    second.stdin?.end('two\n')
    assert.equal(await more, 'got two\npromptend\n')
    assert.equal(await second.exit, 5)
    assert.equal(await m.text('cat'), 'got one\npromptgot two\npromptend\n')
    await m.engine.containers.remove('cat')
  })

  it('takes 10 MiB through an attached container', async () => {
    const data = randomBytes(10 << 20)
    await m.run('sum', ['sha256sum'], { stdin: true })
    const p = await m.engine.containers.attach('sum')
    const out = text(p.stdout)
    p.stdin?.end(data)
    assert.equal((await out).split(' ')[0], createHash('sha256').update(data).digest('hex'))
    assert.equal(await p.exit, 0)
    await m.engine.containers.remove('sum')
  })
})

describe('isolation', () => {
  it('looks users up in the image', async () => {
    assert.equal(await m.output('u1', ['sh', '-c', 'id; echo $HOME'], { user: 'app' }), 'uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n/home/app\n')
    assert.equal(await m.output('u2', ['id'], { user: '1234' }), 'uid=1234 gid=0(root) groups=0(root)\n')
    assert.equal(await m.output('u3', ['id'], { user: 'app:extra', supplementalGroups: [77] }), 'uid=1000(app) gid=2000(extra) groups=77,2000(extra)\n')
    await m.engine.containers.create(m.spec('u4', ['id'], { user: 'ghost' }))
    await assert.rejects(m.engine.containers.start('u4'), /unable to find user ghost/)
    await m.engine.containers.remove('u4')
  })

  it('holds docker\'s default capabilities, less or more on demand, none for users', async () => {
    const caps = ['sh', '-c', 'grep -E "CapBnd|CapEff" /proc/self/status | cut -f2 | tr "\\n" " "']
    const docker = '00000000a80425fb'
    assert.equal((await m.output('c1', caps)).trim(), `${docker} ${docker}`)
    assert.equal((await m.output('c2', caps, { capDrop: ['ALL'], capAdd: ['net_raw'] })).trim(), '0000000000002000 0000000000002000')
    assert.equal((await m.output('c3', caps, { user: 'app' })).trim(), `0000000000000000 ${docker}`)
    assert.match(await m.output('c4', ['sh', '-c', 'chown 1:1 /tmp 2>&1; true'], { capDrop: ['CHOWN'] }), /not permitted/)
    await assert.rejects(m.engine.containers.create(m.spec('c5', ['true'], { capAdd: ['FLY'] })), /invalid capability: "FLY"/)
  })

  it('filters system calls unless told not to', async () => {
    const mode = ['sh', '-c', 'grep Seccomp: /proc/self/status; unshare -U true 2>&1 && echo made']
    assert.match(await m.output('s1', mode), /Seccomp:\t2\n.*not permitted/)
    assert.match(await m.output('s2', mode, { seccomp: 'unconfined' }), /Seccomp:\t0\n/)
    assert.match(await m.output('s3', ['sh', '-c', 'grep -E "Seccomp:|NoNewPrivs" /proc/self/status'], { noNewPrivileges: true }), /NoNewPrivs:\t1\nSeccomp:\t2/)
  })

  it('protects /proc and /sys, honours mounts and read-only roots', async () => {
    const out = await m.output('f1', ['sh', '-c', 'echo 1 > /proc/sys/kernel/panic; echo > /x; head -c1 /proc/kcore | wc -c; echo in > /scratch/f && cat /scratch/f; cat /etc/hostname; echo > /etc/hostname'], {
      readOnlyRootfs: true,
      mounts: [
        { type: 'tmpfs', target: '/scratch', sizeBytes: 1 << 20 },
        { type: 'bind', source: join(m.dir, 'containerd.toml'), target: '/etc/hostname', readOnly: true },
      ],
    })
    // Two streams: only within each the order is certain.
    for (const said of [/panic: Read-only file system[^]*\/x: Read-only file system[^]*hostname: Read-only/, /^0\n/m, /^in\nversion = 2\n/m]) assert.match(out, said)
  })

  it('runs privileged, with host namespaces', async () => {
    const out = await m.output('p1', ['sh', '-c', 'grep -E "CapEff|Seccomp:" /proc/self/status; ls /proc/1/exe >/dev/null; ls -l /proc/self/ns/net; [ -c /dev/full ] && echo dev'], {
      privileged: true, network: 'host', pid: 'host', ipc: 'host',
    })
    assert.match(out, /Seccomp:\t0/)
    assert.match(out, /dev\n$/)
    assert.doesNotMatch(out, /CapEff:\t00000000a80425fb/)
  })

  it('runs with crun', { skip: existsSync('/sys/fs/cgroup/unified') && 'crun refuses machines that mount both versions of control groups' }, async () => {
    assert.equal(await m.output('crun', ['echo', 'hello'], { runtime: 'crun' }), 'hello\n')
  })
})

describe('logs', () => {
  it('keeps all of 50 MiB written by a container that exits at once', async () => {
    const c = m.engine.containers
    const count = 550_000
    await m.run('loud', ['awk', `BEGIN { for (i = 1; i <= ${count}; i++) printf "%095d\\n", i }`], { log: { maxBytes: 1 << 30 } })
    await m.exited('loud', 60_000)
    let next = 1
    for await (const line of c.logs('loud', {})) {
      if (line.text.length !== 95 || Number(line.text.toString('latin1')) !== next++) assert.fail(`line ${next - 1} is ${line.text.toString()}`)
    }
    assert.equal(next, count + 1)
    assert.deepEqual((await m.text('loud', { tail: 2 })).trim().split('\n').map(Number), [count - 1, count])
    await c.remove('loud')
  })

  it('rotates without losing or tearing a line, and reads across rotated files', async () => {
    const c = m.engine.containers
    await m.run('turning', ['sh', '-c', 'seq 1 200000; printf "no newline"'], { log: { maxBytes: 1 << 20, maxFiles: 100 } })
    await m.exited('turning', 30_000)
    const expected = `${Array.from({ length: 200_000 }, (_, i) => i + 1).join('\n')}\nno newline`
    assert.equal(await m.text('turning'), expected)
    await until(() => existsSync(join(c.logDir('turning'), '00000001.zst')), 'compression')
    assert.equal(await m.text('turning'), expected)
    assert.equal((await m.text('turning', { tail: 50_000 })).split('\n')[0], '150002')
    await c.remove('turning')
    await m.run('few', ['seq', '1', '200000'], { log: { maxBytes: 1 << 20, maxFiles: 3 } })
    await m.exited('few')
    const kept = (await m.text('few')).trim().split('\n')
    assert.equal(kept.at(-1), '200000')
    assert.equal(Number(kept[0]), 200_001 - kept.length)
    assert.ok(kept.length < 100_000)
    await c.remove('few')
  })

  it('follows live to the end, both streams, across rotation', async () => {
    await m.run('live', ['sh', '-c', 'echo a; sleep 0.3; echo b >&2; sleep 0.3; seq 1 20000; sleep 0.2; seq 20001 40000'], { log: { maxBytes: 300_000, maxFiles: 100 } })
    const lines: string[] = []
    for await (const l of m.engine.containers.logs('live', { follow: true })) {
      lines.push(`${l.stream} ${l.text.toString()}`)
      assert.match(l.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/)
    }
    assert.deepEqual(lines.slice(0, 2), ['stdout a', 'stderr b'])
    assert.equal(lines.length, 40_002)
    assert.equal(lines.at(-1), 'stdout 40000')
    await m.exited('live')
    const since = Date.now() + 1000
    assert.equal(await m.text('live', { sinceMs: since }), '')
    await m.engine.containers.remove('live')
  })

  it('splits lines over 16 KiB into partial ones', async () => {
    await m.run('long', ['sh', '-c', 'head -c 40000 /dev/zero | tr "\\0" x; echo; echo after'])
    await m.exited('long')
    const lengths: [number, boolean][] = []
    for await (const l of m.engine.containers.logs('long', {})) lengths.push([l.text.length, l.partial])
    assert.deepEqual(lengths, [[16384, true], [16384, true], [7232, false], [5, false]])
    assert.equal((await m.text('long', { tail: 2 })).length, 40_000 + 1 + 6)
    await m.engine.containers.remove('long')
  })

  it('keeps the log daemon small', () => {
    const status = readFileSync(`/proc/${m.logger?.pid}/status`, 'utf8')
    const anonymousKb = Number(/RssAnon:\s+(\d+)/.exec(status)?.[1])
    assert.ok(anonymousKb < 80 * 1024, `${anonymousKb} KiB`)
  })
})

function reader(stream: Readable): { text: string } {
  const seen = { text: '' }
  stream.on('data', (b: Buffer) => { seen.text += b.toString() })
  return seen
}

async function waitForLog(id: string, what: string): Promise<void> {
  for await (const l of m.engine.containers.logs(id, { follow: true })) if (l.text.toString().includes(what)) return
}
