/** Control groups left behind by a host whose processes were killed. */
import { existsSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = '/sys/fs/cgroup'

/** The mounted hierarchies: the one of cgroup v2, or each controller of v1. */
export function hierarchies(): string[] {
  if (existsSync(join(ROOT, 'cgroup.controllers'))) return [ROOT]
  return readdirSync(ROOT, { withFileTypes: true }).filter(e => e.isDirectory()).map(e => join(ROOT, e.name))
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
