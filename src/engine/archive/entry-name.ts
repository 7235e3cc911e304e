/** Names inside archives: what they mean, and which are refused. */
import { EngineError } from '../engine.ts'

/**
 * An archive member's name as a path relative to the archive's root: no leading slash, no `.` parts, no trailing slash;
 * '' is the root itself. A name that climbs with `..` is refused rather than bent into the root.
 */
export function entryName(name: string): string {
  if (name.includes('\0')) throw new EngineError('invalid', `archive member with a NUL in its name`)
  const parts: string[] = []
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue
    if (part === '..') throw new EngineError('invalid', `archive member "${name}" lies outside of the archive's root`)
    parts.push(part)
  }
  return parts.join('/')
}
