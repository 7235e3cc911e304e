/**
 * Folders of runs that containerd forgot. Clearing away a run that ended while another of the same container began, containerd 1.6
 * can leave the new one's folder behind; every later start then fails of it until containerd is started again.
 */
import { execFile } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { promisify } from 'node:util'
import { mountsBelow } from '../../files/mounts.ts'

const IN_THE_WAY = /failed to start shim: mkdir (\/[^:]*\/io\.containerd\.runtime\.v2\.task\/[^/:]+\/([^/:]+)): file exists/

/** The folder that a start of container `id` failed of, from containerd's words. */
export function folderInTheWay(message: string, id: string): string | undefined {
  const [, path, owner] = IN_THE_WAY.exec(message) ?? []
  return owner === id ? path : undefined
}

/** Only for a container without a task or shim. What is mounted there is taken away first, and nothing removed if it stays. */
export async function removeBundle(path: string): Promise<void> {
  for (const p of mountsBelow(path)) await promisify(execFile)('umount', ['-l', p])
  if (mountsBelow(path).length > 0) return
  for (const p of [workFolder(path), path]) if (p !== undefined) await rm(p, { recursive: true, force: true })
}

/** Under containerd's root, where `path` is under its state. */
function workFolder(path: string): string | undefined {
  try {
    const target = readlinkSync(`${path}/work`)
    return isAbsolute(target) && target.endsWith(path.slice(path.indexOf('/io.containerd.runtime.v2.task/'))) ? target : undefined
  } catch {
    return undefined
  }
}
