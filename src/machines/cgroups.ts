/** Control groups: room for those of hosts, and the end of those left behind by a host whose processes were killed. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = '/sys/fs/cgroup'

/** The mounted hierarchies: the one of cgroup v2, or each controller of v1. */
export function hierarchies(): string[] {
  if (existsSync(join(ROOT, 'cgroup.controllers'))) return [ROOT]
  return readdirSync(ROOT, { withFileTypes: true }).filter(e => e.isDirectory()).map(e => join(ROOT, e.name))
}

/**
 * In a container of version 2 the top of the tree is a group like any other: while it holds processes, the kernel gives groups
 * below it no controllers. So those processes, this one among them, move to a group of their own. Does nothing elsewhere.
 */
export function makeRoom(root: string = ROOT): void {
  // The true top has no type. It may hold processes, and version 1 has neither.
  if (!existsSync(join(root, 'cgroup.type'))) return
  const words = (file: string): string[] => readFileSync(join(root, file), 'utf8').split(/\s/).filter(Boolean)
  const enabled = words('cgroup.subtree_control')
  const wanted = words('cgroup.controllers').filter(c => !enabled.includes(c))
  if (wanted.length === 0) return
  const own = join(root, 'init')
  mkdirSync(own, { recursive: true })
  // A process may fork between being read and being moved.
  for (let pids = words('cgroup.procs'), tries = 0; pids.length > 0 && tries < 10; pids = words('cgroup.procs'), tries++) {
    for (const pid of pids) move(pid, own)
  }
  // One at a time: a controller that cannot be handed on must not keep back the others.
  for (const c of wanted) {
    try {
      writeFileSync(join(root, 'cgroup.subtree_control'), `+${c}`)
    } catch (e) {
      if (['cpu', 'memory', 'pids'].includes(c)) throw new Error(`control group ${root} cannot hand on "${c}": ${(e as Error).message}`, { cause: e })
    }
  }
}

function move(pid: string, group: string): void {
  try {
    writeFileSync(join(group, 'cgroup.procs'), pid)
  } catch {
    // It ended meanwhile, or is none of this namespace's: then handing on fails, and says so.
  }
}

/** Removes the group `path` (e.g. `/gantry-ab12/n1`) with everything below it from every hierarchy. Groups with processes stay. */
export function removeCgroups(path: string): void {
  for (const h of hierarchies()) removeTree(join(h, path))
}

function removeTree(dir: string): void {
  let entries
  try {
    entries = readdirSync(dir, { withFileTypes: true })
  } catch {
    return
  }
  for (const e of entries) if (e.isDirectory()) removeTree(join(dir, e.name))
  try {
    rmdirSync(dir)
  } catch {
    // Still in use: its processes' owner removes it.
  }
}
