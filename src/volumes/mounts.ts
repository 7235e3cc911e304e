/** tmpfs mounts, by the machine's own `mount` and `umount`. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { VolumeError } from './volumes.ts'

const exec = promisify(execFile)
const timeoutMs = 20_000

/** Paths of all mounts at or below `root`, the deepest ones first. */
export async function mountsBelow(root: string): Promise<string[]> {
  const paths: string[] = []
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')) {
    // The kernel writes blanks and the like as octal escapes.
    const path = line.split(' ')[4]?.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
    if (path !== undefined && (path === root || path.startsWith(`${root}/`))) paths.push(path)
  }
  return paths.sort((a, b) => b.length - a.length)
}

export async function mountTmpfs(path: string, options: { sizeBytes?: number; mode: number }): Promise<void> {
  const settings = [`mode=${options.mode.toString(8)}`, 'nosuid', 'nodev', ...(options.sizeBytes === undefined ? [] : [`size=${options.sizeBytes}`])]
  await call('mount', ['-t', 'tmpfs', '-o', settings.join(','), 'tmpfs', path])
}

/** Lazily: a container that is just ending may still have it open. */
export async function unmount(paths: string[]): Promise<void> {
  if (paths.length > 0) await call('umount', ['-l', '--', ...paths])
}

async function call(command: string, args: string[]): Promise<void> {
  try {
    await exec(command, args, { timeout: timeoutMs })
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string }
    throw new VolumeError('failed', stderr?.trim() || message)
  }
}
