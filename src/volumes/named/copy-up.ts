/** Filling an empty volume from a folder of an image. */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { chmod, lstat, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { NamedVolumeError } from './named.ts'

const exec = promisify(execFile)
const COPY_MS = 30 * 60_000
/** How names of copies under way begin, beside the volume's data; worth nothing after a restart. */
export const FILLING = '_filling-'

export async function isFolder(path: string): Promise<boolean> { return (await stat(path).catch(() => undefined))?.isDirectory() === true }

export async function isEmpty(path: string): Promise<boolean> { return (await readdir(path)).length === 0 }

/**
 * Copies beside `target`, then swaps: `target` (empty, and nobody's mount) is whole or empty, whenever this process dies. Needs a
 * folder above `target` of our own.
 */
export async function fillBySwap(source: string, target: string): Promise<void> {
  // A name of its own: a predecessor's cp may still be at work.
  const temporary = await mkdtemp(join(dirname(target), FILLING))
  await chmod(temporary, 0o755)
  try {
    await fillInPlace(source, temporary)
    // Replaces an empty folder in one step; fails if something has come into it meanwhile, which then stays.
    await rename(temporary, target)
  } catch (e) {
    await rm(temporary, { recursive: true, force: true })
    if ((e as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw e
  }
}

/**
 * Copies beside `target`, where no container sees it, and moves what is there into `target`, which containers write to meanwhile: a name
 * that exists by then stays as it is. Needs a folder above `target` of our own, on the same file system.
 */
export async function fillByMoves(source: string, target: string): Promise<void> {
  const temporary = await mkdtemp(join(dirname(target), FILLING))
  const folder = await open(target, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await fillInPlace(source, temporary)
    const into = `/proc/self/fd/${folder.fd}`
    for (const name of await readdir(temporary)) {
      if (await lstat(join(into, name)).catch(() => undefined) === undefined) await rename(join(temporary, name), join(into, name))
    }
    const { uid, gid, mode, atime, mtime } = await stat(source)
    await folder.chown(uid, gid)
    await folder.chmod(mode & 0o7777)
    await folder.utimes(atime, mtime)
  } finally {
    await folder.close()
    await rm(temporary, { recursive: true, force: true })
  }
}

/** cp(1) keeps what Node cannot: extended attributes, hard links, the times of links, devices. Existing files are replaced. */
export async function fillInPlace(source: string, target: string): Promise<void> {
  try {
    await exec('cp', ['-a', '--reflink=auto', '--', `${source}/.`, `${target}/`], { timeout: COPY_MS, maxBuffer: 16 << 20 })
  } catch (e) {
    const { stderr, message } = e as Error & { stderr?: string }
    throw new NamedVolumeError('failed', `cannot copy ${source} into the volume: ${stderr?.trim().split('\n')[0] || message}`)
  }
}
