/** What is mounted below a folder, and its end. */
import { readFileSync } from 'node:fs'
import { run } from './exec.ts'

/** Mount points at or below `dir`, deepest first. */
export function mountsBelow(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    // Field 5 is the mount point; blanks in it are written as \040.
    .map(l => l.split(' ')[4]?.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))))
    .filter((p): p is string => p === dir || (p?.startsWith(`${dir}/`) ?? false))
    .reverse()
}

/** Unmounts them in a few calls. A busy one is detached and goes when its last user does. */
export async function unmountBelow(dir: string): Promise<void> {
  const all = mountsBelow(dir)
  for (let i = 0; i < all.length; i += 200) await run('umount', ['--lazy', ...all.slice(i, i + 200)]).catch(() => { /* gone meanwhile */ })
}
