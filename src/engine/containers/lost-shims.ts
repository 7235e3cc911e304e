/**
 * Shims that serve nothing. containerd 1.6 forgets a shim whose start was cut off by the death of the one who asked for it; the
 * process would stay for ever.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

export interface ShimOwner {
  /** containerd's socket and namespace, as shims have them in their arguments. */
  containerdSocket: string
  namespace: string
}

/**
 * Ends the shims that `lost` says have no task, unless they have a process below them (those of a group may serve others). Answers the
 * folders they worked in, which nobody else will remove.
 */
export function endLostShims(owner: ShimOwner, lost: (id: string) => boolean): string[] {
  const folders: string[] = []
  const parents = new Set<number>()
  const candidates: { pid: number; id: string }[] = []
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const parent = parentOf(pid)
    if (parent !== undefined) parents.add(parent)
    const id = shimId(pid, owner)
    if (id !== undefined && lost(id)) candidates.push({ pid, id })
  }
  for (const { pid, id } of candidates) {
    if (parents.has(pid)) continue
    try {
      const folder = readlinkSync(`/proc/${pid}/cwd`)
      process.kill(pid, 'SIGKILL')
      if (folder.endsWith(`/io.containerd.runtime.v2.task/${owner.namespace}/${id}`)) folders.push(folder)
    } catch {
      // Gone by itself.
    }
  }
  return folders
}

function parentOf(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`)
  // The name in parentheses may hold anything.
  return stat === undefined ? undefined : Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
}

function shimId(pid: number, owner: ShimOwner): string | undefined {
  const args = read(`/proc/${pid}/cmdline`)?.split('\0') ?? []
  if (args[0]?.endsWith('/containerd-shim-runc-v2') !== true && args[0] !== 'containerd-shim-runc-v2') return undefined
  const value = (flag: string): string | undefined => {
    const at = args.indexOf(flag)
    return at < 0 ? undefined : args[at + 1]
  }
  return value('-address') === owner.containerdSocket && value('-namespace') === owner.namespace ? value('-id') : undefined
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}
