/** Where this machine's cgroups are mounted: one hierarchy (v2) or one a controller (v1). */
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Cgroups {
  v2: boolean
  /** Directory of a cgroup in one controller's hierarchy; undefined if the machine lacks it. */
  path(controller: string, cgroup: string): string | undefined
  /** Directories of a cgroup in all hierarchies. */
  all(cgroup: string): string[]
}

let found: Cgroups | undefined

export function cgroups(): Cgroups {
  found ??= parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
  return found
}

/** From the text of /proc/self/mountinfo. A hybrid machine's v2 mount has no controllers: v1 counts there. */
export function parseMounts(mountinfo: string): Cgroups {
  const controllers = new Map<string, string>()
  let unified: string | undefined
  for (const line of mountinfo.split('\n')) {
    const [front, back] = line.split(' - ')
    const mountPoint = front?.split(' ')[4]
    const [type, , options] = back?.split(' ') ?? []
    if (mountPoint === undefined) continue
    if (type === 'cgroup2') unified ??= mountPoint
    else if (type === 'cgroup') for (const o of options?.split(',') ?? []) if (!controllers.has(o)) controllers.set(o, mountPoint)
  }
  const v2 = unified !== undefined && !controllers.has('memory')
  return {
    v2,
    path: (controller, cgroup) => {
      const mount = v2 ? unified : controllers.get(controller)
      return mount === undefined ? undefined : join(mount, cgroup)
    },
    all: (cgroup) => [...new Set([...controllers.values(), ...(unified === undefined ? [] : [unified])])].map((mount) => join(mount, cgroup)),
  }
}

/**
 * Lets what is frozen in a cgroup or below it run again. runc freezes a container to signal all of its processes; if it is killed
 * meanwhile they stay so, and on v1 not even SIGKILL ends what is frozen.
 */
export function thaw(cgroup: string, where: Cgroups = cgroups()): void {
  const top = where.path('freezer', cgroup)
  if (top !== undefined) thawBelow(top, where.v2 ? ['cgroup.freeze', '1', '0'] : ['freezer.state', 'FROZEN', 'THAWED'])
}

function thawBelow(dir: string, [file, frozen, thawed]: [file: string, frozen: string, thawed: string]): void {
  try {
    const path = join(dir, file)
    // The top of a tree has no such file.
    if (existsSync(path) && readFileSync(path, 'utf8').trim() === frozen) writeFileSync(path, thawed)
    for (const e of readdirSync(dir, { withFileTypes: true })) if (e.isDirectory()) thawBelow(join(dir, e.name), [file, frozen, thawed])
  } catch {
    // Removed meanwhile.
  }
}

/** Takes away the empty directories of a cgroup that its runtime was kept from removing. */
export function removeCgroup(cgroup: string): void {
  for (const path of cgroups().all(cgroup)) {
    try {
      rmdirSync(path)
    } catch {
      // Gone, as it should be; or somebody is in it.
    }
  }
}
