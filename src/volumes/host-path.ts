/** Kubernetes' checks of a hostPath. */
import { mkdir, open, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { HostPathType } from './volumes.ts'
import { VolumeError } from './volumes.ts'

export async function checkHostPath(path: string, check: HostPathType): Promise<void> {
  if (!isAbsolute(path) || path.includes('\0')) throw new VolumeError('invalid', `hostPath "${path}" must be an absolute path`)
  if (path.split('/').includes('..')) throw new VolumeError('invalid', `hostPath "${path}" contains ".."`)
  if (check === 'DirectoryOrCreate') await make(path, () => mkdir(path, { recursive: true, mode: 0o755 }))
  if (check === 'FileOrCreate') await make(path, async () => (await open(path, 'a', 0o644)).close())
  if (check === '') return
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new VolumeError('check', error.code === 'ENOENT' ? `hostPath ${path} does not exist` : `hostPath ${path}: ${error.message}`)
  })
  const fits: Record<Exclude<HostPathType, ''>, [boolean, string]> = {
    DirectoryOrCreate: [info.isDirectory(), 'a directory'],
    Directory: [info.isDirectory(), 'a directory'],
    FileOrCreate: [info.isFile(), 'a file'],
    File: [info.isFile(), 'a file'],
    Socket: [info.isSocket(), 'a socket'],
    CharDevice: [info.isCharacterDevice(), 'a character device'],
    BlockDevice: [info.isBlockDevice(), 'a block device'],
  }
  const rule = (fits as Record<string, [boolean, string] | undefined>)[check]
  if (rule === undefined) throw new VolumeError('invalid', `hostPath type "${check}" is unknown`)
  if (!rule[0]) throw new VolumeError('check', `hostPath ${path} is not ${rule[1]}`)
}

async function make(path: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    // Something else is there: the check that follows says what is wrong with it.
    if (code !== 'EEXIST' && code !== 'EISDIR') throw new VolumeError('failed', `hostPath ${path} cannot be made: ${message}`)
  }
}
