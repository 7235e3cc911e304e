/** Docker daemons for tests and benchmarks: Gantry's engine, and Debian's dockerd as its peer, with the real docker command for both. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { root, run } from './gantry.ts'
import type { Result } from './gantry.ts'

const READY_MS = 60_000
/** Debian's, and a newer one where the machine has it. */
export const dockerCommands = ['/usr/bin/docker', '/usr/local/bin/docker'].filter(p => existsSync(p))

/** A daemon that speaks Docker's API. Everything it makes is gone after `stop`. */
export interface DockerDaemon {
  readonly name: 'gantry' | 'dockerd'
  readonly dir: string
  readonly socket: string
  /** DOCKER_HOST and an own HOME, for any client. */
  readonly env: NodeJS.ProcessEnv
  /** Debian's docker command. */
  docker(...args: string[]): Promise<Result>
  /** Like `docker`, but a failure throws with its output. Answers stdout without the last newline. */
  ok(...args: string[]): Promise<string>
  /** Runs a program where the daemon's published ports and bridges are. */
  inside(command: string, ...args: string[]): Promise<Result>
  /** Starts one there that goes on, e.g. a registry; end it by its pid. */
  spawnInside(command: string, ...args: string[]): ChildProcess
  /** Pids of the daemon's own processes and its containerd's; shims left out. */
  pids(): number[]
  /** Ends of its logs, for a failure's message. */
  logs(): string
  stop(): Promise<void>
}

abstract class Base {
  abstract readonly name: 'gantry' | 'dockerd'
  readonly dir: string
  constructor(prefix: string) {
    this.dir = mkdtempSync(join(tmpdir(), prefix))
    mkdirSync(join(this.dir, 'home'))
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void this.stop().finally(() => process.exit(1)))
  }

  abstract get socket(): string
  abstract logs(): string
  abstract stop(): Promise<void>

  get env(): NodeJS.ProcessEnv {
    return { PATH: process.env['PATH'], HOME: join(this.dir, 'home'), DOCKER_HOST: `unix://${this.socket}`, LC_ALL: 'C.UTF-8', TZ: 'UTC' }
  }

  docker(...args: string[]): Promise<Result> { return run('/usr/bin/docker', args, { env: this.env, timeoutMs: 300_000 }) }

  async ok(...args: string[]): Promise<string> {
    const r = await this.docker(...args)
    if (r.code !== 0) throw new Error(`${this.name}: docker ${args.join(' ')} ended with ${r.code}:\n${r.stdout}\n${r.stderr}\n${this.logs()}`)
    return r.stdout.replace(/\n$/, '')
  }
}

/** `gantry engine` with its files in a temporary folder. */
export class GantryEngine extends Base implements DockerDaemon {
  readonly name = 'gantry'
  readonly #args: string[]

  private constructor(args: string[]) {
    super('gantry-engine-')
    this.#args = args
  }

  static async start(...args: string[]): Promise<GantryEngine> {
    const engine = new GantryEngine(args)
    try {
      await engine.restart()
      return engine
    } catch (e) {
      await engine.stop()
      throw e
    }
  }

  get socket(): string { return join(this.dir, 'run', 'docker.sock') }
  get #env(): NodeJS.ProcessEnv { return { ...process.env, GANTRY_HOME: this.dir, NO_COLOR: '1' } }

