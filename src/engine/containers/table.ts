/** The containers this engine has: their records, and the order in which operations on one of them happen. */
import { join } from 'node:path'
import { EngineError } from '../engine.ts'
import { newEntry } from './model.ts'
import type { Entry } from './model.ts'
import { openRecords } from './records.ts'
import type { RecordStore } from './records.ts'
import type { ContainerRecord } from './records.ts'

export class ContainerTable {
  readonly entries = new Map<string, Entry>()
  readonly records: RecordStore

  constructor(dataDir: string) { this.records = openRecords(join(dataDir, 'containers')) }

  load(): void {
    for (const record of this.records.load()) this.entries.set(record.spec.id, newEntry(record))
  }

  /** Throws `not-found`. */
  get(id: string): Entry {
    const entry = this.entries.get(id)
    if (entry === undefined) throw new EngineError('not-found', `No such container: ${id}`)
    return entry
  }

  /** Throws `not-found`, or `conflict` if it is paused or does not run. */
  running(id: string): Entry {
    const entry = this.get(id)
    const { state } = entry.record
    if (state === 'paused') throw new EngineError('conflict', `container ${id} is paused, unpause the container first`)
    if (state !== 'running') throw new EngineError('conflict', `container ${id} is not running`)
    return entry
  }

  /** One after another for each container. The work begins with the entry still in the table, else it rejects with `not-found`. */
  locked<T>(entry: Entry, work: () => Promise<T>): Promise<T> {
    const result = entry.tail.then(() => {
      const { id } = entry.record.spec
      if (this.entries.get(id) !== entry) throw new EngineError('not-found', `No such container: ${id}`)
      return work()
    })
    entry.tail = result.catch(() => undefined)
    return result
  }

  /** For changes that reconciliation finds again by itself. */
  saveSoon(r: ContainerRecord): void { this.records.save(r).catch(() => undefined) }
}

export function isAlive(r: ContainerRecord): boolean { return r.state === 'running' || r.state === 'paused' }
