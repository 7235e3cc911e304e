/**
 * A part of a volume, for a mount that asks for no more. Whoever writes to the volume may swap a directory for a link at any moment,
 * so the part is found step by step by descriptors and bound, by its descriptor, to a place that nobody else writes to.
 */
import { execFile } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { mkdir, realpath } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { promisify } from 'node:util'
import { entryPath, Root } from '../files/root.ts'
import type { Located } from '../files/root.ts'
import { mountsBelow } from '../files/mounts.ts'
import { unmount } from './mounts.ts'
import { VolumeError } from './volumes.ts'

const MAX_LINKS = 40

export interface SubPathOptions {
  /** Makes what is missing as directories, and is told each one's path while it is open; without, what is missing is an error. */
  made?(path: string): void
}

/**
 * Binds the part `parts` of `root` to `target`, which is made; what was bound there before is let go of. VolumeError: `invalid` if it
 * leads out of `root`, `missing` if it is not there.
 */
export async function bindSubPath(root: string, parts: string[], target: string, options: SubPathOptions = {}): Promise<void> {
  await withPart(root, parts, options, (found) => bind(found, target))
}

/** Its path, links resolved and made if missing, in a volume that only we write to. VolumeErrors as above. */
export function subPathOf(root: string, parts: string[]): Promise<string> {
  return withPart(root, parts, { made: () => undefined }, (found, real) => Promise.resolve(join(real, found.path)))
}

async function withPart<T>(root: string, parts: string[], options: SubPathOptions, work: (found: Located, real: string) => Promise<T>): Promise<T> {
  const real = await realpath(root)
  const opened = new Root(real)
  try {
    const found = await walk(opened, real, parts, options)
    try {
      return await work(found, real)
    } finally {
      found.close()
    }
  } finally {
    opened.close()
  }
}

/** Lets go of all that is bound below `dir`. */
export async function unbindBelow(dir: string): Promise<void> { await unmount(mountsBelow(dir)) }

async function walk(root: Root, real: string, parts: string[], options: SubPathOptions): Promise<Located> {
  const text = parts.join('/')
  let here = '/'
  let links = 0
  for (const part of parts) {
    const next = join(here, part)
    const found = root.find(next, { followLast: false }) ?? make(root, here, part, options)
    if (found === undefined) throw missing(text)
    found.close()
    if (found.target === undefined) { here = found.path; continue }
    if (++links > MAX_LINKS) throw new VolumeError('invalid', `"${text}" has too many levels of links`)
    // Links are the host's: an absolute one is meant from its root.
    const resolved = await realpath(join(real, next)).catch(() => {
      throw options.made === undefined ? missing(text) : new VolumeError('invalid', `"${text}" leads through a link to nowhere`)
    })
    if (resolved !== real && !resolved.startsWith(real + sep)) throw new VolumeError('invalid', `"${text}" leads out of the volume`)
    here = resolved.slice(real.length) || '/'
  }
  const last = root.find(here, { followLast: false })
  if (last === undefined || last.target !== undefined) {
    last?.close()
    throw new VolumeError('missing', `"${text}" was changed while it was being looked for`)
  }
  return last
}

function missing(text: string): VolumeError { return new VolumeError('missing', `cannot access path ${text}: no such file or directory`) }

function make(root: Root, here: string, part: string, options: SubPathOptions): Located | undefined {
  if (options.made === undefined) return undefined
  const parent = root.find(here, { followLast: false })
  if (parent === undefined) return undefined
  try {
    mkdirSync(entryPath(parent.fd, part), { mode: 0o755 })
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e
  } finally {
    parent.close()
  }
  const found = root.find(join(here, part), { followLast: false })
  if (found?.stats.isDirectory() === true) options.made(`/proc/self/fd/${found.fd}`)
  return found
}

async function bind(found: Located, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true, mode: 0o700 })
  await unbindBelow(target)
  if (found.stats.isDirectory()) await mkdir(target, { recursive: true, mode: 0o700 })
  else closeSync(openSync(target, 'a', 0o600))
  try {
    await promisify(execFile)('mount', ['--bind', '--', `/proc/${process.pid}/fd/${found.fd}`, target], { timeout: 20_000 })
  } catch (e) {
    throw new VolumeError('failed', (e as { stderr?: string }).stderr?.trim() || (e as Error).message)
  }
}
