/**
 * Paths inside a tree that may be hostile and may change meanwhile: a container's root. Every component is opened by itself
 * through the descriptor of its directory, links are read and followed here, and `..` goes back along the descriptors that were
 * opened, so that nothing outside of the root can be reached whatever is renamed or linked while we look.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readlinkSync } from 'node:fs'
import type { Stats } from 'node:fs'

/** Linux's O_PATH: a descriptor that only names; opening it neither waits for a FIFO nor wakes a device. */
export const O_PATH = 0o10000000
const MAX_LINKS = 255

/** A path that cannot be: what is wrong with it. */
export class PathError extends Error {}

/** The name of an entry of an opened directory, for any system call. The last component is not followed by those that do not follow. */
export function entryPath(directory: number, name: string): string { return `/proc/self/fd/${directory}/${name}` }

/** What a descriptor stands for, for calls that take a path. */
export function fdPath(fd: number): string { return `/proc/self/fd/${fd}` }

/** Something found. Close it. */
export interface Located {
  fd: number
  stats: Stats
  /** Absolute in the root, without links. */
  path: string
  /** Its directory and its name there; the root is in itself under the name `.`. */
  parent: number
  name: string
  /** Of a symbolic link that was not followed. */
  target?: string
  close(): void
}

export interface FindOptions {
  /** Follow a link that is the last component. */
  followLast: boolean
  /** Make directories that are missing (mode 0755). */
  makeDirectories?: boolean
}

export class Root {
  readonly #fd: number

  /** A directory of this machine, which may be named through `/proc/PID/root`. */
  constructor(path: string) { this.#fd = openSync(path, O_PATH | constants.O_DIRECTORY) }

  close(): void { closeSync(this.#fd) }

  /**
   * Resolves `path` below the root. undefined if it does not exist, or leads through something that is no directory. Throws
   * a PathError for a loop of links.
   */
  find(path: string, options: FindOptions): Located | undefined {
    const stack: { fd: number; name: string }[] = []
    let kept = false
    try {
      return this.#walk(path, options, stack, () => { kept = true })
    } finally {
      if (!kept) for (const s of stack) closeSync(s.fd)
    }
  }

  /** Where `path` leads with all links followed, as far as it exists; the rest as it stands. */
  follow(path: string): string {
    let todo = parts(path)
    let done: string[] = []
    for (let links = 0; todo.length > 0;) {
      const part = todo.shift() as string
      if (part === '..') { done.pop(); continue }
      const here = this.find(`/${[...done, part].join('/')}`, { followLast: false })
      here?.close()
      if (here?.target === undefined) { done.push(part); continue }
      if (++links > MAX_LINKS) throw loop(path)
      if (here.target.startsWith('/')) done = []
      todo = [...parts(here.target), ...todo]
    }
    return `/${done.join('/')}`
  }

  #walk(path: string, options: FindOptions, stack: { fd: number; name: string }[], keep: () => void): Located | undefined {
    let todo = parts(path)
    const directory = (): number => stack.at(-1)?.fd ?? this.#fd
    const done = (fd: number, stats: Stats, name: string, target?: string): Located => {
      keep()
      return {
        fd, stats, parent: stack.at(-1)?.fd ?? this.#fd, name, path: `/${[...stack.map((s) => s.name), ...(name === '.' ? [] : [name])].join('/')}`,
        ...(target === undefined ? {} : { target }),
        close: () => {
          closeSync(fd)
          for (const s of stack) closeSync(s.fd)
        },
      }
    }
    for (let links = 0; todo.length > 0;) {
      const name = todo.shift() as string
      if (name === '..') {
        const last = stack.pop()
        if (last !== undefined) closeSync(last.fd)
        continue
      }
      const fd = this.#open(directory(), name, options.makeDirectories === true)
      if (fd === undefined) return undefined
      let used = false
      try {
        const stats = fstatSync(fd)
        if (stats.isSymbolicLink()) {
          const target = readLink(directory(), name)
          if (target === undefined) { todo.unshift(name); continue }
          if (todo.length === 0 && !options.followLast) {
            used = true
            return done(fd, stats, name, target)
          }
          if (++links > MAX_LINKS) throw loop(path)
          if (target.startsWith('/')) for (const s of stack.splice(0)) closeSync(s.fd)
          todo = [...parts(target), ...todo]
          continue
        }
        if (todo.length === 0) {
          used = true
          return done(fd, stats, name)
        }
        if (!stats.isDirectory()) return undefined
        stack.push({ fd, name })
        used = true
      } finally {
        if (!used) closeSync(fd)
      }
    }
    // Ends in the root, or with `..`: the directory we are in, opened again to be closed by itself.
    const name = stack.at(-1)?.name
    const fd = openSync(fdPath(directory()), O_PATH | constants.O_DIRECTORY)
    const last = stack.pop()
    if (last !== undefined) closeSync(last.fd)
    return done(fd, fstatSync(fd), name ?? '.')
  }

  #open(directory: number, name: string, make: boolean): number | undefined {
    for (;;) {
      try {
        return openSync(entryPath(directory, name), O_PATH | constants.O_NOFOLLOW)
      } catch (e) {
        const { code } = e as NodeJS.ErrnoException
        if (code === 'ENOTDIR' || (code === 'ENOENT' && !make)) return undefined
        if (code === 'ENAMETOOLONG') throw new PathError(`file name too long: ${name.slice(0, 40)}…`)
        if (code !== 'ENOENT') throw e
      }
      try {
        mkdirSync(entryPath(directory, name), { mode: 0o755 })
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e
      }
    }
  }
}

/** undefined if it is no link any more. */
function readLink(directory: number, name: string): string | undefined {
  try {
    return readlinkSync(entryPath(directory, name))
  } catch (e) {
    if (['EINVAL', 'ENOENT'].includes((e as NodeJS.ErrnoException).code ?? '')) return undefined
    throw e
  }
}

function parts(path: string): string[] {
  if (path.includes('\0')) throw new PathError('a path holds a NUL')
  return path.split('/').filter((p) => p !== '' && p !== '.')
}

function loop(path: string): PathError { return new PathError(`too many levels of symbolic links: ${path}`) }
