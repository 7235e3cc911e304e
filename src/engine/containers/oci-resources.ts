/** Limits of a container as the runtimes take them, on both versions of control groups, and what this machine's kernel can limit. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BlkioLimit, Resources } from '../engine.ts'
import { cgroups } from './cgroups.ts'
import type { Cgroups } from './cgroups.ts'
import { blockDevice } from './devices.ts'

/** What can be limited here. What cannot is left out of a container's limits: its user wants to be warned. */
export interface SupportedResources {
  cgroupVersion: 1 | 2
  memory: boolean
  swap: boolean
  memoryReservation: boolean
  memorySwappiness: boolean
  oomKillDisable: boolean
  cpuShares: boolean
  cpuQuota: boolean
  cpuRealtime: boolean
  cpuset: boolean
  pids: boolean
  blkioWeight: boolean
  blkioWeightDevice: boolean
  blkioThrottle: boolean
}

let found: SupportedResources | undefined

/** Facts of this machine, read once. */
export function supportedResources(): SupportedResources { return found ??= probe(cgroups(), ownGroup()) }

/** `own`: the path of this process's control group, where version 2 shows what children may have. */
export function probe(groups: Cgroups, own: string): SupportedResources {
  const has = (controller: string, file: string): boolean => {
    const dir = groups.path(controller, groups.v2 ? own : '/')
    return dir !== undefined && existsSync(join(dir, file))
  }
  if (!groups.v2) {
    return {
      cgroupVersion: 1, memory: has('memory', 'memory.limit_in_bytes'), swap: has('memory', 'memory.memsw.limit_in_bytes'),
      memoryReservation: has('memory', 'memory.soft_limit_in_bytes'), memorySwappiness: has('memory', 'memory.swappiness'),
      oomKillDisable: has('memory', 'memory.oom_control'), cpuShares: has('cpu', 'cpu.shares'), cpuQuota: has('cpu', 'cpu.cfs_quota_us'),
      cpuRealtime: has('cpu', 'cpu.rt_runtime_us'), cpuset: has('cpuset', 'cpuset.cpus'), pids: groups.path('pids', '/') !== undefined,
      blkioWeight: has('blkio', 'blkio.weight') || has('blkio', 'blkio.bfq.weight'),
      blkioWeightDevice: has('blkio', 'blkio.weight_device') || has('blkio', 'blkio.bfq.weight_device'),
      blkioThrottle: has('blkio', 'blkio.throttle.read_bps_device'),
    }
  }
  const controllers = read(join(groups.path('', '/') ?? '/sys/fs/cgroup', 'cgroup.controllers')).trim().split(/\s+/)
  const on = (c: string): boolean => controllers.includes(c)
  return {
    cgroupVersion: 2, memory: on('memory'), swap: on('memory') && (own === '/' || has('memory', 'memory.swap.max')), memoryReservation: on('memory'),
    memorySwappiness: false, oomKillDisable: false, cpuShares: on('cpu'), cpuQuota: on('cpu'), cpuRealtime: false, cpuset: on('cpuset'), pids: on('pids'),
    blkioWeight: has('io', 'io.weight') || has('io', 'io.bfq.weight'), blkioWeightDevice: has('io', 'io.bfq.weight'), blkioThrottle: on('io'),
  }
}

function ownGroup(): string { return /^0::(.*)$/m.exec(read('/proc/self/cgroup'))?.[1] ?? '/' }

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/**
 * `linux.resources` of what is set and can be had. Weights of cgroup v2 are made from shares by the runtime. There a memory limit
 * is one of memory alone, so that a container would swap instead of ending: with nothing said of swap it gets none. (Version 1
 * may be built without accounts of swap, and fails if it is told of them.)
 */
export function ociResources(r: Resources, can: SupportedResources = supportedResources()): object {
  const swap = r.memorySwapBytes ?? (can.cgroupVersion === 2 ? r.memoryBytes : undefined)
  const cpu = set({
    shares: can.cpuShares ? r.cpuShares : undefined,
    quota: can.cpuQuota ? r.cpuQuotaUs : undefined, period: can.cpuQuota ? r.cpuPeriodUs : undefined,
    realtimeRuntime: can.cpuRealtime ? r.cpuRealtimeRuntimeUs : undefined, realtimePeriod: can.cpuRealtime ? r.cpuRealtimePeriodUs : undefined,
    cpus: can.cpuset ? r.cpusetCpus : undefined, mems: can.cpuset ? r.cpusetMems : undefined,
  })
  const memory = set({
    limit: can.memory ? r.memoryBytes : undefined, swap: can.swap ? swap : undefined,
    reservation: can.memoryReservation ? r.memoryReservationBytes : undefined,
    swappiness: can.memorySwappiness ? r.memorySwappiness : undefined,
    disableOOMKiller: can.oomKillDisable && r.oomKillDisable === true ? true : undefined,
  })
  const blockIO = set({
    weight: can.blkioWeight ? r.blkioWeight : undefined,
    weightDevice: can.blkioWeightDevice ? r.blkioWeightDevices?.map((d) => ({ ...blockDevice(d.path), weight: d.weight })) : undefined,
    ...(can.blkioThrottle ? {
      throttleReadBpsDevice: throttles(r.blkioReadBps), throttleWriteBpsDevice: throttles(r.blkioWriteBps),
      throttleReadIOPSDevice: throttles(r.blkioReadIops), throttleWriteIOPSDevice: throttles(r.blkioWriteIops),
    } : {}),
  })
  return set({
    cpu, memory, blockIO,
    // Zero and less: no limit, which the runtimes call −1.
    pids: r.pidsMax === undefined || !can.pids ? undefined : { limit: r.pidsMax > 0 ? r.pidsMax : -1 },
  }) ?? {}
}

function throttles(list: BlkioLimit[] | undefined): object[] | undefined {
  return list?.map((l) => ({ ...blockDevice(l.path), rate: l.rate }))
}

/** Without what is undefined or an empty list; undefined if nothing is left. */
function set(values: Record<string, unknown>): object | undefined {
  const kept = Object.entries(values).filter(([, v]) => v !== undefined && !(Array.isArray(v) && v.length === 0))
  return kept.length === 0 ? undefined : Object.fromEntries(kept)
}
