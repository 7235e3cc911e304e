/** tmpfs mounts, by the machine's own `mount` and `umount`. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { VolumeError } from './volumes.ts'

const exec = promisify(execFile)
const timeoutMs = 20_000

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
