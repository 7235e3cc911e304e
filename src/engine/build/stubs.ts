/**
 * Places that a runtime makes in a step's file system to mount something there. They are not what the step did, and must not become part
 * of its layer.
 */
import { lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { join, posix } from 'node:path'
import type { Mount } from '../containerd/index.ts'

/** Every step has these. */
const ALWAYS = ['/proc', '/sys', '/dev', '/etc/resolv.conf', '/etc/hosts']

interface Layers { upper: string; lower: string[] }

/** Removes, from the writable layer of an overlay snapshot, empty mount points at `targets` that the layers below do not have. */
export function removeMountPoints(snapshot: Mount[], targets: string[]): void {
  const layers = layersOf(snapshot)
  if (layers === undefined) return
  for (const target of [...ALWAYS, ...targets]) {
    // The place, and then directories above it that were made for it.
    for (let path = posix.normalize(target); path !== '/' && path !== '.'; path = posix.dirname(path)) {
      if (existsBelow(layers.lower, path) || !removeEmpty(join(layers.upper, path))) break
    }
  }
}

/** Undefined for snapshotters without layers that can be told apart. */
function layersOf(snapshot: Mount[]): Layers | undefined {
  const option = (name: string): string | undefined => snapshot[0]?.options.find(o => o.startsWith(`${name}=`))?.slice(name.length + 1)
  const upper = option('upperdir')
  const lower = option('lowerdir')
  return snapshot.length === 1 && upper !== undefined && lower !== undefined ? { upper, lower: lower.split(':') } : undefined
}

/** A path through a link counts as there: what it leads to is not looked for. */
function existsBelow(lower: string[], path: string): boolean {
  const parts = path.split('/').filter(p => p !== '')
  for (let n = 1; n <= parts.length; n++) {
    const part = parts.slice(0, n).join('/')
    const found = lower.map(dir => stat(join(dir, part))).find(s => s !== undefined)
    // Device 0:0 is overlay's mark for something removed.
    if (found === undefined || (found.isCharacterDevice() && found.rdev === 0)) return false
    if (found.isSymbolicLink()) return true
  }
  return true
}

function removeEmpty(path: string): boolean {
  const s = stat(path)
  try {
    if (s?.isDirectory() === true && readdirSync(path).length === 0) rmdirSync(path)
    else if (s?.isFile() === true && s.size === 0) unlinkSync(path)
    else return false
    return true
  } catch {
    return false
  }
}

function stat(path: string): ReturnType<typeof lstatSync> | undefined {
  try {
    return lstatSync(path)
  } catch {
    return undefined
  }
}
