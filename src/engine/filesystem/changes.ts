/**
 * What a container changed in its image's files: read from the upper directory of its overlay, which holds just that. Only where
 * the snapshotter copies whole trees are both walked.
 */
import { closeSync, constants, lstatSync, openSync, readdirSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { entryPath, fdPath } from '../../files/root.ts'

export interface Change {
  path: string
  /** As Docker numbers it: 0 changed, 1 added, 2 deleted. */
  kind: 0 | 1 | 2
}

export interface ChangeSources {
  /** Directory of what is written: an overlay's upper directory, or the whole tree. */
  upper: string
  /** The image's tree; undefined for an image without files. */
  lower?: string
  /** With an overlay: upper over lower as the kernel shows it, which tells of directories that hide all below them. */
  merged?: string
  /** `upper` holds the whole tree, not only what differs. */
  whole: boolean
  /** Where mounts lie, as absolute paths: what a runtime makes for them is no change of the container's. */
  mountPoints: Set<string>
}

const ENTRIES_A_TURN = 500
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

/** Sorted by path. A directory is changed if its own attributes are, or if something in it is. */
export async function findChanges(s: ChangeSources): Promise<Change[]> {
  const walk = new Walk(s)
  const opened = [s.upper, s.lower, s.merged].map((p) => p === undefined ? undefined : openSync(p, DIRECTORY & ~constants.O_NOFOLLOW))
  try {
    await walk.directory('', opened[0] as number, opened[1], opened[2])
  } finally {
    for (const fd of opened) if (fd !== undefined) closeSync(fd)
  }
  return walk.changes.sort((a, b) => a.path < b.path ? -1 : 1)
}

class Walk {
  readonly changes: Change[] = []
  readonly #s: ChangeSources
  readonly #aboveMounts = new Set<string>()
  #entries = 0

  constructor(s: ChangeSources) {
    this.#s = s
    for (const point of s.mountPoints) {
      for (let end = point.lastIndexOf('/'); end > 0; end = point.lastIndexOf('/', end - 1)) this.#aboveMounts.add(point.slice(0, end))
    }
  }

  /** Resolves with whether places for mounts were left out in it. */
  async directory(path: string, upper: number, lower: number | undefined, merged: number | undefined): Promise<boolean> {
    let leftOut = false
    const names = readdirSync(fdPath(upper))
    const lowerNames = lower === undefined ? [] : readdirSync(fdPath(lower))
    for (const name of names) {
      if (++this.#entries % ENTRIES_A_TURN === 0) await turn()
      const at = `${path}/${name}`
      const now = lstatSync(entryPath(upper, name), { throwIfNoEntry: false })
      // Gone while we look.
      if (now === undefined) continue
      const before = lower === undefined ? undefined : lstatSync(entryPath(lower, name), { throwIfNoEntry: false })
      if (!this.#s.whole && now.isCharacterDevice() && now.rdev === 0) {
        if (before !== undefined) this.changes.push({ path: at, kind: 2 })
      } else if (now.isDirectory()) {
        if (await this.#subdirectory(at, name, now, before, upper, lower, merged)) leftOut = true
      } else if (before === undefined && this.#s.mountPoints.has(at) && now.size === 0) leftOut = true
      else if (before === undefined || !this.#s.whole || differs(before, now)) this.changes.push({ path: at, kind: before === undefined ? 1 : 0 })
    }
    // What the image has here and nobody sees any more: not by a whiteout of its own, but because the directory is a new one.
    if (lowerNames.length > 0 && (this.#s.whole || merged !== undefined)) {
      const seen = new Set(this.#s.whole ? names : [...names, ...readdirSync(fdPath(merged as number))])
      for (const name of lowerNames) if (!seen.has(name)) this.changes.push({ path: `${path}/${name}`, kind: 2 })
    }
    return leftOut
  }

  async #subdirectory(
    at: string, name: string, now: Stats, before: Stats | undefined, upper: number, lower: number | undefined, merged: number | undefined,
  ): Promise<boolean> {
    const both = before?.isDirectory() === true
    const fds = [upper, both ? lower : undefined, both ? merged : undefined].map((fd) => fd === undefined ? undefined : openDirectory(fd, name))
    const [mine, theirs, shown] = fds
    const first = this.changes.length
    let leftOut = false
    try {
      if (mine !== undefined) leftOut = await this.directory(at, mine, theirs, shown)
    } finally {
      for (const fd of fds) if (fd !== undefined) closeSync(fd)
    }
    const empty = this.changes.length === first
    if (both) {
      const touched = now.mode !== before.mode || now.uid !== before.uid || now.gid !== before.gid
      if (!empty || touched || (now.mtimeMs !== before.mtimeMs && !leftOut && !this.#s.mountPoints.has(at))) this.changes.push({ path: at, kind: 0 })
      return false
    }
    if (before === undefined && empty && (this.#s.mountPoints.has(at) || (this.#aboveMounts.has(at) && leftOut))) return true
    this.changes.push({ path: at, kind: before === undefined ? 1 : 0 })
    return false
  }
}

function openDirectory(parent: number, name: string): number | undefined {
  try {
    return openSync(entryPath(parent, name), DIRECTORY)
  } catch {
    // Gone, or something else by now.
    return undefined
  }
}

function differs(a: Stats, b: Stats): boolean {
  return a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid || a.rdev !== b.rdev || a.size !== b.size || a.mtimeMs !== b.mtimeMs
}
