/**
 * From nothing to a running container on a bridge network: a sandbox and a container of Gantry's against `docker run -d` of
 * Debian's dockerd, in turns, on the same containerd. dockerd runs in a network namespace of its own with its own files, so
 * that its bridge and its rules touch nothing of the machine's. Needs root, containerd, runc, busybox-static and docker.io:
 * `node bench/docker-start.ts [ROUNDS]`.
 */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, rmdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { busyboxTar, TestMachine } from '../test/integration/engine-support.ts'
import { inside, ip, makeLab } from '../test/integration/lab/network-lab.ts'
import { median, row, sleep, spread, timed } from './support.ts'

const run = promisify(execFile)
const rounds = Number(process.argv[2] ?? 10)
const WARM_UP = 2
const COMMAND = ['/bin/sleep', '100000']
const READY_MS = 30_000

/** A dockerd with a bridge in its own network namespace. */
class Docker {
  readonly #netns = `glb-docker-${process.pid}`
  readonly #dir: string
  readonly #cgroup = `/gantry-bench-${process.pid}`
  #daemon: ChildProcess | undefined

  constructor(dir: string) { this.#dir = dir }

  docker(...args: string[]): Promise<{ stdout: string }> { return run('/usr/bin/docker', ['-H', `unix://${this.#dir}/docker.sock`, ...args]) }

  async start(containerdSocket: string): Promise<void> {
    await ip([`netns add ${this.#netns}`])
    const path = `/run/netns/${this.#netns}`
    await inside(path, 'ip', 'link', 'set', 'lo', 'up')
    // Whatever this machine's own dockerd is told is not for this one.
    await writeFile(join(this.#dir, 'docker.json'), '{}')
    const log = openSync(join(this.#dir, 'dockerd.log'), 'a')
    this.#daemon = spawn('nsenter', [
      `--net=${path}`, '--', 'dockerd', '--data-root', join(this.#dir, 'docker'), '--exec-root', join(this.#dir, 'docker-exec'),
      '--pidfile', join(this.#dir, 'docker.pid'), '-H', `unix://${this.#dir}/docker.sock`, '--containerd', containerdSocket,
      '--bip', '10.199.0.1/24', '--cgroup-parent', this.#cgroup, '--config-file', join(this.#dir, 'docker.json'),
    ], { stdio: ['ignore', log, log] })
    closeSync(log)
    for (const end = Date.now() + READY_MS; ; await sleep(100)) {
      if (await this.docker('version').then(() => true, () => false)) break
      if (this.#daemon.exitCode !== null || Date.now() > end) {
        throw new Error(`dockerd did not start:\n${readFileSync(join(this.#dir, 'dockerd.log'), 'utf8').slice(-2000)}`)
      }
    }
    const archive = join(this.#dir, 'busybox.tar')
    await writeFile(archive, busyboxTar())
    await this.docker('import', archive, 'bench:1')
  }

  async stop(): Promise<void> {
    const daemon = this.#daemon
    if (daemon !== undefined && daemon.exitCode === null) {
      const gone = new Promise(resolve => daemon.once('exit', resolve))
      daemon.kill('SIGTERM')
      await gone
    }
    await ip([`netns del ${this.#netns}`])
    for (const c of ['memory', 'cpu', 'cpuacct', 'cpuset', 'devices', 'freezer', 'blkio', 'pids', 'net_cls', 'perf_event', 'hugetlb', 'systemd', 'unified', 'rdma', 'misc', '.']) {
      const dir = join('/sys/fs/cgroup', c, this.#cgroup)
      if (existsSync(dir)) try { rmdirSync(dir) } catch { /* a link to another one's folder */ }
    }
  }
}

const m = new TestMachine()
const docker = new Docker(m.dir)
await m.start()
try {
  await docker.start(m.options.containerdSocket)
  const lab = await makeLab('bds', 1)
  try {
    const [machine] = lab.machines
    const gantry: number[] = []
    const theirs: number[] = []
    for (let i = -WARM_UP; i < rounds; i++) {
      const id = `bench-${i + WARM_UP}`
      const ours = await timed(async () => {
        const sandbox = await machine!.sandbox(id)
        await m.engine.containers.create(m.spec(id, COMMAND, { network: { path: sandbox.netnsPath } }))
        await m.engine.containers.start(id)
      })
      await m.engine.containers.remove(id, true)
      await machine!.ask({ do: 'deleteSandbox', id })
      const peer = await timed(() => docker.docker('run', '-d', '--name', id, 'bench:1', ...COMMAND))
      await docker.docker('rm', '-f', id)
      if (i < 0) continue
      gantry.push(ours)
      theirs.push(peer)
    }
    const ratio = median(gantry) / median(theirs)
    row('start a container on a bridge, engine and sandbox', spread(gantry))
    row('  docker run -d on a bridge, same containerd', spread(theirs))
    row('  Gantry to docker run -d', ratio.toFixed(2), '≤ 0.35', ratio <= 0.35)
  } finally {
    await lab.remove()
  }
} finally {
  await docker.stop()
  await m.stop()
}
