/** Docker's backend on this machine: real containerd, kernel networks, volumes; its process comes and goes, containers do not notice. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDocker } from '../../src/dialects/docker/engine/open.ts'
import type { OpenedDocker } from '../../src/dialects/docker/engine/open.ts'
import type { EventMessage, HostConfig } from '../../src/dialects/docker/model.ts'
import { IMAGE, TestMachine } from './engine-support.ts'

const root = process.getuid?.() === 0
const skip = root ? false : 'needs root: containers and network namespaces'
const machine = root ? new TestMachine() : undefined
const instance = `t${process.pid % 100_000}`
const bridge = `dlt${process.pid % 100_000}`
const problems: string[] = []
let docker: OpenedDocker

function open(): Promise<OpenedDocker> {
  const m = machine!
  const note = (message: string, fields?: Record<string, unknown>): void => { problems.push(`${message} ${JSON.stringify(fields ?? {})}`) }
  return openDocker({
    engine: m.engine, instance, bridge, dataDir: join(m.dir, 'docker'), runDir: join(m.dir, 'docker-run'), cgroupParent: m.cgroup,
    logger: { info: () => undefined, warn: note, error: note },
  })
}

before(async () => {
  if (machine === undefined) return
  await machine.start()
  docker = await open()
})

after(async () => {
  if (machine === undefined) return
  const all = await docker.backend.containers.list({ all: true, size: false, filters: {} })
  for (const c of all) await remove(c.Id)
  await docker.close()
  await machine.stop()
  for (const [command, ...args] of [['ip', 'link', 'del', bridge], ['nft', 'delete', 'table', 'inet', `gantry-cnm-${instance}`]]) {
    try { execFileSync(command!, args, { stdio: 'ignore' }) } catch { /* gone already */ }
  }
})

const b = () => docker.backend.containers
const remove = (ref: string): Promise<void> => b().remove(ref, { force: true, volumes: true, link: false })

async function create(name: string, Cmd: string[], hostConfig: HostConfig = {}, more: object = {}): Promise<string> {
  return (await b().create({ name, config: { Image: IMAGE, Cmd, ...more }, hostConfig, endpoints: {} })).Id
}

async function ended(ref: string): Promise<number> {
  const { result } = await b().wait(ref, 'not-running', AbortSignal.timeout(15_000))
  return (await result).StatusCode
}

async function framesOf(output: Readable): Promise<Record<number, string>> {
  const chunks: Buffer[] = []
  for await (const c of output) chunks.push(c as Buffer)
  const all = Buffer.concat(chunks)
  const out: Record<number, string> = {}
  for (let at = 0; at < all.length;) {
    const length = all.readUInt32BE(at + 4)
    out[all[at]!] = (out[all[at]!] ?? '') + all.toString('utf8', at + 8, at + 8 + length)
    at += 8 + length
  }
  return out
}

test('a run with --rm: its streams apart, its code, its events in order, nothing left', { skip }, async () => {
  const since = BigInt(Date.now()) * 1_000_000n
  const id = await create('once', ['sh', '-c', 'echo out; echo err >&2; exit 7'], { AutoRemove: true })
  const streams = await b().attach('once', { stream: true, stdin: false, stdout: true, stderr: true, logs: false })
  const { result } = await b().wait('once', 'removed', AbortSignal.timeout(15_000))
  await b().start('once')
  assert.deepEqual(await framesOf(streams.output), { 1: 'out\n', 2: 'err\n' })
  assert.equal((await result).StatusCode, 7)
  await assert.rejects(b().inspect(id, { size: false }), { kind: 'not-found', message: `No such container: ${id}` })
  const events: EventMessage[] = []
  const untilNs = BigInt(Date.now() + 1) * 1_000_000n
  for await (const e of docker.backend.events.subscribe({ sinceNs: since, untilNs, filters: {} }, AbortSignal.timeout(5000))) {
    if (e.Actor.ID === id || e.Actor.Attributes['container'] === id) events.push(e)
  }
  assert.deepEqual(events.map((e) => `${e.Type} ${e.Action}`), [
    'container create', 'container attach', 'network connect', 'container start', 'network disconnect', 'container die', 'container destroy'])
  assert.equal(events[5]?.Actor.Attributes['exitCode'], '7')
  assert.equal(machine!.engine.containers.inspect(id), undefined)
})

test('a program that cannot be started leaves the container created, with the code users know', { skip }, async () => {
  await create('absent', ['no-such-program'])
  await assert.rejects(b().start('absent'), /executable file not found/)
  const { State } = await b().inspect('absent', { size: false })
  assert.deepEqual([State.Status, State.ExitCode], ['created', 127])
  await remove('absent')
})

