/**
 * The kernel lets a process into another control group only after an RCU grace period, about 10 ms, unless somebody was let in a moment
 * ago. So the engine has itself let into the group it is in already, which changes nothing, while containerd and runc get to that
 * point: whoever starts or enters a container then need not wait.
 */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cgroups } from './cgroups.ts'
import { cgroups } from './cgroups.ts'

/** The second time keeps the door open for one more period. */
const TIMES = 2
let underway = false

/** Returns at once; what fails only costs the wait. */
export function attachAhead(): void {
  if (underway) return
  underway = true
  attach().catch(() => undefined).finally(() => { underway = false })
}

async function attach(): Promise<void> {
  // Asked anew each time: a path of earlier would move us back.
  const path = ownProcs(readFileSync('/proc/self/cgroup', 'utf8'), cgroups())
  if (path !== undefined) for (let i = 0; i < TIMES; i++) await writeFile(path, '0')
}

/** From the text of /proc/self/cgroup. */
export function ownProcs(text: string, where: Cgroups): string | undefined {
  for (const line of text.split('\n')) {
    const [, names, ...path] = line.split(':')
    if (names === undefined || (where.v2 ? names !== '' : names !== 'freezer')) continue
    const dir = where.path('freezer', path.join(':'))
    if (dir !== undefined) return join(dir, 'cgroup.procs')
  }
  return undefined
}
