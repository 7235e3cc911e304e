/** Records that a daemon keeps of what it manages: one JSON file each, replaced whole, mode 0600. */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { replaceFile, replaceFileSync } from './replace.ts'

export class RecordFiles<R> {
  readonly #dir: string
  readonly #idOf: (record: R) => string
  /** Writes that have not begun. */
  readonly #queued = new Map<string, Promise<void>>()
  /** The last write of each record, settled whatever became of it. */
  readonly #last = new Map<string, Promise<void>>()

  /** `idOf`: the file's name. */
  constructor(dir: string, idOf: (record: R) => string) {
    this.#dir = dir
    this.#idOf = idOf
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  }

  /** Unreadable records (a disk that was full, a machine that lost power) count as none: what is left of theirs are orphans. */
  load(): R[] {
    const out: R[] = []
    for (const name of readdirSync(this.#dir)) {
      const path = join(this.#dir, name)
      try {
        if (!name.endsWith('.json')) throw new Error('left by a write that was cut off')
        out.push(JSON.parse(readFileSync(path, 'utf8')) as R)
      } catch {
        rmSync(path, { force: true })
      }
    }
    return out
  }

  /**
   * The first save of a new record: there when this returns. Synchronous, since a small new file costs less than turns through
   * the thread pool.
   */
  saveNew(record: R): void { replaceFileSync(this.#path(this.#idOf(record)), JSON.stringify(record)) }

  /**
   * Writes the record as it is when its turn comes; changes until then go into the same write. In the background, because file
   * systems push a file to the disk that replaces another.
   */
  save(record: R): Promise<void> {
    const id = this.#idOf(record)
    const queued = this.#queued.get(id)
    if (queued !== undefined) return queued
    const write = (this.#last.get(id) ?? Promise.resolve()).then(async () => {
      this.#queued.delete(id)
      await replaceFile(this.#path(id), JSON.stringify(record))
    })
    const settled = write.catch(() => undefined).finally(() => { if (this.#last.get(id) === settled) this.#last.delete(id) })
    this.#queued.set(id, write)
    this.#last.set(id, settled)
    return write
  }

  async delete(id: string): Promise<void> {
    await this.#last.get(id)
    rmSync(this.#path(id), { force: true })
  }

  /** Resolves when all that was to be written is. */
  async settled(): Promise<void> {
    await Promise.all(this.#queued.values())
    await Promise.all(this.#last.values())
  }

  #path(id: string): string { return join(this.#dir, `${id}.json`) }
}
