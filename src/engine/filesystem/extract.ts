/**
 * Unpacks an archive below a directory of a container's root. Each entry is made through the descriptor of its directory, found
 * step by step inside the root (see root.ts), so neither names nor links, of the archive or of a container that runs meanwhile,
 * lead out of it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync, constants, fchmodSync, fchownSync, ftruncateSync, futimesSync, lchownSync, linkSync, lstatSync, lutimesSync, mkdirSync, openSync,
  readdirSync, rmdirSync, symlinkSync, unlinkSync, write,
} from 'node:fs'
import { finished } from 'node:stream/promises'
import type { Readable, Writable } from 'node:stream'
import { promisify } from 'node:util'
import { entryName } from '../archive/entry-name.ts'
import { EngineError } from '../engine.ts'
import { entryPath, fdPath } from '../../files/root.ts'
import type { Located, Root } from '../../files/root.ts'
import { encodeHeader, padding } from './tar-header.ts'
import { readTar } from './tar-reader.ts'
import type { TarEntry } from './tar-reader.ts'

const writeAt = promisify(write)
const { O_CREAT, O_EXCL, O_WRONLY, O_NOFOLLOW, O_DIRECTORY, O_RDONLY } = constants
/** Directories kept open: archives come sorted by directory. */
const MAX_OPEN_DIRECTORIES = 32

export interface ExtractOptions {
  /** Refuse to put a directory where something else is, or something else where a directory is. */
  noOverwriteDirNonDir: boolean
  /** Owner of everything; the archive's own when left out. */
  owner?: { uid: number; gid: number }
}

/** Unpacks `tar` (not compressed) into `path`, a directory. Rejects with `invalid` for an archive that cannot be unpacked there. */
export async function extractTar(root: Root, path: string, tar: Readable, options: ExtractOptions): Promise<void> {
  const extraction = new Extraction(root, path, options)
  try {
    for await (const entry of readTar(tar)) await extraction.add(entry)
    extraction.setTimes()
  } catch (e) {
    throw explained(e)
  } finally {
    extraction.close()
  }
}

function explained(e: unknown): unknown {
  switch ((e as NodeJS.ErrnoException).code) {
    case 'EROFS': return new EngineError('invalid', 'container rootfs is marked read-only')
    case 'ENOSPC': return new EngineError('failed', 'no space left on device')
    case 'EDQUOT': return new EngineError('failed', 'disk quota exceeded')
    default: return e
  }
}

class Extraction {
  readonly #root: Root
  readonly #path: string
  readonly #o: ExtractOptions
  readonly #open = new Map<string, Located>()
  /** Directories get their times last: every entry made in them changes these. */
  readonly #times: { directory: string; name: string; mtimeMs: number }[] = []

  constructor(root: Root, path: string, options: ExtractOptions) {
    this.#root = root
    this.#path = path
    this.#o = options
  }

