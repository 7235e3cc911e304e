/** A machine for engine tests: a containerd and a log daemon of their own under /tmp, and an image made of busybox. */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { pack } from 'tar-stream'
import { connectContainerd, renderContainerdConfig } from '../../src/engine/containerd/index.ts'
import { LOGGER_NODE_FLAGS } from '../../src/engine/logger/flags.ts'
import { openEngine } from '../../src/engine/index.ts'
import type { ContainerSpec, Engine, EngineEvent, EngineOptions, LogOptions } from '../../src/engine/index.ts'

export const IMAGE = 'test/busybox:1'

export class TestMachine {
  readonly dir = mkdtempSync(join(tmpdir(), 'gantry-engine-'))
  readonly options: EngineOptions = {
    dataDir: join(this.dir, 'data'), runDir: join(this.dir, 'run'), containerdSocket: join(this.dir, 'run/containerd.sock'),
    loggerSocket: join(this.dir, 'run/logger.sock'),
  }
  readonly netns = join(this.dir, 'netns')
  readonly cgroup = `/gantry-test-${process.pid}`
  readonly events: EngineEvent[] = []
  containerd: ChildProcess | undefined
  logger: ChildProcess | undefined
  engine!: Engine

  async start(): Promise<void> {
    mkdirSync(this.options.runDir)
    const { containerdSocket: socket } = this.options
    writeFileSync(join(this.dir, 'containerd.toml'),
      renderContainerdConfig({ root: join(this.dir, 'data/containerd'), state: join(this.dir, 'run/containerd'), socket }))
    writeFileSync(this.netns, '')
    execFileSync('unshare', [`--net=${this.netns}`, 'true'])
    this.startContainerd()
    await this.startLogger()
    await this.open()
    await this.engine.images.import(busyboxTar(), IMAGE, { cmd: ['sh'], env: ['FROM_IMAGE=yes', 'OTHER=a'] })
  }

  startContainerd(): void {
    const log = openSync(join(this.dir, 'containerd.log'), 'a')
    this.containerd = spawn('containerd', ['-c', join(this.dir, 'containerd.toml')], { stdio: ['ignore', log, log] })
    closeSync(log)
  }

  async startLogger(): Promise<void> {
    const main = fileURLToPath(new URL('engine-logger.ts', import.meta.url))
    this.logger = spawn(process.execPath, [...LOGGER_NODE_FLAGS, main, this.options.loggerSocket], { stdio: 'inherit' })
    await until(() => existsSync(this.options.loggerSocket), 'the log daemon\'s socket')
  }

  async open(): Promise<void> {
    this.engine = await openEngine(this.options)
    this.engine.onEvent((e) => { this.events.push(e) })
  }

  spec(id: string, command: string[], more: Partial<ContainerSpec> = {}): ContainerSpec {
    return { id, image: IMAGE, args: command, network: { path: this.netns }, cgroupParent: this.cgroup, ...more }
  }

  async run(id: string, command: string[], more: Partial<ContainerSpec> = {}): Promise<void> {
    await this.engine.containers.create(this.spec(id, command, more))
    await this.engine.containers.start(id)
  }

  /** The exit event of this container after `from`. */
  async exited(id: string, timeoutMs = 15_000): Promise<EngineEvent & { type: 'exit' }> {
    await until(() => this.engine.containers.inspect(id)?.state === 'exited', `the exit of ${id}`, timeoutMs)
    return this.events.findLast((e): e is EngineEvent & { type: 'exit' } => e.type === 'exit' && e.id === id)!
  }

  async text(id: string, options: LogOptions = {}): Promise<string> {
    let out = ''
    for await (const l of this.engine.containers.logs(id, options)) out += `${l.text.toString()}${l.partial ? '' : '\n'}`
    return out
  }

  /** Runs to its end and gives its output. */
  async output(id: string, command: string[], more: Partial<ContainerSpec> = {}): Promise<string> {
    await this.run(id, command, more)
    await this.exited(id)
    const text = await this.text(id)
    await this.engine.containers.remove(id)
    return text
  }

  ctr(...args: string[]): string {
    return execFileSync('ctr', ['-a', this.options.containerdSocket, '-n', 'gantry', ...args], { encoding: 'utf8' })
  }

  async stop(): Promise<void> {
    for (const c of this.engine.containers.list()) await this.engine.containers.remove(c.id, true).catch(() => undefined)
    await this.engine.close()
    for (const p of [this.logger, this.containerd]) {
      if (p === undefined || p.exitCode !== null) continue
      const gone = new Promise((resolve) => p.once('exit', resolve))
      p.kill('SIGTERM')
      await gone
    }
    for (const pid of this.shims()) process.kill(pid, 'SIGKILL')
    for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n').reverse()) {
      const target = line.split(' ')[1]
      if (target?.startsWith(this.dir) === true) execFileSync('umount', ['-l', target])
    }
    rmSync(this.dir, { recursive: true, force: true })
    for (const c of ['memory', 'cpu', 'cpuacct', 'cpuset', 'devices', 'freezer', 'blkio', 'pids', 'systemd', 'unified', '.']) {
      try { execFileSync('rmdir', [join('/sys/fs/cgroup', c, this.cgroup)], { stdio: 'ignore' }) } catch { /* not on this machine */ }
    }
  }

  /** Pids of this containerd's shims. */
  shims(): number[] {
    return readdirSync('/proc').filter((p) => /^\d+$/.test(p)).map(Number).filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/exe`).endsWith('containerd-shim-runc-v2')
          && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(this.options.containerdSocket)
      } catch {
        return false
      }
    })
  }

  client(): ReturnType<typeof connectContainerd> {
    return connectContainerd({ socket: this.options.containerdSocket, namespace: 'gantry' })
  }
}

/** A root file system of a static busybox, with users, groups and a link out of the root. */
export function busyboxTar(): Readable {
  const tar = pack()
  const dir = (name: string, mode = 0o755): void => { tar.entry({ name, type: 'directory', mode }) }
  for (const d of ['bin', 'etc', 'proc', 'sys', 'dev', 'root', 'home', 'var']) dir(d)
  dir('tmp', 0o1777)
  tar.entry({ name: 'bin/busybox', mode: 0o755 }, readFileSync('/bin/busybox'))
  const applets = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n').filter((a) => a !== 'busybox')
  for (const a of applets) tar.entry({ name: `bin/${a}`, type: 'symlink', linkname: 'busybox' })
  tar.entry({ name: 'etc/passwd' }, 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n')
  tar.entry({ name: 'etc/group' }, 'root:x:0:\napp:x:1000:\nextra:x:2000:app\n')
  tar.entry({ name: 'etc/noexec.sh', mode: 0o644 }, '#!/bin/sh\n')
  tar.finalize()
  return Readable.from(tar)
}

export async function until(condition: () => boolean, what: string, timeoutMs = 10_000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await sleep(10)
  }
}
