/** Ends the daemons of a test's own engine, and lists from outside what that engine has on disk, in containerd and in the kernel. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { hierarchies } from '../../src/machines/cgroups.ts'
import type { EngineConfig } from '../../src/machines/layout.ts'
import { mountsBelow } from '../../src/files/mounts.ts'
import { identify, type ProcessId } from '../../src/machines/process.ts'
import { namesOf } from '../../src/network/cnm/names.ts'
import type { GantryEngine } from './docker.ts'
import { run, waitFor } from './gantry.ts'
import type { DockerApiClient } from './docker-api.ts'

export type EngineDaemon = 'engine' | 'logger' | 'containerd'

/** Numbers that look random and come again with the same seed (mulberry32). */
export class Dice {
  readonly seed: number
  #state: number

  constructor(seed: number) {
    this.seed = seed
    this.#state = seed >>> 0
  }

  /** From 0 up to 1, without 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number below `n`. */
  below(n: number): number { return Math.floor(this.next() * n) }
  of<T>(choices: readonly T[]): T { return choices[this.below(choices.length)]! }
  chance(p: number): boolean { return this.next() < p }
}

export const configOf = (e: GantryEngine): EngineConfig => JSON.parse(readFileSync(join(e.dir, 'lib/engine.json'), 'utf8')) as EngineConfig

const services = (e: GantryEngine): string => join(e.dir, 'run/services')

export function daemonProcess(e: GantryEngine, daemon: EngineDaemon): ProcessId | undefined {
  try {
    return identify(Number(readFileSync(join(services(e), `${daemon}.pid`), 'utf8')))
  } catch {
    return undefined
  }
}

/** kill -9; resolves when its supervisor has started it again, without the pause it makes for what keeps dying young. */
export async function killDaemon(e: GantryEngine, daemon: EngineDaemon): Promise<void> {
  const killed = daemonProcess(e, daemon)
  if (killed === undefined) throw new Error(`${daemon} does not run`)
  process.kill(killed.pid, 'SIGKILL')
  await waitFor(`${daemon} to be started again`, 20_000, () => {
    endPauses(e)
    const now = daemonProcess(e, daemon)
    return now !== undefined && (now.pid !== killed.pid || now.startTicks !== killed.startTicks)
  })
}

