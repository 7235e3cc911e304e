/**
 * What a user of docker waits for: the same commands of Debian's docker client at Gantry's engine and at Debian's dockerd, in turns, both with
 * warm images, each daemon with a containerd of its own. Needs root: `node bench/docker.ts [ROUNDS] [NAME…]`, names as in `rows`.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Dockerd, GantryEngine } from '../test/support/docker.ts'
import type { DockerDaemon } from '../test/support/docker.ts'
import { run, waitFor } from '../test/support/gantry.ts'
import { busyboxArchive } from '../test/support/transcript.ts'
import { median, row, sleep, spread, timed } from './support.ts'

const [roundsText, ...only] = process.argv.slice(2)
const rounds = Number(roundsText ?? 7)
const PEERS = 2
const LINES = 1_000_000

/** Milliseconds of processor time that all of the machine has used. */
function busyMs(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))![1]!.split(' ').map(Number)
  return (user + nice + system + irq + softirq) * 10
}

async function busy(work: () => Promise<unknown>): Promise<number> {
  const from = busyMs()
  await work()
  return busyMs() - from
}

/** Runs `work` on both in turns, once each to warm up, and prints both medians and their ratio. */
async function compare(
  name: string, target: number, n: number, work: (d: DockerDaemon, round: number) => Promise<number>, daemons: DockerDaemon[], unit = 'ms',
): Promise<void> {
  const all = daemons.map(() => [] as number[])
  for (let i = -1; i < n; i++) {
    for (const [k, d] of daemons.entries()) {
      const value = await work(d, i)
      if (i >= 0) all[k]!.push(value)
    }
  }
  const [ours, theirs] = all as [number[], number[]]
  const ratio = median(ours) / median(theirs)
  const text = (v: number[]): string => (unit === 'ms' ? spread(v) : `${median(v).toFixed(0)} ${unit}`)
  const more = unit.endsWith('/s')
  row(name, `${ratio.toFixed(2)}: ${text(ours)} to ${text(theirs)}`, `${more ? '≥' : '≤'} ${target.toFixed(2)} ×`, more ? ratio >= target : ratio <= target)
}

const dir = mkdtempSync(join(tmpdir(), 'gantry-bench-docker-'))
const daemons: DockerDaemon[] = []

const quiet = (d: DockerDaemon, ...args: string[]): Promise<string> => d.ok(...args)
const removeAll = async (d: DockerDaemon): Promise<void> => {
  const ids = (await d.ok('ps', '-aq')).split('\n').filter(Boolean)
  for (let i = 0; i < ids.length; i += 25) await d.ok('rm', '-f', ...ids.slice(i, i + 25))
}

/** `work` for 0 … count − 1, `width` at a time. */
async function parallel(count: number, width: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  await Promise.all(Array.from({ length: width }, async () => { while (next < count) await work(next++) }))
}