  gantry(...args: string[]): Promise<Result> {
    return run(process.execPath, ['--disable-warning=ExperimentalWarning', join(root, 'src/cli/main.ts'), ...args], { env: this.#env, timeoutMs: 120_000 })
  }

  /** Starts it, or finds it running. */
  async restart(): Promise<void> {
    const r = await this.gantry('engine', '--detach', '--bridge', `gt${process.pid % 100_000}`, ...this.#args)
    if (r.code !== 0) throw new Error(`gantry engine ended with ${r.code}: ${r.stdout}${r.stderr}\n${this.logs()}`)
  }

  inside(command: string, ...args: string[]): Promise<Result> { return run(command, args) }
  spawnInside(command: string, ...args: string[]): ChildProcess { return spawn(command, args, { stdio: 'ignore' }) }

  pids(): number[] {
    return serviceLogs(this.dir).map(f => f.replace(/\.log$/, '.pid')).filter(f => existsSync(f)).map(f => Number(readFileSync(f, 'utf8')))
  }

  logs(): string { return serviceLogs(this.dir).map(f => `--- ${f}\n${readFileSync(f, 'utf8').split('\n').slice(-15).join('\n')}`).join('\n') }

  async stop(): Promise<void> {
    const r = await this.gantry('engine', 'stop', '--purge')
    if (r.code !== 0) throw new Error(`gantry engine stop --purge ended with ${r.code}: ${r.stdout}${r.stderr}`)
    rmSync(this.dir, { recursive: true, force: true })
  }
}

function serviceLogs(dir: string): string[] {
  const services = join(dir, 'run/services')
  return existsSync(services) ? ['engine', 'logger', 'containerd'].map(n => join(services, `${n}.log`)).filter(f => existsSync(f)) : []
}

/**
 * Debian's dockerd with a containerd of its own, in a network namespace of its own, so that its bridge and its rules touch nothing of the
 * machine's.
 */
export class Dockerd extends Base implements DockerDaemon {
  readonly name = 'dockerd'
  readonly #netns = `gtd-${process.pid}-${Math.floor(Math.random() * 1e6)}`
  readonly #cgroup = `/gantry-peer-${process.pid}`
  #daemon: ChildProcess | undefined

  private constructor() { super('gantry-dockerd-') }

  static async start(...args: string[]): Promise<Dockerd> {
    const d = new Dockerd()
    try {
      await d.#start(args)
      return d
    } catch (e) {
      await d.stop()
      throw e
    }
  }

  get socket(): string { return join(this.dir, 'docker.sock') }

  async #start(args: string[]): Promise<void> {
    await must('ip', 'netns', 'add', this.#netns)
    await must('ip', '-n', this.#netns, 'link', 'set', 'lo', 'up')
    writeFileSync(join(this.dir, 'docker.json'), '{}')
    const log = openSync(join(this.dir, 'dockerd.log'), 'a')
    this.#daemon = spawn('nsenter', [
      `--net=/run/netns/${this.#netns}`, '--', 'dockerd', '--data-root', join(this.dir, 'data'), '--exec-root', join(this.dir, 'exec'),
      '--pidfile', join(this.dir, 'docker.pid'), '-H', `unix://${this.socket}`, '--cgroup-parent', this.#cgroup,
      '--config-file', join(this.dir, 'docker.json'), ...args,
    ], { stdio: ['ignore', log, log] })
    closeSync(log)
    for (const end = Date.now() + READY_MS; ; await sleep(100)) {
      if ((await this.docker('version')).code === 0) return
      if (this.#daemon.exitCode !== null || Date.now() > end) throw new Error(`dockerd did not start:\n${this.logs()}`)
    }
  }

  inside(command: string, ...args: string[]): Promise<Result> { return run('nsenter', [`--net=/run/netns/${this.#netns}`, '--', command, ...args]) }

  spawnInside(command: string, ...args: string[]): ChildProcess {
    return spawn('nsenter', [`--net=/run/netns/${this.#netns}`, '--', command, ...args], { stdio: 'ignore' })
  }

  /** dockerd, its containerd and the userland proxies below it. */
  pids(): number[] { return this.#daemon?.pid === undefined ? [] : [this.#daemon.pid, ...children(this.#daemon.pid)] }

  logs(): string {
    const file = join(this.dir, 'dockerd.log')
    return existsSync(file) ? readFileSync(file, 'utf8').slice(-4000) : ''
  }

  async stop(): Promise<void> {
    const daemon = this.#daemon
    if (daemon !== undefined && daemon.exitCode === null) {
      // It leaves no container running when asked to end.
      const gone = new Promise(resolve => daemon.once('exit', resolve))
      daemon.kill('SIGTERM')
      await gone
    }
    await run('ip', ['netns', 'del', this.#netns])
    for (const c of ['memory', 'cpu', 'cpuacct', 'cpuset', 'devices', 'freezer', 'blkio', 'pids', 'net_cls', 'perf_event', 'hugetlb', 'systemd', 'unified', 'rdma', 'misc', '.']) {
      const dir = join('/sys/fs/cgroup', c, this.#cgroup)
      if (existsSync(dir)) try { rmdirSync(dir) } catch { /* a link to another one's folder */ }
    }
    rmSync(this.dir, { recursive: true, force: true })
  }
}

async function must(command: string, ...args: string[]): Promise<void> {
  const r = await run(command, args)
  if (r.code !== 0) throw new Error(`${command} ${args.join(' ')}: ${r.stderr}`)
}

/** Of each of its threads: a Go program starts others from any. */
function children(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap(thread => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number))
  } catch {
    return []
  }
}
