/**
 * Reads small files of a container's file system without mounting it: through the directories its snapshot's mount is made
 * of, newest first. Symbolic links are followed inside the container's own root and never out of it.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { Mount } from '../containerd/index.ts'

const MAX_LINKS = 40

/** Directories of a snapshot's mount, upper first; undefined for a kind that cannot be read this way. */
export function layerDirectories(mounts: Mount[]): string[] | undefined {
  const mount = mounts[0]
  if (mount === undefined || mounts.length !== 1) return undefined
  if (mount.type === 'bind') return [mount.source]
  if (mount.type !== 'overlay') return undefined
  const option = (name: string): string | undefined => mount.options.find((o) => o.startsWith(`${name}=`))?.slice(name.length + 1)
  const upper = option('upperdir')
  const lower = option('lowerdir')?.split(':') ?? []
  return upper === undefined ? lower : [upper, ...lower]
}

/** Content of a regular file of at most `maxBytes`, or undefined if there is none at `path` (absolute in the container). */
export function readInRoot(layers: string[], path: string, maxBytes: number): string | undefined {
  const found = resolve(layers, path)
  if (found === undefined) return undefined
  let fd: number
  try {
    fd = openSync(found, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile() || stat.size > maxBytes) return undefined
    const data = Buffer.alloc(stat.size)
    return data.toString('utf8', 0, readSync(fd, data, 0, stat.size, 0))
  } finally {
    closeSync(fd)
  }
}

/** Host path of what `path` names, links resolved. Every component is looked up by itself, in the layers that may hold it. */
function resolve(layers: string[], path: string): string | undefined {
  let todo = path.split('/').filter((p) => p !== '')
  let done: string[] = []
  for (let links = 0; todo.length > 0;) {
    const part = todo.shift() as string
    if (part === '.') continue
    if (part === '..') { done.pop(); continue }
    const host = find(layers, [...done, part])
    if (host === undefined) return undefined
    if (!lstatSync(host).isSymbolicLink()) { done.push(part); continue }
    if (++links > MAX_LINKS) return undefined
    const target = readlinkSync(host)
    if (target.startsWith('/')) done = []
    todo = [...target.split('/').filter((p) => p !== ''), ...todo]
  }
  return find(layers, done)
}

/** The newest layer's entry for a path whose parents are no links; undefined if a whiteout hides it. */
function find(layers: string[], parts: string[]): string | undefined {
  search: for (const layer of layers) {
    let host = layer
    for (const [i, part] of parts.entries()) {
      host = join(host, part)
      let stat
      try {
        stat = lstatSync(host)
      } catch {
        continue search
      }
      if (stat.isCharacterDevice() && stat.rdev === 0) return undefined
      // A file over a directory of the layers below, or a link there: nothing below shows through.
      if (i < parts.length - 1 && !stat.isDirectory()) return undefined
    }
    return host
  }
  return undefined
}