const rows: Record<string, () => Promise<void>> = {
  async run() {
    const start = (more: string[]) => async (d: DockerDaemon, i: number): Promise<number> => {
      const name = `b${i + 1}`
      const ms = await timed(() => quiet(d, 'run', '-d', '--name', name, ...(d.name === 'gantry' ? more : []), 'busybox', 'sleep', '100000'))
      await quiet(d, 'rm', '-f', name)
      return ms
    }
    await compare('docker run -d, bridge, runc', 0.40, rounds, start([]), daemons)
    const crun = await daemons[0]!.docker('run', '--rm', '--runtime', 'crun', 'busybox', 'true')
    if (crun.code === 0) await compare('docker run -d, bridge, crun to dockerd with runc', 0.30, rounds, start(['--runtime', 'crun']), daemons)
    else row('docker run -d, bridge, crun', `not measured: ${crun.stderr.trim().split('\n')[0]}`)
    await compare('docker run --rm busybox true', 0.35, rounds, d => timed(() => quiet(d, 'run', '--rm', 'busybox', 'true')), daemons)
  },
  async many() {
    const wall: number[][] = [[], []], cpu: number[][] = [[], []]
    for (let i = -1; i < 3; i++) {
      for (const [k, d] of daemons.entries()) {
        let ms = 0
        const used = await busy(async () => { ms = await timed(() => parallel(100, 8, () => quiet(d, 'run', '-d', 'busybox', 'sleep', '100000'))) })
        await removeAll(d)
        if (i >= 0) { wall[k]!.push(ms); cpu[k]!.push(used) }
      }
    }
    for (const [what, v, target] of [['wall time', wall, 0.4], ['processor time of the machine, clients too', cpu, 0.6]] as const) {
      const ratio = median(v[0]!) / median(v[1]!)
      row(`100 containers by 8 clients, ${what}`, `${ratio.toFixed(2)}: ${spread(v[0]!)} to ${spread(v[1]!)}`, `≤ ${target.toFixed(2)} ×`, ratio <= target)
    }
  },
  async exec() {
    for (const d of daemons) await quiet(d, 'run', '-d', '--name', 'ex', 'busybox', 'sleep', '100000')
    await compare('docker exec … true', 0.65, rounds, d => timed(() => quiet(d, 'exec', 'ex', 'true')), daemons)
    for (const d of daemons) await removeAll(d)
  },
  async ps() {
    for (const d of daemons) await parallel(300, 4, i => quiet(d, 'create', '--name', `p${i}x`, '-l', `n=${i}`, '-p', '80', 'busybox', 'true'))
    await compare('docker ps -a, 300 containers', 0.7, rounds, d => timed(() => quiet(d, 'ps', '-a')), daemons)
    for (const d of daemons) await removeAll(d)
  },
  async logs() {
    // Neither may throw lines away: what is not kept is not read either.
    const write = ['--log-opt', 'max-size=1g', '--log-opt', 'max-file=2', 'busybox', 'sh', '-c', `yes "a line of a log, as long as many are: 0123456789 0123456789" | head -n ${LINES}`]
    let name = ''
    await compare(`a container that writes ${LINES} lines`, 0.7, 3, async (d, i) => {
      name = `w${i + 1}x`
      return timed(async () => { await quiet(d, 'run', '-d', '--name', name, ...write); await quiet(d, 'wait', name) })
    }, daemons)
    await compare('  its processor time', 1, 3, async (d, i) => {
      name = `c${i + 1}x`
      return busy(async () => { await quiet(d, 'run', '-d', '--name', name, ...write); await quiet(d, 'wait', name) })
    }, daemons)
    for (const d of daemons) {
      const kept = Number((await run('sh', ['-c', 'docker logs w1x | wc -l'], { env: d.env })).stdout)
      if (kept !== LINES) throw new Error(`${d.name} kept ${kept} of ${LINES} lines`)
    }
    await compare(`docker logs, ${LINES} lines`, 0.7, 3, d => timed(() => silent(d, 'logs', 'w1x')), daemons)
    await compare('  its processor time', 1, 3, d => busy(() => silent(d, 'logs', 'w1x')), daemons)
    for (const d of daemons) await removeAll(d)
  },
  async build() {
    const context = join(dir, 'build')
    mkdirSync(context, { recursive: true })
    const cold = async (d: DockerDaemon, i: number): Promise<number> => {
      writeFileSync(join(context, 'file'), `${d.name} ${i}`)
      writeFileSync(join(context, 'Dockerfile'), [
        'FROM busybox', `ENV ROUND=${i}${d.name}`, 'WORKDIR /app', 'COPY file /app/', 'RUN echo 1 > one', 'RUN echo 2 > two', 'LABEL a=b', 'RUN mkdir three && echo 3 > three/x',
        'COPY file /other/', 'EXPOSE 80', 'USER 1000', 'CMD ["sh"]', '',
      ].join('\n'))
      return timed(() => quiet(d, 'build', '-q', '-t', 'bench', context))
    }
    await compare('build of 12 steps, nothing cached', 0.5, 5, cold, daemons)
    await compare('build of 12 steps, all cached', 0.5, rounds, async (d, i) => {
      if (i === -1) await cold(d, -2)
      writeFileSync(join(context, 'file'), `${d.name} -2`)
      writeFileSync(join(context, 'Dockerfile'), readFileSync(join(context, 'Dockerfile'), 'utf8').replace(/ROUND=.*/, `ROUND=-2${d.name}`))
      return timed(() => quiet(d, 'build', '-q', '-t', 'bench', context))
    }, daemons)
  },
  async registry() {
    const port = 5000 + process.pid % 1000
    const image = `127.0.0.1:${port}/big:1`
    const registries = daemons.map(d => {
      const store = join(dir, `registry-${d.name}`)
      const config = join(dir, `registry-${d.name}.yml`)
      writeFileSync(config, `version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: ${store}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:${port}\n`)
      return { store, child: d.spawnInside('docker-registry', 'serve', config) }
    })
    try {
      // Half text, half noise: it compresses as images do.
      const context = join(dir, 'big')
      for (const n of [1, 2, 3]) {
        mkdirSync(join(context, `layer${n}`), { recursive: true })
        for (let i = 0; i < 5; i++) {
          await run('sh', ['-c', `(head -c 10000000 /dev/urandom; seq ${n * i * 1000 + 1} 2000000 | head -c 10000000) > ${join(context, `layer${n}`, `f${i}`)}`])
        }
      }
      writeFileSync(join(context, 'Dockerfile'), 'FROM busybox\nCOPY layer1 /1/\nCOPY layer2 /2/\nCOPY layer3 /3/\n')
      for (const d of daemons) {
        await quiet(d, 'build', '-q', '-t', image, context)
        await waitFor('the registry', 10_000, async () => (await d.inside('curl', '-sf', `http://127.0.0.1:${port}/v2/`)).code === 0)
      }
      await compare('docker push of 300 MB, local registry', 0.8, 3, async (d, i) => {
        // Nothing is there: a registry that knows the layers is not asked to take them.
        rmSync(registries[daemons.indexOf(d)]!.store, { recursive: true, force: true })
        if (i >= 0) await sleep(100)
        let said = ''
        const ms = await timed(async () => { said = await quiet(d, 'push', image) })
        if ((said.match(/: Pushed/g)?.length ?? 0) < 3) throw new Error(`${d.name} did not push all layers:\n${said}`)
        return ms
      }, daemons)
      await compare('docker pull of 300 MB, local registry', 0.8, 3, async d => {
        await quiet(d, 'rmi', '-f', image)
        await quiet(d, 'builder', 'prune', '-af')
        let said = ''
        const ms = await timed(async () => { said = await quiet(d, 'pull', image) })
        if ((said.match(/: Pull complete/g)?.length ?? 0) < 3) throw new Error(`${d.name} had layers already:\n${said}`)
        return ms
      }, daemons)
    } finally {
      for (const r of registries) r.child.kill('SIGKILL')
    }
  },
  async dns() {
    for (const d of daemons) {
      await quiet(d, 'network', 'create', 'names')
      for (const n of ['target', 'asker']) await quiet(d, 'run', '-d', '--network', 'names', '--name', n, 'busybox', 'sleep', '100000')
    }
    const questions = join(dir, 'questions')
    writeFileSync(questions, 'target A\n')
    await compare('lookups of a container\'s name', 2, 5, async d => {
      const pid = await quiet(d, 'inspect', '-f', '{{.State.Pid}}', 'asker')
      const r = await run('nsenter', [`--net=/proc/${pid}/ns/net`, '--', 'dnsperf', '-s', '127.0.0.11', '-d', questions, '-l', '2', '-c', '8', '-q', '64'])
      const answered = /Queries completed: +\d+ \(([\d.]+)%\)/.exec(r.stdout)?.[1]
      if (r.code !== 0 || !/Response codes: +NOERROR \d+ \(100\.00%\)/.test(r.stdout) || !(Number(answered) > 99)) throw new Error(`${d.name}: ${r.stdout}${r.stderr}`)
      return Number(/Queries per second: +([\d.]+)/.exec(r.stdout)![1])
    }, daemons, 'lookups/s')
    for (const d of daemons) { await removeAll(d); await quiet(d, 'network', 'rm', 'names') }
  },
  async memory() {
    for (const d of daemons) await parallel(50, 4, i => quiet(d, 'run', '-d', '--name', `m${i}x`, '-p', '80', 'busybox', 'sleep', '100000'))
    await sleep(5000)
    const [ours, theirs] = daemons.map(d => Math.round([...d.pids(), ...shims(d)].reduce((sum, pid) => sum + pssKb(pid), 0) / 1024)) as [number, number]
    row('idle memory of all daemons, 50 containers (proportional set size)', `${(ours / theirs).toFixed(2)}: ${ours} MB to ${theirs} MB`, '≤ 1.00 ×', ours <= theirs)
    for (const d of daemons) await removeAll(d)
  },
}