  async add(e: TarEntry): Promise<void> {
    const path = entryName(e.name)
    const base = path.slice(path.lastIndexOf('/') + 1)
    const directory = path.slice(0, Math.max(0, path.length - base.length - 1))
    // The directory unpacked into: it is there, and stays as it is.
    if (path === '') return
    const parent = this.#directory(directory).fd
    const at = entryPath(parent, base)
    this.#clear(parent, base, e)
    const owner = this.#o.owner ?? e
    const attributes = usableXattrs(e)
    switch (e.type) {
      case 'directory':
        mkdirUnlessThere(at)
        this.#directoryAttributes(parent, base, e, owner)
        if (attributes.size > 0) await this.#byTar(parent, base, e, owner, attributes)
        this.#times.push({ directory, name: base, mtimeMs: e.mtimeMs })
        return
      case 'file':
        if (attributes.size > 0 && e.extents === undefined) await this.#byTar(parent, base, e, owner, attributes)
        else await this.#file(at, e, owner)
        return
      case 'link': {
        const target = entryName(e.linkName)
        const name = target.slice(target.lastIndexOf('/') + 1)
        const from = this.#directory(target.slice(0, Math.max(0, target.length - name.length - 1))).fd
        linkSync(entryPath(from, name), entryPath(this.#directory(directory).fd, base))
        return
      }
      case 'symlink':
        symlinkSync(e.linkName, at)
        break
      default:
        await this.#device(parent, base, e)
    }
    lchownSync(at, owner.uid, owner.gid)
    lutimesSync(at, e.mtimeMs / 1000, e.mtimeMs / 1000)
  }

  /** The directory an entry goes into, by its path below the target; made if it is missing. */
  #directory(path: string): Located {
    const known = this.#open.get(path)
    if (known !== undefined) {
      // The oldest are closed first: this one is young again.
      this.#open.delete(path)
      this.#open.set(path, known)
      return known
    }
    const found = this.#root.find(`${this.#path}/${path}`, { followLast: true, makeDirectories: true })
    if (found === undefined || !found.stats.isDirectory()) {
      found?.close()
      throw new EngineError('invalid', `cannot unpack into "/${path}": not a directory`)
    }
    if (this.#open.size >= MAX_OPEN_DIRECTORIES) {
      const [oldest, located] = this.#open.entries().next().value as [string, Located]
      this.#open.delete(oldest)
      located.close()
    }
    this.#open.set(path, found)
    return found
  }

  /** Takes away what is in the way of an entry. A directory over a directory stays, with all that is in it. */
  #clear(parent: number, base: string, e: TarEntry): void {
    const there = lstatSync(entryPath(parent, base), { throwIfNoEntry: false })
    if (there === undefined) return
    const directory = e.type === 'directory'
    if (there.isDirectory() && directory) return
    if (this.#o.noOverwriteDirNonDir && there.isDirectory() !== directory) {
      throw new EngineError('invalid', directory
        ? `cannot overwrite non-directory "/${entryName(e.name)}" with directory "/"`
        : `cannot overwrite directory "/${entryName(e.name)}" with non-directory "/"`)
    }
    if (there.isDirectory()) {
      removeTree(parent, base)
      // What is open in there is no longer where its name says.
      const gone = entryName(e.name)
      for (const [path, d] of this.#open) {
        if (path !== gone && !path.startsWith(`${gone}/`)) continue
        this.#open.delete(path)
        d.close()
      }
    } else unlinkSync(entryPath(parent, base))
  }

  async #file(at: string, e: TarEntry, owner: { uid: number; gid: number }): Promise<void> {
    const fd = openSync(at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    try {
      const extents = e.extents?.map((x) => ({ ...x }))
      let position = 0
      for await (const chunk of e.body()) {
        for (let rest = chunk; rest.length > 0;) {
          if (extents !== undefined) while (extents[0]?.size === 0) extents.shift()
          const extent = extents?.[0]
          const part = extent === undefined ? rest : rest.subarray(0, extent.size)
          await writeAll(fd, part, extent?.offset ?? position)
          position += part.length
          if (extent !== undefined) {
            extent.offset += part.length
            extent.size -= part.length
          }
          rest = rest.subarray(part.length)
        }
      }
      if (extents !== undefined) ftruncateSync(fd, e.sizeBytes)
      // The owner first: changing it drops set-id bits.
      fchownSync(fd, owner.uid, owner.gid)
      fchmodSync(fd, e.mode)
      futimesSync(fd, e.mtimeMs / 1000, e.mtimeMs / 1000)
    } finally {
      closeSync(fd)
    }
  }

  #directoryAttributes(parent: number, base: string, e: TarEntry, owner: { uid: number; gid: number }): void {
    const fd = openSync(entryPath(parent, base), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    try {
      fchownSync(fd, owner.uid, owner.gid)
      fchmodSync(fd, e.mode)
    } finally {
      closeSync(fd)
    }
  }

