/**
 * Machines for network tests: namespaces joined by a bridge in a namespace of its own; nothing touches the real machine's
 * network.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import type { NetworkOptions, Peer, Sandbox } from '../../../src/network/network.ts'
import type { Request } from './network-machine.ts'

const exec = promisify(execFile)

export const clusterCIDR = '10.142.0.0/16'
export const serviceCIDR = '10.143.0.0/16'
export const outsideAddress = '172.31.99.254'

export async function ip(batch: string[]): Promise<void> {
  const child = spawn('ip', ['-batch', '-'], { stdio: ['pipe', 'inherit', 'inherit'] })
  child.stdin.end(batch.join('\n') + '\n')
  const [status] = await new Promise<[number]>((resolve) => child.on('close', (code) => resolve([code ?? 1])))
  if (status !== 0) throw new Error(`ip -batch ended with ${status}: ${batch.join('; ')}`)
}

/** Runs a program in the namespace bound to `path`; answers stdout, also when the program failed. */
export async function inside(path: string, command: string, ...args: string[]): Promise<{ status: number; output: string }> {
  try {
    const { stdout, stderr } = await exec('nsenter', [`--net=${path}`, '--', command, ...args], { timeout: 60_000, maxBuffer: 64 << 20 })
    return { status: 0, output: stdout + stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { status: code, output: `${stdout}${stderr}` }
  }
}

const script = (code: string): string[] => [process.execPath, '--input-type=module', '-e', code]

/** Starts JavaScript in a namespace and waits for its first line. */
export async function startInside(path: string, code: string): Promise<ChildProcess> {
  const child = spawn('nsenter', [`--net=${path}`, '--', ...script(code)], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve)
    child.once('close', () => reject(new Error('program in namespace ended early')))
  })
  return child
}

/** Answers every TCP connection with `text` and the address it came from, every datagram likewise. */
export function echoServer(text: string, port: number, host = '0.0.0.0'): string {
  return `import net from 'node:net'; import dgram from 'node:dgram'
    net.createServer((s) => { s.on('error', () => {}); s.end(${JSON.stringify(text)} + ' ' + s.remoteAddress) }).listen(${port}, '${host}', () => {
      const u = dgram.createSocket('udp4'); u.on('message', (m, f) => u.send(${JSON.stringify(text)} + ' ' + f.address, f.port, f.address))
      u.bind(${port}, '${host}', () => console.log('ready')) })`
}

/** `count` connections one after the other; answers what each said, or its error code. */
export async function talk(path: string, host: string, port: number, count = 1, protocol: 'tcp' | 'udp' = 'tcp'): Promise<string[]> {
  const one = protocol === 'tcp'
    ? `new Promise((r) => { const s = net.connect(${port}, '${host}'); let d = ''; s.setTimeout(3000, () => { s.destroy(); r('ETIMEDOUT') })
         s.on('data', (c) => d += c); s.on('error', (e) => r(e.code)); s.on('close', () => r(d)) })`
    : `new Promise((r) => { const s = dgram.createSocket('udp4'); const t = setTimeout(() => end('ETIMEDOUT'), 1500)
         const end = (v) => { clearTimeout(t); try { s.close() } catch {} ; r(v) }
         s.on('error', (e) => end(e.code)); s.connect(${port}, '${host}', () => { s.on('message', (m) => end(String(m))); s.send('x') }) })`
  const code = `import net from 'node:net'; import dgram from 'node:dgram'
    const out = []; for (let i = 0; i < ${count}; i++) out.push(await ${one}); console.log(JSON.stringify(out)); process.exit()`
  const { output } = await inside(path, ...(script(code) as [string, ...string[]]))
  return JSON.parse(output) as string[]
}

/** Sends `count` datagrams of `bytes` each; answers how many were answered. They may not be fragmented on the way. */
export async function datagrams(path: string, host: string, port: number, bytes: number, count: number): Promise<number> {
  const code = `import dgram from 'node:dgram'
    const s = dgram.createSocket('udp4'); let n = 0; const end = () => { console.log(n); process.exit() }
    s.on('error', () => {}); s.on('message', () => { if (++n === ${count}) end() }); setTimeout(end, 1500)
    s.connect(${port}, '${host}', () => { for (let i = 0; i < ${count}; i++) s.send(Buffer.alloc(${bytes})) })`
  return Number((await inside(path, ...(script(code) as [string, ...string[]]))).output)
}

export function tally(answers: string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const answer of answers) counts.set(answer.split(' ')[0]!, (counts.get(answer.split(' ')[0]!) ?? 0) + 1)
  return counts
}

/** A process in a machine's namespace that has the network open. */
export class Machine {
  readonly number: number
  readonly netns: string
  readonly address: string
  readonly podCIDR: string
  readonly options: NetworkOptions
  #child: ChildProcess | undefined
  #seq = 0
  readonly #bin: string
  readonly #nftLog: string
  readonly #waiting = new Map<number, (answer: { result?: unknown; tookMs: number; error?: { code?: string; message: string } }) => void>()

  constructor(number: number, netns: string, directory: string, overrides: Partial<NetworkOptions>) {
    this.number = number
    this.netns = netns
    this.address = `172.31.99.${number}`
    this.podCIDR = `10.142.${number}.0/24`
    this.#bin = join(directory, `bin-${number}`)
    this.#nftLog = join(directory, `nft-${number}`)
    this.options = {
      runDir: join(directory, `machine-${number}`), podCIDR: this.podCIDR, clusterCIDR, serviceCIDR, address: this.address,
      clusterDomain: 'cluster.local', instance: 'lab', upstreamDns: [`${outsideAddress}:5353`], ...overrides,
    }
  }

