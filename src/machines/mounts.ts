/** The end of what is mounted below a folder. */
import { mountsBelow } from '../files/mounts.ts'
import { run } from './exec.ts'

/** Unmounts all at or below `dir` in a few calls. A busy one is detached and goes when its last user does. */
export async function unmountBelow(dir: string): Promise<void> {
  const all = mountsBelow(dir)
  for (let i = 0; i < all.length; i += 200) await run('umount', ['--lazy', ...all.slice(i, i + 200)]).catch(() => { /* gone meanwhile */ })
}
