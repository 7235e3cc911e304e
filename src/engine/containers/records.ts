/** What the engine remembers of each container: one JSON file each, replaced atomically, mode 0600. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerSpec, ContainerState, ImageConfig } from '../engine.ts'

export type ImageDefaults = Pick<ImageConfig, 'entrypoint' | 'cmd' | 'env' | 'workingDir' | 'user' | 'stopSignal'>

export interface ContainerRecord {
  /** `creating` and `removing` are finished by removing when an engine finds them at its start. */
  phase: 'creating' | 'ready' | 'removing'
  spec: ContainerSpec
  imageId: string
  image: ImageDefaults
  state: ContainerState
  pid?: number
  exitCode?: number
  oomKilled?: boolean
  createdAtMs: number
  startedAtMs?: number
  finishedAtMs?: number
  error?: string
}

export class RecordStore {
  readonly #dir: string

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

  /** Synchronous: a small file costs less than a turn through the thread pool, and nothing can come between. */
  save(record: ContainerRecord): void {
    const path = join(this.#dir, `${record.spec.id}.json`)
    writeFileSync(`${path}.tmp`, JSON.stringify(record), { mode: 0o600 })
    renameSync(`${path}.tmp`, path)
  }

  delete(id: string): void { rmSync(join(this.#dir, `${id}.json`), { force: true }) }
}
