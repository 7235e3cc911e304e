/** What is kept of each container: one JSON file each, replaced whole, written before its creation is acknowledged. */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { replaceFile, replaceFileSync } from '../../../../files/replace.ts'
import type { ContainerConfig, EndpointSettings, HostConfig } from '../../model.ts'
import type { PlannedMount } from '../../shared/mounts.ts'

export interface ContainerRecord {
  id: string
  /** Without slash. */
  name: string
  createdAtMs: number
  /** `sha256:…` */
  imageId: string
  platform: string
  /** Merged with the image's. */
  config: ContainerConfig
  hostConfig: HostConfig
  /** Network name → what the endpoint shall be. */
  endpoints: Record<string, EndpointSettings>
  mounts: PlannedMount[]
  exitCode: number
  error: string
  oomKilled: boolean
  /** 0: never. */
  startedAtMs: number
  finishedAtMs: number
  /** Time of the last exit handled, as the engine told it: it may tell it again. */
  exitSeenMs: number
  restartCount: number
  /** By `stop` or `kill`: keeps `unless-stopped` from starting it. */
  manuallyStopped: boolean
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

  /** Newest last. Unreadable ones count as none: what is left of their containers is removed. */
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
    return out.sort((a, b) => a.createdAtMs - b.createdAtMs)
  }

  /** There when this returns: a new small file costs less than turns through the thread pool. */
  saveNew(record: ContainerRecord): void { replaceFileSync(this.#path(record.id), JSON.stringify(record)) }

  /** Writes the record as it is when its turn comes; changes until then go into the same write. */
  save(record: ContainerRecord): Promise<void> {
    const { id } = record
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
