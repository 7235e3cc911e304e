/**
 * A snapshot mounted where only this engine sees it: in a mount namespace that a helper process holds. When the engine closes the
 * view, or dies, the helper reads the end of its input and goes, and the kernel unmounts everything with it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Mount } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import { Root } from '../../files/root.ts'

/** What to mount, by name; each gets a directory. */
export type ViewMounts = Record<string, Mount>

export interface View {
  /** Path of a mounted tree, good while the view is open. */
  path(name: string): string
  root(name: string): Root
  /** Mounts a directory of the machine over one of a tree, opened through {@link root}; `target` is its descriptor. */
  bind(source: string, target: number): Promise<void>
  /** Lets nothing be written through a mount; `root` is the descriptor of its own root, opened after {@link bind}. */
  protect(root: number): Promise<void>
  close(): Promise<void>
}

const MAX_STDERR = 2000

/** Mount all, then tell and wait for the end of the input. Arguments come in fours, and nothing of them is read as shell. */
const SCRIPT = 'while [ $# -gt 0 ]; do mount -n -t "$1" -o "$2" -- "$3" "$4" || exit 1; shift 4; done; echo; exec cat'

/** `dir`: an empty directory of the engine's own, in which the mounts' directories are made. */
export async function openView(dir: string, mounts: ViewMounts): Promise<View> {
  const base = snapshotsDirectory(Object.values(mounts))
  const args: string[] = []
  for (const [name, m] of Object.entries(mounts)) {
    const target = join(dir, name)
    mkdirSync(target, { recursive: true, mode: 0o700 })
    args.push(m.type === 'bind' ? 'none' : m.type, relativeOptions(m, base).join(','), m.source, target)
  }
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', '--', 'sh', '-c', SCRIPT, 'sh', ...args], { cwd: base ?? '/', stdio: 'pipe' })
  let stderr = ''
  holder.stderr.on('data', (d: Buffer) => { if (stderr.length < MAX_STDERR) stderr += d.toString() })
  holder.stdin.on('error', () => undefined)
  const gone = new Promise<void>((resolve) => {
    holder.once('error', (e) => { stderr += e.message; resolve() })
    holder.once('close', () => { resolve() })
  })
  const ready = await Promise.race([once(holder.stdout, 'data').then(() => true), gone.then(() => false)])
  if (!ready) throw new EngineError('failed', `the container's file system cannot be mounted: ${stderr.trim()}`)
  const path = (name: string): string => `/proc/${holder.pid}/root${join(dir, name)}`
  // As they stand: mount's own look at the paths would follow what we have opened.
  const mount = (options: string[], source: string, target: number): Promise<void> => (
    run('nsenter', [`--mount=/proc/${holder.pid}/ns/mnt`, '--', 'mount', '-n', '-c', ...options, '--', source, `/proc/${process.pid}/fd/${target}`]))
  return {
    path,
    root: (name) => new Root(path(name)),
    bind: (source, target) => mount(['--rbind'], source, target),
    protect: (root) => mount(['-o', 'remount,bind,ro'], 'none', root),
    close: async () => {
      holder.stdin.end()
      await gone
    },
  }
}

async function run(program: string, args: string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (d: Buffer) => { if (stderr.length < MAX_STDERR) stderr += d.toString() })
  const [code] = await once(child, 'close') as [number | null]
  if (code !== 0) throw new EngineError('failed', `${program}: ${stderr.trim()}`)
}

/** The directory above all layers of overlay mounts: their options must fit one page, which with many layers only relative paths do. */
function snapshotsDirectory(mounts: Mount[]): string | undefined {
  const layers = mounts.flatMap((m) => lowerDirectories(m))
  const first = layers[0]
  if (first === undefined) return undefined
  const base = dirname(dirname(first))
  return layers.every((l) => l.startsWith(`${base}/`)) ? base : undefined
}

function lowerDirectories(m: Mount): string[] {
  return m.options.find((o) => o.startsWith('lowerdir='))?.slice('lowerdir='.length).split(':') ?? []
}

function relativeOptions(m: Mount, base: string | undefined): string[] {
  if (base === undefined) return m.options
  return m.options.map((o) => o.startsWith('lowerdir=') ? `lowerdir=${lowerDirectories(m).map((l) => l.slice(base.length + 1)).join(':')}` : o)
}

/** A read-only look at directories, uppermost first; without any, an empty one. */
export function readOnlyMount(directories: string[]): Mount {
  const [first] = directories
  if (first === undefined) return { type: 'tmpfs', source: 'none', options: ['ro', 'size=4k'] }
  if (directories.length === 1) return { type: 'bind', source: first, options: ['bind', 'ro'] }
  return { type: 'overlay', source: 'overlay', options: ['ro', `lowerdir=${directories.join(':')}`] }
}