/** Runs docker with its output thrown away: a pipe to this process would be measured too. */
function silent(d: DockerDaemon, ...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('/usr/bin/docker', args, { env: d.env, stdio: ['ignore', 'ignore', 'inherit'] })
    child.once('error', reject)
    child.once('exit', code => (code === 0 ? resolve() : reject(new Error(`${d.name}: docker ${args.join(' ')} ended with ${code}`))))
  })
}

function pssKb(pid: number): number {
  try {
    return Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

/** Shims and proxies name their daemon's folder on their command line, or are its grandchildren. */
function shims(d: DockerDaemon): number[] {
  const own = new Set(d.pids())
  return readdirSync('/proc').filter(n => /^\d+$/.test(n)).map(Number).filter(pid => {
    if (own.has(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(d.dir) && readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('containerd-shim')
    } catch {
      return false
    }
  })
}

try {
  daemons.push(...await Promise.all([GantryEngine.start(), Dockerd.start()]))
  if (daemons.length !== PEERS) throw new Error('both daemons are needed')
  const archive = await busyboxArchive(dir, daemons[1]!)
  await daemons[0]!.ok('load', '-q', '-i', archive)
  for (const [name, measure] of Object.entries(rows)) if (only.length === 0 || only.includes(name)) await measure()
} finally {
  await Promise.all(daemons.map(async d => {
    await removeAll(d).catch(() => undefined)
    await d.stop()
  }))
  rmSync(dir, { recursive: true, force: true })
}
