/** What a sandbox is, written beside its namespace; so a new process knows what the kernel's objects belong to. */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { replaceFile } from '../files/replace.ts'
import type { PortMapping } from './network.ts'
import { NetworkError } from './network.ts'

export interface SandboxRecord { id: string; ip: string; ports: PortMapping[] }

export class SandboxRecords {
  readonly #directory: string

  constructor(runDir: string) {
    this.#directory = join(runDir, 'sandboxes')
  }

  /** All that can be read; a file that was cut short by a crash is removed. */
  async load(): Promise<SandboxRecord[]> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    const records: SandboxRecord[] = []
    for (const file of await readdir(this.#directory)) {
      const path = join(this.#directory, file)
      const record = file.endsWith('.json') ? parseRecord(await readFile(path, 'utf8')) : undefined
      if (record !== undefined && `${record.id}.json` === file) records.push(record)
      else await rm(path, { force: true })
    }
    return records
  }

  /** Whole or not at all. */
  async save(record: SandboxRecord): Promise<void> {
    await replaceFile(this.#pathOf(record.id), JSON.stringify(record))
  }

  async remove(id: string): Promise<void> {
    await rm(this.#pathOf(id), { force: true })
  }

  async removeAll(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
  }

  #pathOf(id: string): string {
    return join(this.#directory, `${id}.json`)
  }
}

/** Ids become file names. */
export function checkSandboxId(id: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$/.test(id)) {
    const rule = 'must be letters, digits, "_", "." and "-", at most 200, not starting with a sign'
    throw new NetworkError('invalid', `sandbox id "${id.slice(0, 80)}" ${rule}`)
  }
}

function parseRecord(text: string): SandboxRecord | undefined {
  try {
    const value = JSON.parse(text) as SandboxRecord
    return typeof value.id === 'string' && typeof value.ip === 'string' && Array.isArray(value.ports) ? value : undefined
  } catch {
    return undefined
  }
}