  /** Node makes no devices. */
  async #device(parent: number, base: string, e: TarEntry): Promise<void> {
    const kind = e.type === 'character' ? 'c' : e.type === 'block' ? 'b' : 'p'
    const numbers = e.type === 'fifo' ? [] : [String(e.major), String(e.minor)]
    await runIn(parent, 'mknod', ['-m', e.mode.toString(8), '--', `./${base}`, kind, ...numbers])
  }

  /** Node sets no extended attributes: GNU tar makes such an entry, under a name without a slash in the directory we have opened. */
  async #byTar(parent: number, base: string, e: TarEntry, owner: { uid: number; gid: number }, attributes: Map<string, Buffer>): Promise<void> {
    const type = e.type === 'directory' ? 'directory' : 'file'
    await runIn(parent, 'tar', [
      '--extract', '--file=-', '--preserve-permissions', '--same-owner', '--numeric-owner', '--xattrs', '--xattrs-include=*', '--warning=none',
    ], async (stdin) => {
      const write = async (data: Buffer): Promise<void> => { if (!stdin.write(data)) await once(stdin, 'drain') }
      await write(encodeHeader({ name: base, type, mode: e.mode, ...owner, sizeBytes: type === 'file' ? e.sizeBytes : 0, mtimeMs: e.mtimeMs, xattrs: attributes }))
      if (type === 'file') for await (const chunk of e.body()) await write(chunk)
      stdin.end(Buffer.concat([padding(type === 'file' ? e.sizeBytes : 0), Buffer.alloc(1024)]))
    })
  }

  setTimes(): void {
    for (const { directory, name, mtimeMs } of this.#times.reverse()) {
      lutimesSync(entryPath(this.#directory(directory).fd, name), mtimeMs / 1000, mtimeMs / 1000)
    }
  }

  close(): void {
    for (const d of this.#open.values()) d.close()
    this.#open.clear()
  }
}

/** Attributes of overlayfs would change what other files mean. */
function usableXattrs(e: TarEntry): Map<string, Buffer> {
  return new Map([...e.xattrs].filter(([name]) => !/^(?:trusted|user)\.overlay\./.test(name)))
}

function mkdirUnlessThere(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e
  }
}

async function writeAll(fd: number, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length;) done += (await writeAt(fd, data, done, data.length - done, position + done)).bytesWritten
}

/** Removes a directory with all that is in it, never through a link. */
export function removeTree(parent: number, name: string): void {
  let fd: number
  try {
    fd = openSync(entryPath(parent, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  } catch (e) {
    if (['ENOTDIR', 'ELOOP'].includes((e as NodeJS.ErrnoException).code ?? '')) { unlinkSync(entryPath(parent, name)); return }
    throw e
  }
  try {
    for (const child of readdirSync(fdPath(fd), { withFileTypes: true })) {
      if (child.isDirectory()) removeTree(fd, child.name)
      else unlinkSync(entryPath(fd, child.name))
    }
  } finally {
    closeSync(fd)
  }
  rmdirSync(entryPath(parent, name))
}

async function runIn(directory: number, program: string, args: string[], feed?: (stdin: Writable) => Promise<void>): Promise<void> {
  const child = spawn(program, args, { cwd: fdPath(directory), stdio: [feed === undefined ? 'ignore' : 'pipe', 'ignore', 'pipe'], env: { PATH: process.env['PATH'], LC_ALL: 'C' } })
  let stderr = ''
  child.stderr?.on('data', (d: Buffer) => { if (stderr.length < 2000) stderr += d.toString() })
  const closed = once(child, 'close') as Promise<[number | null]>
  const { stdin } = child
  if (feed !== undefined && stdin !== null) {
    stdin.on('error', () => undefined)
    // A program that fails stops reading: its word is the cause, not the broken pipe.
    try {
      await Promise.race([feed(stdin).then(() => finished(stdin).catch(() => undefined)), closed])
    } catch (e) {
      child.kill('SIGKILL')
      throw e
    }
  }
  const [code] = await closed
  if (code !== 0) throw new EngineError('failed', `${program}: ${stderr.trim() || `exit code ${code}`}`)
}
