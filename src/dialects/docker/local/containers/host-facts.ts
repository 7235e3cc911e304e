/** What this machine can give containers; read once. */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { delimiter, join } from 'node:path'
import { parseSet } from '../../shared/validate.ts'
import type { HostFacts } from '../../shared/validate.ts'

export interface MachineFacts extends HostFacts {
  cgroupV2: boolean
  /** The kernel keeps account of swap. */
  swapLimit: boolean
  /** The kernel shares out block devices by weight. */
  blkioWeight: boolean
}

export function readHostFacts(): MachineFacts {
  const cgroupV2 = existsSync('/sys/fs/cgroup/cgroup.controllers')
  return {
    cpus: readSet('/sys/devices/system/cpu/online', availableParallelism()),
    memoryNodes: readSet('/sys/devices/system/node/online', 1),
    runtimes: ['runc', 'io.containerd.runc.v2', ...(inPath('crun') ? ['crun'] : [])],
    cgroupV2,
    swapLimit: cgroupV2 ? existsSync('/proc/swaps') : existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'),
    blkioWeight: cgroupV2 || ['blkio.weight', 'blkio.bfq.weight'].some((f) => existsSync(join('/sys/fs/cgroup/blkio', f))),
  }
}

function readSet(path: string, fallback: number): Set<number> {
  try {
    return new Set(parseSet(readFileSync(path, 'utf8').trim()))
  } catch {
    return new Set(Array.from({ length: fallback }, (_, i) => i))
  }
}

export function inPath(program: string): boolean { return findProgram(program) !== undefined }

export function findProgram(program: string): string | undefined {
  return (process.env['PATH'] ?? '').split(delimiter).concat('/usr/sbin', '/usr/bin', '/sbin', '/usr/libexec/docker')
    .map((dir) => join(dir, program)).find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}
