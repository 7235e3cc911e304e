/** Folders that `RUN --mount=type=cache` keeps from build to build. Losing one is never an error. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const UNFINISHED = '.new-'

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
  /** Folders that are being made. */
  readonly #making = new Map<string, Promise<void>>()
  /** Last holder of each locked folder. */
  readonly #locks = new Map<string, Promise<void>>()

  /** Sweeps what a process that was killed had not finished. */
  constructor(dir: string) {
    this.#dir = dir
    for (const n of existsSync(dir) ? readdirSync(dir) : []) if (n.startsWith(UNFINISHED)) rmSync(join(dir, n), { recursive: true, force: true })
  }

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
      await this.#making.get(name)
      if (!existsSync(path)) {
        const making = this.#make(path, o).finally(() => { this.#making.delete(name) })
        this.#making.set(name, making.catch(() => undefined))
        await making
      }
      const now = new Date()
      await utimes(path, now, now)
      return { path, release }
    } catch (e) {
      release()
      throw e
    }
  }

  /** Under another name until it is whole. */
  async #make(path: string, o: CacheMountOptions): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    const unfinished = await mkdtemp(join(this.#dir, UNFINISHED))
    try {
      await o.fill?.(unfinished)
      await chmod(unfinished, o.mode)
      await chown(unfinished, o.uid, o.gid)
      await rename(unfinished, path)
    } catch (e) {
      await rm(unfinished, { recursive: true, force: true })
      throw e
    }
  }

  async list(): Promise<{ id: string; sizeBytes: number; createdAtMs: number; usedAtMs: number; inUse: boolean }[]> {
    const names = (await readdir(this.#dir).catch(() => [])).filter(n => !n.startsWith(UNFINISHED))
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
