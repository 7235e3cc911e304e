/**
 * Reads small files of a container's file system without mounting it: through the directories its snapshot's mount is made
 * of, newest first. Symbolic links are followed inside the container's own root and never out of it.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { entryPath, fdPath, O_PATH } from '../../files/root.ts'
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
  let fd: number | undefined
  try {
    if (!fstatSync(found).isFile()) return undefined
    fd = openSync(fdPath(found), constants.O_RDONLY)
    const { size } = fstatSync(fd)
    if (size > maxBytes) return undefined
    const data = Buffer.alloc(size)
    return data.toString('utf8', 0, readSync(fd, data, 0, size, 0))
  } catch {
    return undefined
  } finally {
    closeSync(found)
    if (fd !== undefined) closeSync(fd)
  }
}

/** Descriptor (O_PATH) of what `path` names, links resolved. Every component is looked up by itself, in the layers that may hold it. */
function resolve(layers: string[], path: string): number | undefined {
  let todo = path.split('/').filter((p) => p !== '')
  let done: string[] = []
  let found: number | undefined
  for (let links = 0; todo.length > 0;) {
    const part = todo.shift() as string
    if (part === '.') continue
    if (part === '..') { done.pop(); continue }
    const entry = find(layers, [...done, part])
    if (entry === undefined) return undefined
    if (entry.target === undefined) {
      done.push(part)
      if (todo.length === 0) found = entry.fd
      else closeSync(entry.fd)
      continue
    }
    closeSync(entry.fd)
    if (++links > MAX_LINKS) return undefined
    if (entry.target.startsWith('/')) done = []
    todo = [...entry.target.split('/').filter((p) => p !== ''), ...todo]
  }
  return found
}

/** The newest layer's entry for a path whose parents are no links; undefined if a whiteout hides it. */
function find(layers: string[], parts: string[]): { fd: number; target?: string } | undefined {
  for (const layer of layers) {
    const found = findIn(layer, parts)
    if (found === 'hidden') return undefined
    if (found !== 'absent') return found
  }
  return undefined
}

/** By descriptors: the container may put links where directories were while we look. */
function findIn(layer: string, parts: string[]): { fd: number; target?: string } | 'hidden' | 'absent' {
  let directory = openSync(layer, O_PATH | constants.O_DIRECTORY)
  try {
    for (const [i, part] of parts.entries()) {
      const path = entryPath(directory, part)
      const fd = openSync(path, O_PATH | constants.O_NOFOLLOW)
      let kept = false
      try {
        const stat = fstatSync(fd)
        if (stat.isCharacterDevice() && stat.rdev === 0) return 'hidden'
        if (i === parts.length - 1) {
          const target = stat.isSymbolicLink() ? readlinkSync(path) : undefined
          kept = true
          return { fd, ...(target === undefined ? {} : { target }) }
        }
        // A file over a directory of the layers below, or a link there: nothing below shows through.
        if (!stat.isDirectory()) return 'hidden'
        closeSync(directory)
        directory = fd
        kept = true
      } finally {
        if (!kept) closeSync(fd)
      }
    }
    return 'absent'
  } catch {
    return 'absent'
  } finally {
    closeSync(directory)
  }
}
