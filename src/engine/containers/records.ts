/** What the engine remembers of each container: one JSON file each, replaced atomically, mode 0600. */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { replaceFile, replaceFileSync } from '../../files/replace.ts'
import type { ContainerInfo, ContainerSpec, ImageConfig } from '../engine.ts'

export type ImageDefaults = Pick<ImageConfig, 'entrypoint' | 'cmd' | 'env' | 'workingDir' | 'user' | 'stopSignal'>

export interface ContainerRecord extends Omit<ContainerInfo, 'id' | 'labels' | 'image'> {
  /** Only `ready` is ever on disk: what an engine left of a container that was being made or removed has no record. */
  phase: 'creating' | 'ready' | 'removing'
  spec: ContainerSpec
  image: ImageDefaults
}

export class RecordStore {
  readonly #dir: string
  /** Writes that have not begun. */
  readonly #queued = new Map<string, Promise<void>>()
  /** The last write of each record, settled whatever became of it. */
  readonly #last = new Map<string, Promise<void>>()

  constructor(dir: string) {
    this.#dir = dir
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  }

  /** Unreadable records (a disk that was full, a machine that lost power) count as none: their containers are orphans. */
  load(): ContainerRecord[] {
    const out: ContainerRecord[] = []
    for (const name of readdirSync(this.#dir)) {
      const path = join(this.#dir, name)
      try {
        if (!name.endsWith('.json')) throw new Error('left by a write that was cut off')
        out.push(JSON.parse(readFileSync(path, 'utf8')) as ContainerRecord)
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
  saveNew(record: ContainerRecord): void {
    replaceFileSync(this.#path(record.spec.id), JSON.stringify(record))
  }

  /**
   * Writes the record as it is when its turn comes; changes until then go into the same write. In the background, because file
   * systems push a file to the disk that replaces another.
   */
  save(record: ContainerRecord): Promise<void> {
    const { id } = record.spec
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

  #path(id: string): string { return join(this.#dir, `${id}.json`) }
}
