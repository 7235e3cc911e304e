/**
 * A directory whose files change all at once, in the layout that Kubernetes' users rely on: `NAME` links to `..data/NAME`,
 * `..data` links to a directory of one version, and a rename of `..data` is the change.
 */
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { relativeParts } from './paths.ts'
import type { ContentFile } from './volumes.ts'
import { VolumeError } from './volumes.ts'

export interface ContentRules {
  defaultMode: number
  fsGroup?: number
}

const dataLink = '..data'
const newDataLink = '..data_tmp'
const versionPrefix = '..v'

interface Planned { data: Buffer; mode: number }

/** Makes `directory` hold exactly `files`. False if it did already. A kill at any moment leaves the old or the new version. */
export async function writeContent(directory: string, files: ContentFile[], rules: ContentRules): Promise<boolean> {
  const wanted = plan(files, rules)
  const current = await readlink(join(directory, dataLink)).catch(() => undefined)
  if (current !== undefined && await holds(join(directory, current), wanted, rules)) {
    await tidy(directory, current, wanted)
    return false
  }
  const version = await mkdtemp(join(directory, versionPrefix))
  await chmod(version, 0o755)
  await fill(version, wanted, rules)
  const name = version.slice(directory.length + 1)
  await rm(join(directory, newDataLink), { force: true })
  await symlink(name, join(directory, newDataLink))
  await rename(join(directory, newDataLink), join(directory, dataLink))
  await tidy(directory, name, wanted)
  return true
}

function plan(files: ContentFile[], { defaultMode, fsGroup }: ContentRules): Map<string, Planned> {
  const wanted = new Map<string, Planned>()
  for (const { path, data, mode = defaultMode } of files) {
    const parts = relativeParts('file path', path)
    if (parts[0]!.startsWith('..')) throw new VolumeError('invalid', `file path "${path}" starts with "..", which is reserved`)
    if (!Number.isInteger(mode) || mode < 0 || mode > 0o777) throw new VolumeError('invalid', `mode ${mode} of "${path}" is not between 0 and 0777`)
    // As Kubernetes does: the group gets what it needs to make fsGroup worth having.
    wanted.set(parts.join('/'), { data: Buffer.from(data), mode: fsGroup === undefined ? mode : mode | ((mode & 0o400) >> 3) })
  }
  for (const path of wanted.keys()) {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      if (wanted.has(path.slice(0, slash))) throw new VolumeError('invalid', `"${path.slice(0, slash)}" is both a file and a directory`)
    }
  }
  return wanted
}

async function holds(version: string, wanted: Map<string, Planned>, { fsGroup }: ContentRules): Promise<boolean> {
  const present = await readdir(version, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = present.filter((entry) => !entry.isDirectory())
  if (present.length === 0 && wanted.size === 0) return (await stat(version).catch(() => undefined)) !== undefined
  if (files.length !== wanted.size) return false
  for (const [path, { data, mode }] of wanted) {
    const full = join(version, path)
    const info = await lstat(full).catch(() => undefined)
    if (info === undefined || !info.isFile() || (info.mode & 0o777) !== mode || info.size !== data.length) return false
    if (fsGroup !== undefined && info.gid !== fsGroup) return false
    if (!data.equals(await readFile(full))) return false
  }
  return true
}

async function fill(version: string, wanted: Map<string, Planned>, { fsGroup }: ContentRules): Promise<void> {
  const directories = new Set<string>()
  for (const [path, { data, mode }] of wanted) {
    const full = join(version, path)
    for (let parent = dirname(full); parent !== version && !directories.has(parent); parent = dirname(parent)) directories.add(parent)
    await mkdir(dirname(full), { recursive: true })
    await writeFile(full, data, { mode: 0o600, flag: 'wx' })
    if (fsGroup !== undefined) await chown(full, -1, fsGroup)
    // Apart from the making, which the process' umask would narrow.
    await chmod(full, mode)
  }
  for (const directory of [...directories, version]) {
    if (fsGroup !== undefined) await chown(directory, -1, fsGroup)
    await chmod(directory, fsGroup === undefined ? 0o755 : 0o2775)
  }
}

/** Links for what is there, no links for what is not, and no other versions. */
async function tidy(directory: string, version: string, wanted: Map<string, Planned>): Promise<void> {
  const names = new Set([...wanted.keys()].map((path) => path.split('/')[0]!))
  for (const entry of await readdir(directory)) {
    if (entry === dataLink || entry === version || names.has(entry)) continue
    await rm(join(directory, entry), { recursive: true, force: true })
  }
  for (const name of names) {
    const path = join(directory, name)
    const target = join(dataLink, name)
    if (await readlink(path).catch(() => undefined) === target) continue
    await rm(path, { recursive: true, force: true })
    await symlink(target, path)
  }
}
