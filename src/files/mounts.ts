/** What is mounted on this machine, as this process sees it. */
import { readFileSync } from 'node:fs'

/** Mount points at or below `dir`, the latest first: in that order they can be unmounted. */
export function mountsBelow(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    // The kernel writes blanks and the like as octal escapes.
    .map((l) => l.split(' ')[4]?.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))))
    .filter((p): p is string => p === dir || (p?.startsWith(`${dir}/`) ?? false))
    .reverse()
}
