/** What a machine and its Pods use: cumulative counters, from which a reader of two samples gets rates. */
import { readFile } from 'node:fs/promises'
import type { ContainerUsage, NodeStats, PodUsage } from '../core/node-api.ts'

export interface StatsTarget {
  namespace: string
  name: string
  uid: string
  /** Running containers: name and the engine's id. */
  containers: { name: string; id: string }[]
}

export interface StatsSources {
  node: string
  targets: StatsTarget[]
  containerStats(id: string): Promise<{ atMs: number; cpuNs: bigint; workingSetBytes: number } | undefined>
  networkCounters(uid: string): Promise<{ rxBytes: number; txBytes: number } | undefined>
}

/** Clock ticks of /proc/stat: 100 per second on every Linux that matters (USER_HZ). */
const TICK_NS = 10_000_000n

export async function nodeStats(s: StatsSources): Promise<NodeStats> {
  const [stat, meminfo, pods] = await Promise.all([
    readFile('/proc/stat', 'utf8'), readFile('/proc/meminfo', 'utf8'), Promise.all(s.targets.map(t => podUsage(s, t))),
  ])
  return { node: s.node, atMs: Date.now(), cpuNs: String(busyNs(stat)), workingSetBytes: workingSetBytes(meminfo), pods }
}

async function podUsage(s: StatsSources, t: StatsTarget): Promise<PodUsage> {
  const [counters, containers] = await Promise.all([
    s.networkCounters(t.uid).catch(() => undefined),
    Promise.all(t.containers.map(async ({ name, id }): Promise<ContainerUsage[]> => {
      const stats = await s.containerStats(id).catch(() => undefined)
      return stats === undefined ? [] : [{ name, cpuNs: String(stats.cpuNs), workingSetBytes: stats.workingSetBytes, atMs: stats.atMs }]
    })),
  ])
  return { namespace: t.namespace, name: t.name, uid: t.uid, ...counters, containers: containers.flat() }
}

/** Time all CPUs were busy since boot: all but idle and iowait; guest time is in user time already. */
export function busyNs(stat: string): bigint {
  const fields = stat.slice(0, stat.indexOf('\n')).trim().split(/\s+/).slice(1, 9).map(BigInt)
  return fields.reduce((sum, ticks, i) => i === 3 || i === 4 ? sum : sum + ticks, 0n) * TICK_NS
}

/** Memory that is not available for new work. */
export function workingSetBytes(meminfo: string): number {
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? 0)
  return (kib('MemTotal') - kib('MemAvailable')) * 1024
}