  get peer(): Peer {
    return { name: `machine-${this.number}`, address: this.address, podCIDR: this.podCIDR }
  }

  async start(): Promise<void> {
    await mkdir(this.#bin, { recursive: true })
    await writeFile(join(this.#bin, 'nft'), `#!/bin/sh\nprintf . >> ${this.#nftLog}\nexec /usr/sbin/nft "$@"\n`, { mode: 0o755 })
    const child = spawn('nsenter', [`--net=${this.netns}`, '--', process.execPath, join(import.meta.dirname, 'network-machine.ts')],
      { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, PATH: `${this.#bin}:${process.env['PATH']}` } })
    createInterface({ input: child.stdout }).on('line', (line) => {
      const answer = JSON.parse(line) as { seq: number; tookMs: number }
      this.#waiting.get(answer.seq)?.(answer)
      this.#waiting.delete(answer.seq)
    })
    this.#child = child
    await this.ask({ do: 'open', options: this.options })
  }

  /** How often the machine's process has started `nft`. */
  async nftCalls(): Promise<number> {
    return (await readFile(this.#nftLog, 'utf8')).length
  }

  /** The result and how long it took inside the machine's process. */
  async timed(request: Request): Promise<{ result: unknown; tookMs: number }> {
    const seq = ++this.#seq
    const answer = await new Promise<{ result?: unknown; tookMs: number; error?: { code?: string; message: string } }>((resolve) => {
      this.#waiting.set(seq, resolve)
      this.#child?.stdin?.write(JSON.stringify({ seq, request }) + '\n')
    })
    if (answer.error !== undefined) throw Object.assign(new Error(answer.error.message), { code: answer.error.code })
    return { result: answer.result, tookMs: answer.tookMs }
  }

  async ask<T = unknown>(request: Request): Promise<T> {
    return (await this.timed(request)).result as T
  }

  /** Does not wait for an answer: for kills in the midst. */
  tell(request: Request): void {
    this.#child?.stdin?.write(JSON.stringify({ seq: ++this.#seq, request }) + '\n')
  }

  sandbox(id: string, options: { ip?: string; ports?: Sandbox['ports'] } = {}): Promise<Sandbox> {
    return this.ask<Sandbox>({ do: 'createSandbox', id, ...options })
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    await new Promise((resolve) => {
      child.once('exit', resolve)
      child.kill('SIGKILL')
    })
  }
}

export interface Lab {
  machines: Machine[]
  /** Namespace of a host outside the cluster, at `outsideAddress`. */
  outside: string
  remove(): Promise<void>
}

/** Namespaces of laboratories whose process was killed. */
async function removeRemains(): Promise<void> {
  const { stdout } = await exec('ip', ['netns', 'list'])
  for (const [, netns, pid] of stdout.matchAll(/^(gl-[a-z]+(\d+)-\w+)/gm)) {
    const alive = await stat(`/proc/${pid}`).then(() => true, () => false)
    if (!alive) await exec('ip', ['netns', 'del', netns!]).catch(() => undefined)
  }
}

/** `name` keeps laboratories that run at the same time apart; at most 5 letters. */
export async function makeLab(name: string, count: number, overrides: Partial<NetworkOptions> = {}): Promise<Lab> {
  await removeRemains()
  const directory = await mkdtemp(join(tmpdir(), `gantry-${name}-`))
  const suffix = `${name}${process.pid}`
  const outside = `gl-${suffix}-out`
  const names = Array.from({ length: count }, (_, index) => `gl-${suffix}-${index + 1}`)
  const remove = async (): Promise<void> => {
    for (const machine of machines) await machine.kill()
    for (const netns of [...names, outside]) await exec('ip', ['netns', 'del', netns]).catch(() => undefined)
    const { stdout } = await exec('findmnt', ['-rno', 'TARGET']).catch(() => ({ stdout: '' }))
    const left = stdout.split('\n').filter((target) => target.startsWith(directory))
    if (left.length > 0) await exec('umount', ['-l', '--', ...left]).catch(() => undefined)
    await rm(directory, { recursive: true, force: true })
  }
  const pathOf = (netns: string): string => `/run/netns/${netns}`
  const machines = names.map((netns, index) => new Machine(index + 1, pathOf(netns), directory, overrides))
  try {
    await ip([`netns add ${outside}`, ...names.map((netns) => `netns add ${netns}`)])
    await inside(pathOf(outside), 'ip', 'link', 'add', 'br0', 'type', 'bridge')
    await inside(pathOf(outside), 'ip', 'addr', 'add', `${outsideAddress}/24`, 'dev', 'br0')
    await inside(pathOf(outside), 'ip', 'link', 'set', 'br0', 'up')
    await inside(pathOf(outside), 'ip', 'link', 'set', 'lo', 'up')
    for (const [index, netns] of names.entries()) {
      const path = pathOf(netns)
      await inside(path, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `m${index + 1}`, 'netns', outside)
      await inside(path, 'ip', 'addr', 'add', `172.31.99.${index + 1}/24`, 'dev', 'eth0')
      await inside(path, 'ip', 'link', 'set', 'eth0', 'up')
      await inside(path, 'ip', 'link', 'set', 'lo', 'up')
      await inside(path, 'ip', 'route', 'add', 'default', 'via', outsideAddress)
      await inside(pathOf(outside), 'ip', 'link', 'set', `m${index + 1}`, 'master', 'br0', 'up')
    }
    for (const machine of machines) await machine.start()
    for (const machine of machines) await machine.ask({ do: 'setPeers', peers: machines.map(({ peer }) => peer) })
  } catch (error) {
    await remove()
    throw error
  }
  return { machines, outside: pathOf(outside), remove }
}
