/** All counters of a control group, under the names Docker's stats have. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DetailedStats } from '../engine.ts'
import { cgroups } from './cgroups.ts'
import type { Cgroups } from './cgroups.ts'

/** Limits at or above this mean none. */
const UNLIMITED = 2 ** 60
/** USER_HZ: in what cpuacct.stat of version 1 counts, on every machine Linux runs on. */
const TICK_NS = 10_000_000n

type Read = (controller: string, file: string) => string | undefined

/** undefined when the cgroup is gone. */
export function readDetailedStats(cgroup: string, atMs: number, groups: Cgroups = cgroups()): DetailedStats | undefined {
  const read: Read = (controller, file) => {
    const dir = groups.path(controller, cgroup)
    return dir === undefined ? undefined : readText(join(dir, file))
  }
  const stats = groups.v2 ? v2(read) : v1(read)
  return stats === undefined ? undefined : { atMs, ...stats }
}

/** Processes in a control group and all below it, as the host numbers them. */
export function cgroupPids(cgroup: string, groups: Cgroups = cgroups()): number[] {
  // Version 1: one whose hierarchy nobody leaves out.
  const top = ['pids', 'devices', 'memory'].map((c) => groups.path(c, cgroup)).find((d) => d !== undefined)
  const out: number[] = []
  const visit = (dir: string): void => {
    for (const line of readText(join(dir, 'cgroup.procs'))?.split('\n') ?? []) if (line !== '') out.push(Number(line))
    for (const child of subgroups(dir)) visit(join(dir, child))
  }
  if (top !== undefined) visit(top)
  return out.sort((a, b) => a - b)
}

function subgroups(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).filter((d) => d.isDirectory()).map((d) => d.name)
  } catch {
    return []
  }
}

type Stats = Omit<DetailedStats, 'atMs'>

function v1(read: Read): Stats | undefined {
  const usage = read('memory', 'memory.usage_in_bytes')
  const cpu = read('cpuacct', 'cpuacct.usage')
  if (usage === undefined || cpu === undefined) return undefined
  const ticks = keyed(read('cpuacct', 'cpuacct.stat'))
  const throttling = keyed(read('cpu', 'cpu.stat'))
  // Without the completely fair queueing scheduler only the throttling layer counts.
  const recursive = (name: string, throttled: string): Entries => {
    const own = blkio(read('blkio', `blkio.${name}`))
    return own.length > 0 ? own : blkio(read('blkio', `blkio.throttle.${throttled}_recursive`) ?? read('blkio', `blkio.throttle.${throttled}`))
  }
  return {
    cpu: {
      totalNs: BigInt(cpu.trim()), userNs: BigInt(ticks['user'] ?? 0) * TICK_NS, systemNs: BigInt(ticks['system'] ?? 0) * TICK_NS,
      perCpuNs: (read('cpuacct', 'cpuacct.usage_percpu') ?? '').trim().split(/\s+/).filter((n) => n !== '').map(BigInt),
      periods: throttling['nr_periods'] ?? 0, throttledPeriods: throttling['nr_throttled'] ?? 0, throttledNs: BigInt(throttling['throttled_time'] ?? 0),
    },
    memory: {
      usageBytes: Number(usage), ...optional('maxUsageBytes', number(read('memory', 'memory.max_usage_in_bytes'))),
      ...optional('limitBytes', limit(read('memory', 'memory.limit_in_bytes'))), ...optional('failCount', number(read('memory', 'memory.failcnt'))),
      stats: keyed(read('memory', 'memory.stat')),
    },
    pids: { current: number(read('pids', 'pids.current')) ?? 0, ...optional('limit', limit(read('pids', 'pids.max'))) },
    blkio: {
      io_service_bytes_recursive: recursive('io_service_bytes_recursive', 'io_service_bytes'),
      io_serviced_recursive: recursive('io_serviced_recursive', 'io_serviced'),
      io_queue_recursive: blkio(read('blkio', 'blkio.io_queued_recursive')),
      io_service_time_recursive: blkio(read('blkio', 'blkio.io_service_time_recursive')),
      io_wait_time_recursive: blkio(read('blkio', 'blkio.io_wait_time_recursive')),
      io_merged_recursive: blkio(read('blkio', 'blkio.io_merged_recursive')),
      io_time_recursive: blkio(read('blkio', 'blkio.time_recursive')),
      sectors_recursive: blkio(read('blkio', 'blkio.sectors_recursive')),
    },
  }
}

