/**
 * Volumes on disk: `DATADIR/NAME/volume.json` beside `DATADIR/NAME/_data`. A folder appears under its name whole and goes away by
 * a rename, so that a crash leaves either a volume or rubbish beginning with a dot, which the next opening sweeps.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { replaceFile } from '../../files/replace.ts'
import { FILLING } from './copy-up.ts'
import { folderOf } from './rules.ts'

const RECORD = 'volume.json'
const DATA = '_data'

/** One use by a running container. */
export interface MountRecord { target: string; readOnly: boolean }

export interface VolumeRecord {
  name: string
  driver: string
  createdAtMs: number
  anonymous: boolean
  labels: Record<string, string>
  options: Record<string, string>
  scope: 'local' | 'global'
  /** Who refers to it, running or not. */
  users: string[]
  /** Who runs with it. */
  mounts: Record<string, MountRecord[]>
  /** A copy-up into a place that cannot be swapped has begun: what is there may be a part. */
  copying?: true
}

export class RecordStore {
  readonly #dir: string

  constructor(dir: string) { this.#dir = dir }

  folder(name: string): string { return join(this.#dir, folderOf(name)) }
  dataPath(name: string): string { return join(this.folder(name), DATA) }

  /** Sweeps what a crash left; `beforeSweep` is called with each folder that goes (it may hold mounts). */
  async load(beforeSweep: (folder: string) => Promise<void>): Promise<VolumeRecord[]> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    const records: VolumeRecord[] = []
    for (const entry of await readdir(this.#dir)) {
      const folder = join(this.#dir, entry)
      if (entry.startsWith('.')) {
        await beforeSweep(folder)
        await rm(folder, { recursive: true, force: true })
        continue
      }
      const text = await readFile(join(folder, RECORD), 'utf8').catch(() => undefined)
      for (const inner of await readdir(folder)) {
        // The copying process may outlive the one that started it, and still add files.
        if (inner.startsWith(FILLING)) await rm(join(folder, inner), { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
      }
      if (text !== undefined) records.push(JSON.parse(text) as VolumeRecord)
    }
    return records
  }

  /** `durable`: resolves when it would survive a loss of power. */
  async add(record: VolumeRecord, durable: boolean): Promise<void> {
    const temporary = join(this.#dir, `.new-${randomBytes(8).toString('hex')}`)
    try {
      await mkdir(join(temporary, DATA), { recursive: true, mode: 0o700 })
      await chmod(join(temporary, DATA), 0o755)
      await replaceFile(join(temporary, RECORD), JSON.stringify(record))
      if (durable) for (const path of [join(temporary, RECORD), temporary]) await sync(path)
      await rename(temporary, this.folder(record.name))
      if (durable) await sync(this.#dir)
    } catch (e) {
      await rm(temporary, { recursive: true, force: true })
      throw e
    }
  }

  async save(record: VolumeRecord): Promise<void> { await replaceFile(join(this.folder(record.name), RECORD), JSON.stringify(record)) }

  /** Nothing may be mounted below it any more. */
  async remove(name: string): Promise<void> {
    const gone = join(this.#dir, `.gone-${randomBytes(8).toString('hex')}`)
    await rename(this.folder(name), gone)
    await rm(gone, { recursive: true, force: true })
  }
}

async function sync(path: string): Promise<void> {
  const file = await open(path)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
