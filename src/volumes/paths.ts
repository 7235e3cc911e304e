/** Rules for names that come from users' objects and become paths. */
import { VolumeError } from './volumes.ts'

/** One path part: pod uids and volume names. */
export function checkPart(what: string, part: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/.test(part)) {
    throw new VolumeError('invalid', `${what} "${part.slice(0, 80)}" must be letters, digits, "_", "." and "-", not starting with a sign`)
  }
}

/** Parts of a relative path that stays below where it starts. */
export function relativeParts(what: string, path: string): string[] {
  const refuse = (why: string): never => {
    throw new VolumeError('invalid', `${what} "${path.slice(0, 200)}" ${why}`)
  }
  if (path === '') refuse('is empty')
  if (path.length > 4096) refuse('is longer than 4096 characters')
  if (path.includes('\0')) refuse('contains a zero byte')
  if (path.startsWith('/')) refuse('is absolute; it must be relative')
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) refuse('contains ".."')
  if (parts.length === 0) refuse('names nothing')
  if (parts.some((part) => Buffer.byteLength(part) > 255)) refuse('has a part longer than 255 bytes')
  return parts
}