test('quick execs give their codes without delay', { skip }, async () => {
  await create('host', ['sleep', '1000'])
  await b().start('host')
  const { execs } = docker.backend
  const began = performance.now()
  for (let i = 0; i < 10; i++) {
    const { Id } = await execs.create('host', { Cmd: ['sh', '-c', 'exit 5'], AttachStdout: true, AttachStderr: true })
    const streams = await execs.start(Id, { detach: false })
    await framesOf(streams!.output)
    const after = await execs.inspect(Id)
    assert.deepEqual([after.Running, after.ExitCode], [false, 5])
  }
  assert.ok(performance.now() - began < 8000, 'ten execs took more than 8 s')
  await remove('host')
})

test('names, states and removals are refused as Docker refuses them', { skip }, async () => {
  const id = await create('taken', ['sleep', '1000'])
  await assert.rejects(create('taken', ['true']), { kind: 'conflict', message: new RegExp(`"/taken" is already in use by container "${id}"`) })
  await b().start('taken')
  await assert.rejects(b().start('taken'), { kind: 'not-modified' })
  await assert.rejects(b().remove('taken', { force: false, volumes: false, link: false }), { kind: 'conflict', message: /container is running: stop the container/ })
  await b().pause('taken')
  await assert.rejects(docker.backend.execs.create('taken', { Cmd: ['true'] }), /is paused, unpause the container before exec/)
  await b().unpause('taken')
  await b().rename('taken', 'renamed')
  await b().kill('renamed')
  assert.equal((await b().inspect('renamed', { size: false })).State.ExitCode, 137)
  await assert.rejects(b().kill('renamed'), { kind: 'conflict', message: /is not running/ })
  await remove('renamed')
})

test('policies restart, and stop when a person says so', { skip }, async () => {
  await create('failing', ['sh', '-c', 'exit 3'], { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } })
  await b().start('failing')
  for (let i = 0; i < 100 && (await b().inspect('failing', { size: false })).State.Status !== 'exited'; i++) await sleep(50)
  const { RestartCount, State } = await b().inspect('failing', { size: false })
  assert.deepEqual([RestartCount, State.Status, State.ExitCode], [2, 'exited', 3])
  await remove('failing')
})

test('a container lives on without us; exits meanwhile are seen, wishes to run are met, orphans are removed', { skip }, async () => {
  const m = machine!
  const lives = await create('lives', ['sleep', '1000'])
  const ends = await create('ends', ['sh', '-c', 'sleep 1; exit 9'])
  const always = await create('always', ['sleep', '1'], { RestartPolicy: { Name: 'always' } })
  const gone = await create('gone', ['sleep', '1'], { AutoRemove: true }, { Volumes: { '/data': {} } })
  for (const id of [lives, ends, always, gone]) await b().start(id)
  const { Pid } = (await b().inspect('lives', { size: false })).State
  await docker.close()
  await m.engine.close()
  // As if killed in the middle of a creation: the engine has it, no record of ours does.
  await sleep(1500)
  await m.open()
  await m.engine.containers.create({ ...m.spec('f'.repeat(64), ['true']), labels: { 'gantry.io/docker': 'f' } })
  await m.engine.containers.create(m.spec('not-dockers', ['true']))
  docker = await open()
  assert.equal((await b().inspect('lives', { size: false })).State.Pid, Pid)
  assert.equal(readFileSync(`/proc/${Pid}/comm`, 'utf8').trim(), 'sleep')
  for (let i = 0; i < 100; i++) {
    const states = await b().list({ all: true, size: false, filters: {} })
    if (states.length === 3 && states.find((c) => c.Id === always)?.State === 'running') break
    await sleep(50)
  }
  const after = new Map((await b().list({ all: true, size: false, filters: {} })).map((c) => [c.Id, c.State]))
  assert.deepEqual([...after].sort(), [[lives, 'running'], [ends, 'exited'], [always, 'running']].sort())
  assert.equal((await b().inspect('ends', { size: false })).State.ExitCode, 9)
  assert.equal(m.engine.containers.inspect('f'.repeat(64)), undefined, 'an orphan stays')
  assert.notEqual(m.engine.containers.inspect('not-dockers'), undefined, 'somebody else\'s container was removed')
  assert.equal((await docker.backend.volumes.list({})).Volumes.length, 0)
  assert.deepEqual(readdirSync(join(m.dir, 'docker/docker/files')).sort(), [lives, ends, always].sort())
  // The network is the same as before.
  assert.equal(await ended('ends'), 9)
  const { Id } = await docker.backend.execs.create('lives', { Cmd: ['ip', 'addr', 'show', 'eth0'], AttachStdout: true })
  assert.match((await framesOf((await docker.backend.execs.start(Id, { detach: false }))!.output))[1] ?? '', /inet 172\./)
  await m.engine.containers.remove('not-dockers')
})
