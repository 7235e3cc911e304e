/** Containers through deaths: of the engine at any moment, of containerd, of the log daemon, of shims. Needs root. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { after, before, it } from 'node:test'
import { IMAGE, TestMachine, until } from './engine-support.ts'

const m = new TestMachine()
before(() => m.start())
after(() => m.stop())

const counting = (lines: number): string[] => ['awk', `BEGIN { for (i = 1; i <= ${lines}; i++) printf "%095d\\n", i }`]

async function assertCounted(id: string, lines: number): Promise<void> {
  let next = 1
  for await (const l of m.engine.containers.logs(id, {})) {
    if (Number(l.text.toString('latin1')) !== next++) assert.fail(`line ${next - 1} of ${id} is ${l.text.toString()}`)
  }
  assert.equal(next, lines + 1)
}

/** An engine in a process of its own; this process's one is closed meanwhile. */
async function child(): Promise<ChildProcess> {
  const main = fileURLToPath(new URL('engine-child.ts', import.meta.url))
  const p = spawn(process.execPath, [main, JSON.stringify(m.options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(p, 'message')
  return p
}

async function tell(p: ChildProcess, command: object): Promise<void> {
  p.send(command)
  const answer = await Promise.race([once(p, 'message'), once(p, 'exit')])
  const { error } = (answer[0] ?? {}) as { error?: string }
  if (error !== undefined) throw new Error(error)
}

it('loses nothing of 100 MB written while the engine is dead, and reports exits of that time', async () => {
  await m.engine.close()
  const p = await child()
  await tell(p, { do: 'create', spec: m.spec('away', ['sh', '-c', `sleep 0.3; ${counting(1_050_000).map((a) => `'${a}'`).join(' ')}; exit 4`], { log: { maxBytes: 1 << 30 } }) })
  await tell(p, { do: 'start', id: 'away' })
  await tell(p, { do: 'create', spec: m.spec('stays', ['sleep', '100000']) })
  await tell(p, { do: 'start', id: 'stays' })
  const dead = once(p, 'exit')
  p.kill('SIGKILL')
  await dead
  const current = join(m.options.dataDir, 'logs/away/current')
  const running = (): boolean => {
    try { return m.ctr('tasks', 'ls').split('\n').some((l) => l.startsWith('away') && l.includes('RUNNING')) } catch { return true }
  }
  const end = Date.now() + 60_000
  while (running() && Date.now() < end) await sleep(200)
  assert.ok(!running(), 'the container wrote on and exited without an engine')
  assert.ok(readFileSync(current).length > 100_000_000)
  m.events.length = 0
  await m.open()
  assert.equal(m.engine.containers.inspect('stays')?.state, 'running')
  assert.equal(m.engine.containers.inspect('away')?.state, 'exited')
  await sleep(10)
  const exits = m.events.filter((e) => e.type === 'exit' && e.id === 'away')
  assert.equal(exits.length > 0 && exits.every((e) => e.type === 'exit' && e.exitCode === 4 && e.atMs === exits[0]?.atMs), true)
  await assertCounted('away', 1_050_000)
  const p2 = await m.engine.containers.exec('stays', { command: ['echo', 'here'] })
  assert.equal(await text(p2.stdout), 'here\n')
  for (const id of ['away', 'stays']) await m.engine.containers.remove(id, true)
})

it('keeps containers through the death of containerd, and sees exits of that time once', async () => {
  await m.run('tough', ['sleep', '100000'])
  await m.run('brief', ['sh', '-c', 'sleep 0.5; exit 6'])
  m.events.length = 0
  const gone = once(m.containerd!, 'exit')
  m.containerd?.kill('SIGKILL')
  await gone
  await sleep(1000)
  m.startContainerd()
  assert.equal((await m.exited('brief')).exitCode, 6)
  assert.equal(m.engine.containers.inspect('tough')?.state, 'running')
  await until(() => m.events.some((e) => e.type === 'exit'), 'the exit event')
  const p = await m.engine.containers.exec('tough', { command: ['echo', 'alive'] })
  assert.equal(await text(p.stdout), 'alive\n')
  await m.engine.containers.kill('tough', 9)
  assert.equal((await m.exited('tough')).exitCode, 137)
  assert.deepEqual(m.events.filter((e) => e.type === 'exit').map((e) => e.id).sort(), ['brief', 'tough'])
  for (const id of ['tough', 'brief']) await m.engine.containers.remove(id)
})

it('goes on draining after the log daemon was killed', async () => {
  await m.run('steady', ['sh', '-c', 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; usleep 5000; done'])
  await sleep(300)
  const gone = once(m.logger!, 'exit')
  m.logger?.kill('SIGKILL')
  await gone
  await sleep(300)
  await m.startLogger()
  await m.exited('steady', 20_000)
  const lines = (await m.text('steady')).trim().split('\n')
  assert.equal(lines.at(-1), '400')
  // The daemon's death may cost what was in its hands, not what came before or after.
  assert.ok(lines.length >= 395, `${lines.length} lines`)
  await m.engine.containers.remove('steady')
})

it('does not hold a container up when the disk is full, and says what was dropped', async () => {
  const dir = m.engine.containers.logDir('full')
  mkdirSync(dir, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir])
  try {
    // The first thousand lines fit, as 45 kB; what follows in one go does not.
    await m.run('full', ['sh', '-c', 'seq 1 1000; usleep 300000; seq 1001 20000; while [ ! -e /go ]; do usleep 20000; done; echo later'])
    const root = m.engine.containers.rootPath('full')
    await until(() => readFileSync(join(dir, 'current')).length > 40_000, 'the disk to fill')
    await sleep(1000)
    execFileSync('mount', ['-o', 'remount,size=8m', dir])
    writeFileSync(join(root ?? '', 'go'), '')
    assert.equal((await m.exited('full')).exitCode, 0)
    const lines = (await m.text('full')).trim().split('\n')
    // On a slow machine the disk may grow while the container still writes: then there is a gap, or more than one, before the end.
    const gaps = lines.map(l => /^\[gantry: (\d+) log lines dropped: no space left on device\]$/.exec(l)?.[1]).filter(n => n !== undefined)
    assert.equal(lines.at(-1), 'later')
    assert.ok(gaps.length > 0)
    assert.equal(lines.length - 1 - gaps.length + gaps.reduce((sum, n) => sum + Number(n), 0), 20_000, gaps.join(' '))
  } finally {
    execFileSync('umount', ['-l', dir])
    await m.engine.containers.remove('full', true)
  }
})

it('notices a killed shim', async () => {
  await m.run('orphaned', ['sleep', '100000'])
  const [shim] = m.shims()
  process.kill(shim!, 'SIGKILL')
  const exit = await m.exited('orphaned')
  assert.notEqual(exit.exitCode, 0)
  await m.engine.containers.start('orphaned')
  assert.equal(m.engine.containers.inspect('orphaned')?.state, 'running')
  await m.engine.containers.remove('orphaned', true)
})

it('ends what a killed runtime has left frozen', async () => {
  await m.run('frozen', ['sleep', '100000'])
  const { pid } = m.engine.containers.inspect('frozen')!
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n')
  const v1 = lines.find(l => l.split(':')[1] === 'freezer')
  if (v1 === undefined) writeFileSync(`/sys/fs/cgroup${lines[0]!.slice('0::'.length)}/cgroup.freeze`, '1')
  else writeFileSync(`/sys/fs/cgroup/freezer${v1.split(':')[2]}/freezer.state`, 'FROZEN')
  await m.engine.containers.remove('frozen', true)
  assert.equal(m.engine.containers.inspect('frozen'), undefined)
})

it('leaves nothing behind whenever the engine is killed, and never touches what is not its own', async () => {
  const client = m.client()
  m.ctr('snapshots', 'prepare', 'foreign-snapshot')
  await client.containers.create({
    id: 'foreign', runtime: { name: 'io.containerd.runc.v2' }, spec: { type_url: 'x', value: Buffer.from('{}') },
  })
  await m.engine.close()
  const crashes = [0, 5, 10, 20, 30, 45, 60, 80, 100]
  for (const [i, crashAfterMs] of crashes.entries()) {
    let p = await child()
    const exited = (): Promise<unknown> => p.exitCode === null && p.signalCode === null ? once(p, 'exit') : Promise.resolve()
    const spec = m.spec(`crash${i}`, ['sleep', '100000'])
    if (i % 3 === 0) {
      await tell(p, { do: 'create', spec, crashAfterMs })
    } else {
      await tell(p, { do: 'create', spec })
      if (i % 3 === 1) await tell(p, { do: 'start', id: spec.id, crashAfterMs })
      else {
        await tell(p, { do: 'start', id: spec.id })
        await tell(p, { do: 'remove', id: spec.id, crashAfterMs })
      }
    }
    await exited()
    p = await child()
    p.kill('SIGKILL')
    await exited()
  }
  await m.open()
  const known = m.engine.containers.list()
  for (const c of known) {
    if (c.state === 'running') assert.ok(existsSync(`/proc/${c.pid}`), `${c.id} runs`)
    await m.engine.containers.remove(c.id, true)
  }
  const containers = await client.containers.list()
  assert.deepEqual(containers.map((c) => c.id), ['foreign'])
  assert.deepEqual(await client.tasks.list(), [])
  const active = (await client.snapshots.list('overlayfs')).filter((s) => s.kind === 'ACTIVE').map((s) => s.name)
  assert.deepEqual(active, ['foreign-snapshot'])
  assert.deepEqual(await client.leases.list(), [])
  assert.deepEqual(readdirSync(join(m.options.dataDir, 'logs')), [])
  assert.deepEqual(readdirSync(join(m.options.dataDir, 'containers')), [])
  assert.deepEqual(readdirSync(join(m.options.runDir, 'fifo')).filter((n) => !n.startsWith('.stock-')), [])
  await until(() => m.shims().length === 0, 'the shims to go')
  await client.containers.delete('foreign')
  await client.snapshots.remove('overlayfs', 'foreign-snapshot')
  client.close()
  assert.ok(await m.engine.images.find(IMAGE))
})
