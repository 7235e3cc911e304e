/** The driver `local`: a folder of this machine, or whatever mount(8) can put there. */
import { execFile } from 'node:child_process'
import { lookup } from 'node:dns/promises'
import { lstat, opendir } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { mountsBelow } from '../../files/mounts.ts'
import { unmount } from '../mounts.ts'
import type { Driver } from './driver.ts'
import { NamedVolumeError } from './named.ts'
import type { RecordStore, VolumeRecord } from './records.ts'
import { checkLocalName, checkLocalOptions } from './rules.ts'

const exec = promisify(execFile)
/** A server that does not answer must not hold a start up for ever. */
const MOUNT_MS = 60_000
/** MS_* of mount(2). */
const FLAGS: Record<string, number> = {
  ro: 0x1, nosuid: 0x2, nodev: 0x4, noexec: 0x8, sync: 0x10, remount: 0x20, mand: 0x40, dirsync: 0x80, noatime: 0x400, nodiratime: 0x800,
  bind: 0x1000, rbind: 0x5000, relatime: 0x200000, strictatime: 0x1000000, rw: 0, defaults: 0,
}

export class LocalDriver implements Driver {
  readonly #records: RecordStore

  constructor(records: RecordStore) { this.#records = records }

  async create(name: string, options: Record<string, string>): Promise<{ scope: 'local' }> {
    checkLocalName(name)
    checkLocalOptions(name, options)
    return { scope: 'local' }
  }

  async remove(v: VolumeRecord): Promise<void> {
    const folder = this.#records.folder(v.name)
    await unmount(mountsBelow(folder))
    // Deleting through a mount would delete another's files.
    const left = mountsBelow(folder)
    if (left.length > 0) throw new NamedVolumeError('failed', `${left[0]} is still mounted`)
  }

  async describe(v: VolumeRecord): Promise<{ mountpoint: string }> { return { mountpoint: this.#records.dataPath(v.name) } }

  async mount(v: VolumeRecord): Promise<string> {
    const path = this.#records.dataPath(v.name)
    const { type, device, o = '' } = v.options
    if (device === undefined || type === undefined || (mountsBelow(path)).includes(path)) return path
    const options = await resolved(o)
    try {
      await exec('mount', ['-t', type, ...(options === '' ? [] : ['-o', options]), '--', device, path], { timeout: MOUNT_MS })
    } catch (e) {
      throw new NamedVolumeError('failed', `error while mounting volume '${path}': failed to mount local volume: mount ${device}:${path}` +
        `${flagsText(o)}: ${reason(e)}`)
    }
    return path
  }

  async unmount(v: VolumeRecord, _user: string, last: boolean): Promise<void> {
    if (!last || v.options['device'] === undefined) return
    const path = this.#records.dataPath(v.name)
    await unmount((mountsBelow(path)).filter((m) => m === path))
  }

  /** As dockerd counts: files' sizes, folders not, hard links once; nothing for what lies elsewhere. */
  async usage(v: VolumeRecord): Promise<number> {
    return Object.keys(v.options).length > 0 ? -1 : bytesBelow(this.#records.dataPath(v.name), new Set())
  }
}

/** The kernel takes addresses, not names, where no mount helper looks them up: `addr=HOST` of nfs and cifs. */
async function resolved(options: string): Promise<string> {
  const host = /(?:^|,)addr=([^,]+)/.exec(options)?.[1]
  if (host === undefined || isIP(host) !== 0) return options
  const { address } = await lookup(host).catch((e: unknown) => {
    throw new NamedVolumeError('failed', `failed to mount local volume: error resolving passed in network volume address: ${(e as Error).message}`)
  })
  return options.replace(`addr=${host}`, `addr=${address}`)
}

/** Options as dockerd shows them in an error: the kernel's flags as a number, the rest as it is. */
function flagsText(options: string): string {
  const parts = options.split(',').filter((o) => o !== '')
  const flags = parts.reduce((sum, o) => sum | (FLAGS[o] ?? 0), 0)
  const data = parts.filter((o) => FLAGS[o] === undefined).join(',')
  return `${flags === 0 ? '' : `, flags: 0x${flags.toString(16)}`}${data === '' ? '' : `, data: ${data}`}`
}

/** What mount(8) said, less its own name and the path, in the kernel's words where it hands them on. */
function reason(e: unknown): string {
  const { stderr, message, killed } = e as Error & { stderr?: string; killed?: boolean }
  if (killed === true) return `no answer within ${MOUNT_MS / 1000} s`
  const line = stderr?.split('\n').find((l) => l.startsWith('mount')) ?? message
  const last = line.split(': ').slice(2).join(': ') || line
  return /special device .* does not exist/.test(last) ? 'no such file or directory' : last.trim().replace(/\.$/, '')
}

async function bytesBelow(path: string, seen: Set<bigint>): Promise<number> {
  let bytes = 0
  // What is deleted while we look is passed over.
  const folder = await opendir(path).catch(() => undefined)
  if (folder === undefined) return 0
  for await (const entry of folder) {
    const full = join(path, entry.name)
    if (entry.isDirectory()) {
      bytes += await bytesBelow(full, seen)
      continue
    }
    const s = await lstat(full, { bigint: true }).catch(() => undefined)
    if (s === undefined || s.nlink > 1n && seen.has(s.ino)) continue
    if (s.nlink > 1n) seen.add(s.ino)
    bytes += Number(s.size)
  }
  return bytes
}
