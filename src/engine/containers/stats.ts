/** Usage counters read from the container's cgroup and network namespace: no call to containerd, no process. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerStats } from '../engine.ts'
import { cgroups } from './cgroups.ts'
import type { Cgroups } from './cgroups.ts'

/** Limits at or above this mean none. */
const UNLIMITED = 2 ** 60

/** undefined when the cgroup is gone. `pid` is the container's init. */
export function readStats(cgroup: string, pid: number, atMs: number, groups: Cgroups = cgroups()): ContainerStats | undefined {
  const read = (controller: string, file: string): string | undefined => {
    const dir = groups.path(controller, cgroup)
    return dir === undefined ? undefined : readText(join(dir, file))
  }
  const usage = groups.v2 ? v2(read) : v1(read)
  if (usage === undefined) return undefined
  return { atMs, ...usage, ...network(readText(`/proc/${pid}/net/dev`)) }
}

type Reader = (controller: string, file: string) => string | undefined
type Usage = Omit<ContainerStats, 'atMs' | 'rxBytes' | 'txBytes'>

function v1(read: Reader): Usage | undefined {
  const memory = number(read('memory', 'memory.usage_in_bytes'))
  const cpu = read('cpuacct', 'cpuacct.usage')
  if (memory === undefined || cpu === undefined) return undefined
  const inactive = keyed(read('memory', 'memory.stat'), 'total_inactive_file') ?? 0
  const io = blkio(read('blkio', 'blkio.throttle.io_service_bytes_recursive') ?? read('blkio', 'blkio.throttle.io_service_bytes'))
  return {
    cpuNs: BigInt(cpu.trim()), memoryBytes: memory, workingSetBytes: Math.max(0, memory - inactive),
    ...limit(number(read('memory', 'memory.limit_in_bytes'))), pids: number(read('pids', 'pids.current')) ?? 0, ...io,
  }
}

function v2(read: Reader): Usage | undefined {
  const memory = number(read('memory', 'memory.current'))
  const cpu = keyed(read('cpu', 'cpu.stat'), 'usage_usec')
  if (memory === undefined || cpu === undefined) return undefined
  const inactive = keyed(read('memory', 'memory.stat'), 'inactive_file') ?? 0
  return {
    cpuNs: BigInt(cpu) * 1000n, memoryBytes: memory, workingSetBytes: Math.max(0, memory - inactive),
    ...limit(number(read('memory', 'memory.max'))), pids: number(read('pids', 'pids.current')) ?? 0, ...ioStat(read('io', 'io.stat')),
  }
}

/** How often the kernel killed in this cgroup for want of memory; 0 when it cannot be told. */
export function oomKills(cgroup: string, groups: Cgroups = cgroups()): number {
  const dir = groups.path('memory', cgroup)
  if (dir === undefined) return 0
  return keyed(readText(join(dir, groups.v2 ? 'memory.events' : 'memory.oom_control')), 'oom_kill') ?? 0
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

function number(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const n = Number(text.trim())
  return Number.isNaN(n) ? undefined : n
}

/** The number after `key` at the start of a line. */
function keyed(text: string | undefined, key: string): number | undefined {
  if (text === undefined) return undefined
  const at = text.startsWith(`${key} `) ? 0 : text.indexOf(`\n${key} `) + 1
  if (at === 0 && !text.startsWith(`${key} `)) return undefined
  return Number.parseInt(text.slice(at + key.length + 1), 10)
}

function limit(bytes: number | undefined): { memoryLimitBytes?: number } {
  return bytes === undefined || bytes >= UNLIMITED ? {} : { memoryLimitBytes: bytes }
}

/** Lines `8:0 Read 4096`. */
function blkio(text: string | undefined): { readBytes: number; writeBytes: number } {
  const sum = { readBytes: 0, writeBytes: 0 }
  for (const line of text?.split('\n') ?? []) {
    const [, what, bytes] = line.split(' ')
    if (what === 'Read') sum.readBytes += Number(bytes)
    else if (what === 'Write') sum.writeBytes += Number(bytes)
  }
  return sum
}

/** Lines `8:0 rbytes=4096 wbytes=0 …`. */
function ioStat(text: string | undefined): { readBytes: number; writeBytes: number } {
  const sum = { readBytes: 0, writeBytes: 0 }
  for (const m of text?.matchAll(/\b([rw])bytes=(\d+)/g) ?? []) sum[m[1] === 'r' ? 'readBytes' : 'writeBytes'] += Number(m[2])
  return sum
}

/** All interfaces of the namespace but the loopback. */
function network(text: string | undefined): { rxBytes?: number; txBytes?: number } {
  if (text === undefined) return {}
  let rxBytes = 0
  let txBytes = 0
  for (const line of text.split('\n').slice(2)) {
    const [name, counters] = line.split(':')
    if (counters === undefined || name?.trim() === 'lo') continue
    const fields = counters.trim().split(/\s+/)
    rxBytes += Number(fields[0])
    txBytes += Number(fields[8])
  }
  return { rxBytes, txBytes }
}
