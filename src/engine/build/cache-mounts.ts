/** Folders that `RUN --mount=type=cache` keeps from build to build. Losing one is never an error. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, chown, mkdir, readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface CacheMount { path: string; release(): void }

export interface CacheMountOptions {
  id: string
  sharing: 'shared' | 'private' | 'locked'
  /** Of a new folder. */
  mode: number
  uid: number
  gid: number
  /** Fills a new folder. */
  fill?: (dir: string) => Promise<void>
}

export class CacheMounts {
  readonly #dir: string
  /** Users by folder name. */
  readonly #users = new Map<string, number>()
  /** Last holder of each locked folder. */
  readonly #locks = new Map<string, Promise<void>>()

  constructor(dir: string) { this.#dir = dir }

  /** The folder of `id`; with `private` one that nobody uses now, with `locked` as soon as nobody else does. */
  async open(o: CacheMountOptions, signal: AbortSignal): Promise<CacheMount> {
    const base = createHash('sha256').update(o.id).digest('hex').slice(0, 24)
    let name = base
    if (o.sharing === 'private') for (let n = 2; (this.#users.get(name) ?? 0) > 0; n++) name = `${base}-${n}`
    let unlock = (): void => undefined
    if (o.sharing === 'locked') {
      const before = this.#locks.get(name) ?? Promise.resolve()
      const mine = Promise.withResolvers<void>()
      this.#locks.set(name, before.then(() => mine.promise))
      unlock = mine.resolve
      await before
    }
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1)
    const release = (): void => {
      this.#users.set(name, (this.#users.get(name) ?? 1) - 1)
      unlock()
    }
    try {
      signal.throwIfAborted()
      const path = join(this.#dir, name)
      if (await mkdir(path, { recursive: true, mode: 0o700 }) !== undefined) {
        await o.fill?.(path)
        await chmod(path, o.mode)
        await chown(path, o.uid, o.gid)
      }
      const now = new Date()
      await utimes(path, now, now)
      return { path, release }
    } catch (e) {
      release()
      throw e
    }
  }

  async list(): Promise<{ id: string; sizeBytes: number; createdAtMs: number; usedAtMs: number; inUse: boolean }[]> {
    const names = await readdir(this.#dir).catch(() => [])
    return Promise.all(names.map(async id => {
      const path = join(this.#dir, id)
      const [s, du] = await Promise.all([stat(path), run('du', ['-s', '-B1', path])])
      return { id, sizeBytes: parseInt(du.stdout, 10), createdAtMs: s.birthtimeMs, usedAtMs: s.mtimeMs, inUse: (this.#users.get(id) ?? 0) > 0 }
    }))
  }

  async remove(id: string): Promise<void> {
    if ((this.#users.get(id) ?? 0) === 0) await rm(join(this.#dir, id), { recursive: true, force: true })
  }
}