/** Ends the `sleep`s of the supervisor's loops. */
function endPauses(e: GantryEngine): void {
  const supervisor = Number(readFileSync(join(services(e), 'supervise.pid'), 'utf8'))
  for (const loop of childrenOf(supervisor)) {
    for (const pid of childrenOf(loop)) {
      try {
        if (readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n') process.kill(pid, 'SIGKILL')
      } catch {
        // It has ended.
      }
    }
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Resolves when Docker's API answers with its lists, and containerd its own. */
export async function answers(api: DockerApiClient): Promise<void> {
  await waitFor('the engine to answer', 30_000, async () => {
    const lists = await Promise.all(['/_ping', '/containers/json?all=1', '/images/json'].map(path => api.call('GET', path, { timeoutMs: 3_000 })))
    return lists.every(r => r.status === 200)
  })
}

const list = (dir: string): string[] => existsSync(dir) ? readdirSync(dir) : []

function walk(dir: string, found: (name: string, path: string) => void): void {
  for (const d of existsSync(dir) ? readdirSync(dir, { withFileTypes: true }) : []) {
    if (!d.isDirectory()) continue
    found(d.name, join(dir, d.name))
    walk(join(dir, d.name), found)
  }
}

const isId = (name: string): boolean => /^[0-9a-f]{64}$/.test(name)

/** What an engine has, by kind: sorted names. What it keeps in stock for speed counts by its number. */
export type Inventory = Record<string, string[]>

export async function inventory(e: GantryEngine): Promise<Inventory> {
  const c = configOf(e)
  const { table, group } = namesOf(c.instance)
  const ctr = async (...args: string[]): Promise<string[]> => {
    const r = await run('ctr', ['-a', c.containerdSocket, '-n', 'gantry', ...args])
    if (r.code !== 0) throw new Error(`ctr ${args.join(' ')}: ${r.stderr}`)
    return r.stdout.split('\n').filter(Boolean)
  }
  // containerd collects garbage when it likes: what is still held afterwards is what counts.
  await ctr('leases', 'create', '--id', 'test-collect')
  await ctr('leases', 'delete', '--sync', 'test-collect')
  const keys = (lines: string[]): string[] => lines.slice(1).map(l => l.split(/\s+/)[0]!)
  const [snapshots, leases, containers, tasks, ingests, blobs, rules, links, listening] = await Promise.all([
    ctr('snapshots', 'ls'), ctr('leases', 'ls', '-q'), ctr('containers', 'ls', '-q'), ctr('tasks', 'ls', '-q'), ctr('content', 'active'),
    ctr('content', 'ls', '-q'), run('nft', ['list', 'table', 'inet', table]), run('ip', ['-br', 'link', 'show', 'group', String(group)]),
    run('ss', ['-Hltunp']),
  ])
  const at = (...parts: string[]): string[] => list(join(c.dataDir, ...parts))
  const running = (...parts: string[]): string[] => list(join(c.runDir, ...parts))
  const bridged = links.stdout.split('\n').filter(Boolean).map(l => l.split(/[\s@]/)[0]!)
  const sandboxes = running('docker-netns/sandboxes').map(f => JSON.parse(readFileSync(join(c.runDir, 'docker-netns/sandboxes', f), 'utf8')) as
    { id: string; endpoints: { hostInterface: string; networkName: string }[]; netnsPath?: string })
  const used = new Set(sandboxes.flatMap(s => s.endpoints.map(x => x.hostInterface)))
  const usedFiles = new Set(sandboxes.map(s => s.netnsPath?.split('/').at(-1)))
  const cgroups = new Set<string>()
  for (const h of hierarchies()) walk(join(h, `gantry-${c.instance}`), name => { cgroups.add(name) })
  const volumes = at('volumes').map(v => {
    const r = JSON.parse(readFileSync(join(c.dataDir, 'volumes', v, 'volume.json'), 'utf8')) as { users: string[]; mounts: Record<string, unknown> }
    return `${v} used by ${r.users.toSorted().join(' ')} mounted for ${Object.keys(r.mounts).toSorted().join(' ')}`
  })
  const found: Inventory = {
    'snapshots': keys(snapshots), 'snapshot folders': [String(at('containerd/io.containerd.snapshotter.v1.overlayfs/snapshots').length)],
    leases, 'containerd containers': containers, 'tasks': tasks, 'ingests': ingests.slice(1), blobs,
    'nft': rules.stdout.split(/[\n,]/).map(l => l.replace(/elements = \{|\}|\s+/g, ' ').trim()).filter(l => l !== ''),
    'bridges': bridged.filter(l => !l.startsWith('veth')), 'veths': bridged.filter(l => l.startsWith('veth') && used.has(l)),
    'veths in stock': [String(bridged.filter(l => l.startsWith('veth') && !used.has(l)).length)],
    'namespaces in stock': [String(running('docker-netns/netns').filter(f => !usedFiles.has(f)).length)],
    'sandboxes': sandboxes.map(s => `${s.id} ${s.endpoints.map(x => x.networkName).toSorted().join(' ')}`),
    'cgroups': [...cgroups], 'fifos': running('engine/fifo').filter(f => !f.startsWith('.stock-')),
    'logger journals': running('logger.sock.journal'), 'bundles': running('containerd/io.containerd.runtime.v2.task/gantry'),
    'runtime states': running('engine/runtime/gantry'), 'shared memory': running('engine/shm'), 'views': running('engine/view').filter(f => !['merged', 'root', 'lower'].includes(f)),
    'mounts': mountsBelow(e.dir).map(m => m.replace(e.dir, '')).filter(m => !m.includes('/docker-netns/')),
    'docker records': at('docker/containers'), 'docker files': at('docker/files'), 'engine records': at('engine/containers'), 'logs': at('engine/logs'),
    'build steps': [...at('engine/build/mounts'), ...at('engine/build/run')], 'image spool': at('engine/images/spool'), volumes,
    'networks': at('networks/networks'),
    'ports': listening.stdout.split('\n').filter(l => l.includes(`pid=${daemonProcess(e, 'engine')?.pid},`)).map(l => l.split(/\s+/)).map(f => `${f[0]} ${f[4]}`),
    'shims': shims(c.containerdSocket),
  }
  for (const k of Object.keys(found)) found[k] = found[k]!.toSorted()
  return found
}

/** By the ids of their containers. */
function shims(socket: string): string[] {
  return readdirSync('/proc').filter(d => /^\d+$/.test(d)).flatMap(pid => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
      return args[0]!.includes('containerd-shim') && args.includes(socket) ? [args[args.indexOf('-id') + 1]!] : []
    } catch {
      return []
    }
  })
}

/** One line for each thing that came or went. */
export function difference(before: Inventory, now: Inventory): string[] {
  return Object.keys(now).flatMap(kind => {
    const [a, b] = [before[kind] ?? [], now[kind]!]
    const text = (sign: string, names: string[]): string[] => names.map(n => `${sign} ${kind}: ${n}`)
    return [...text('+', minus(b, a)), ...text('-', minus(a, b))]
  })
}

/** Each occurrence counts. */
function minus(a: string[], b: string[]): string[] {
  const left = [...b]
  return a.filter(x => {
    const i = left.indexOf(x)
    if (i >= 0) left.splice(i, 1)
    return i < 0
  })
}

/** Waits for the inventory to be as before; resolves with what still differs after `timeoutMs`. */
export async function leftOver(e: GantryEngine, before: Inventory, timeoutMs: number): Promise<string[]> {
  let last: string[] = []
  await waitFor('nothing to be left over', timeoutMs, async () => {
    last = difference(before, await inventory(e))
    return last.length === 0
  }).catch(() => undefined)
  return last
}

/** The inventory once nothing is on its way any more. */
export async function restingInventory(e: GantryEngine): Promise<Inventory> {
  let last = await inventory(e)
  await waitFor('the engine to come to rest', 30_000, async () => {
    await sleep(1000)
    const now = await inventory(e)
    const same = difference(last, now).length === 0
    last = now
    return same
  })
  return last
}

/**
 * Pulls that were cut off are held for whoever tries again, until their leases expire. Ends those leases; rejects if one would hold
 * for ever.
 */
export async function endPullLeases(e: GantryEngine): Promise<void> {
  const ctr = ['-a', configOf(e).containerdSocket, '-n', 'gantry', 'leases']
  const held = (await run('ctr', [...ctr, 'ls'])).stdout.split('\n').filter(l => l.startsWith('gantry-pull-'))
  for (const l of held) {
    if (!l.includes('containerd.io/gc.expire=')) throw new Error(`a lease without an end: ${l}`)
    await run('ctr', [...ctr, 'delete', l.split(/\s+/)[0]!])
  }
}

/** Open files of a process by what they are, for comparing counts. */
export function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\d{3,}/g, 'N')]
    } catch {
      return []
    }
  })
}

/** Resident memory. */
export function rssBytes(pid: number): number { return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024 }

export { isId }
