/** Names in a log directory: `current`, and rotated files `00000001` (being compressed) or `00000001.zst`, oldest first. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

export const CURRENT = 'current'

export interface RotatedFile { sequence: number; path: string; compressed: boolean }

export function rotatedName(sequence: number): string { return String(sequence).padStart(8, '0') }

/** Oldest first. Where both forms exist the plain one counts: its compressed twin may be incomplete. */
export function rotatedFiles(dir: string): RotatedFile[] {
  const found = new Map<number, RotatedFile>()
  for (const name of readNames(dir)) {
    const m = /^(\d{8,})(\.zst)?$/.exec(name)
    if (m === null) continue
    const sequence = Number(m[1])
    const compressed = m[2] !== undefined
    if (compressed && found.has(sequence)) continue
    found.set(sequence, { sequence, path: join(dir, name), compressed })
  }
  return [...found.values()].sort((a, b) => a.sequence - b.sequence)
}

export function readNames(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw e
  }
}