function v2(read: Read): Stats | undefined {
  const usage = read('memory', 'memory.current')
  const stat = read('cpu', 'cpu.stat')
  if (usage === undefined || stat === undefined) return undefined
  const cpu = keyed(stat)
  const ns = (usec: number | undefined): bigint => BigInt(usec ?? 0) * 1000n
  const events = keyed(read('memory', 'memory.events'))
  return {
    cpu: {
      totalNs: ns(cpu['usage_usec']), userNs: ns(cpu['user_usec']), systemNs: ns(cpu['system_usec']),
      periods: cpu['nr_periods'] ?? 0, throttledPeriods: cpu['nr_throttled'] ?? 0, throttledNs: ns(cpu['throttled_usec']),
    },
    memory: {
      usageBytes: Number(usage), ...optional('maxUsageBytes', number(read('memory', 'memory.peak'))),
      ...optional('limitBytes', limit(read('memory', 'memory.max'))), ...optional('failCount', events['oom']), stats: keyed(read('memory', 'memory.stat')),
    },
    pids: { current: number(read('pids', 'pids.current')) ?? 0, ...optional('limit', limit(read('pids', 'pids.max'))) },
    blkio: ioStat(read('io', 'io.stat')),
  }
}

type Entries = DetailedStats['blkio'][string]

/** Lines `8:0 Read 4096`, or `8:0 4096`; the sum in the last line is left out. */
function blkio(text: string | undefined): Entries {
  const out: Entries = []
  for (const line of text?.split('\n') ?? []) {
    const m = /^(\d+):(\d+)(?: (\w+))? (\d+)$/.exec(line)
    if (m !== null) out.push({ major: Number(m[1]), minor: Number(m[2]), op: m[3] ?? '', value: Number(m[4]) })
  }
  return out
}

/** Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`. */
function ioStat(text: string | undefined): Record<string, Entries> {
  const bytes: Entries = []
  const operations: Entries = []
  for (const line of text?.split('\n') ?? []) {
    const m = /^(\d+):(\d+) (.*)$/.exec(line)
    if (m === null) continue
    const device = { major: Number(m[1]), minor: Number(m[2]) }
    const values = Object.fromEntries((m[3] as string).split(' ').map((pair) => pair.split('=') as [string, string]))
    bytes.push({ ...device, op: 'read', value: Number(values['rbytes'] ?? 0) }, { ...device, op: 'write', value: Number(values['wbytes'] ?? 0) })
    operations.push({ ...device, op: 'read', value: Number(values['rios'] ?? 0) }, { ...device, op: 'write', value: Number(values['wios'] ?? 0) })
  }
  return { io_service_bytes_recursive: bytes, io_serviced_recursive: operations }
}

/** Lines `key number`. */
function keyed(text: string | undefined): Record<string, number> {
  const out: Record<string, number> = {}
  for (const line of text?.split('\n') ?? []) {
    const space = line.indexOf(' ')
    if (space > 0) out[line.slice(0, space)] = Number(line.slice(space + 1))
  }
  return out
}

function number(text: string | undefined): number | undefined {
  const n = text === undefined ? NaN : Number(text.trim())
  return Number.isNaN(n) ? undefined : n
}

/** `max` is no number, and version 1 says the largest one. */
function limit(text: string | undefined): number | undefined {
  const n = number(text)
  return n === undefined || n >= UNLIMITED ? undefined : n
}

function optional<K extends string>(key: K, value: number | undefined): Partial<Record<K, number>> {
  return value === undefined ? {} : { [key]: value } as Partial<Record<K, number>>
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}
