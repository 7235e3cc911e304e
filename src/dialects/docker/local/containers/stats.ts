/** `docker stats`: one sampler a watched container, however many watch. */
import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import type { DetailedStats } from '../../../../engine/engine.ts'
import type { InterfaceCounters } from '../../../../network/cnm/cnm.ts'
import type { CpuStats, Stats } from '../../model.ts'
import { rfc3339Nano } from '../../shared/time.ts'
import type { Container } from './container.ts'
import { dockerError } from './context.ts'
import type { Context } from './context.ts'
import { networkOwner } from './sandbox.ts'

const PERIOD_MS = 1000
const TICKS_PER_SECOND = 100
const NO_CPU: CpuStats = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 }, throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
}

type Sample = Omit<Stats, 'precpu_stats' | 'preread'>
type Listener = (s: Stats) => void

/** Samples of all watched containers. */
export class Sampler {
  readonly #x: Context
  readonly #watched = new Map<string, { listeners: Set<Listener>; timer: NodeJS.Timeout }>()

  constructor(x: Context) { this.#x = x }

  /** One sample without a past, or one that has waited for a second; of a stopped container its names alone. */
  async once(c: Container, oneShot: boolean): Promise<Stats> {
    if (!c.alive) return nothing(c)
    const first = await this.#sample(c)
    if (first === undefined) return nothing(c)
    if (oneShot) return complete(first, undefined)
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS))
    const second = c.alive ? await this.#sample(c) : undefined
    return second === undefined ? nothing(c) : complete(second, first)
  }

  /** One a second until the reader stops, or the container is gone. Slow readers get the newest. */
  async* stream(c: Container): AsyncGenerator<Stats> {
    let newest: Stats | undefined = c.alive ? undefined : nothing(c)
    let wake = Promise.withResolvers<void>()
    let gone = false
    const listener: Listener = (s) => {
      newest = s
      wake.resolve()
    }
    this.#watch(c, listener)
    void c.removed.promise.then(() => {
      gone = true
      wake.resolve()
    })
    try {
      while (!gone) {
        if (newest === undefined) await wake.promise
        wake = Promise.withResolvers()
        const next = newest as Stats | undefined
        newest = undefined
        if (next !== undefined) yield next
      }
    } finally {
      this.#unwatch(c, listener)
    }
  }

  close(): void {
    for (const { timer } of this.#watched.values()) clearInterval(timer)
    this.#watched.clear()
  }

  #watch(c: Container, listener: Listener): void {
    const watched = this.#watched.get(c.id)
    if (watched !== undefined) {
      watched.listeners.add(listener)
      return
    }
    const listeners = new Set([listener])
    let before: Sample | undefined
    let busy = false
    const tick = async (): Promise<void> => {
      if (busy) return
      busy = true
      try {
        const now = c.alive ? await this.#sample(c) : undefined
        const stats = now === undefined ? nothing(c) : complete(now, before)
        // The first sample says nothing of the present use.
        if (now === undefined || before !== undefined) for (const l of listeners) l(stats)
        before = now
      } catch (e) {
        this.#x.logger.warn(`no statistics of container ${c.id}`, { error: String(e) })
      } finally {
        busy = false
      }
    }
    void tick()
    this.#watched.set(c.id, { listeners, timer: setInterval(() => { void tick() }, PERIOD_MS) })
  }

  #unwatch(c: Container, listener: Listener): void {
    const watched = this.#watched.get(c.id)
    watched?.listeners.delete(listener)
    if (watched === undefined || watched.listeners.size > 0) return
    clearInterval(watched.timer)
    this.#watched.delete(c.id)
  }

  async #sample(c: Container): Promise<Sample | undefined> {
    const owner = networkOwner(this.#x, c)
    const [d, counters] = await Promise.all([
      this.#x.engine.containers.detailedStats(c.id), owner === undefined ? {} : this.#x.cnm.counters(owner.id).catch(() => ({})),
    ]).catch((e: unknown) => { throw dockerError(e) })
    return d === undefined ? undefined : toSample(c, d, counters)
  }
}

function nothing(c: Container): Stats {
  return {
    name: `/${c.name}`, id: c.id, read: rfc3339Nano(0), preread: rfc3339Nano(0), pids_stats: {},
    blkio_stats: {}, num_procs: 0, storage_stats: {}, cpu_stats: NO_CPU, precpu_stats: NO_CPU, memory_stats: {},
  }
}

function complete(now: Sample, before: Sample | undefined): Stats {
  return { ...now, preread: before?.read ?? rfc3339Nano(0), precpu_stats: before?.cpu_stats ?? NO_CPU }
}

const BLKIO = [
  'io_service_bytes_recursive', 'io_serviced_recursive', 'io_queue_recursive', 'io_service_time_recursive', 'io_wait_time_recursive', 'io_merged_recursive',
  'io_time_recursive', 'sectors_recursive',
]

function toSample(c: Container, d: DetailedStats, counters: Record<string, InterfaceCounters>): Sample {
  const host = totalmem()
  const limit = d.memory.limitBytes === undefined ? host : Math.min(d.memory.limitBytes, host)
  const networks = Object.entries(counters).map(([name, n]) => [name, {
    rx_bytes: n.rxBytes, rx_packets: n.rxPackets, rx_errors: n.rxErrors, rx_dropped: n.rxDropped,
    tx_bytes: n.txBytes, tx_packets: n.txPackets, tx_errors: n.txErrors, tx_dropped: n.txDropped,
  }] as const)
  return {
    name: `/${c.name}`,
    id: c.id,
    read: rfc3339Nano(d.atMs),
    pids_stats: { current: d.pids.current, ...(d.pids.limit === undefined ? {} : { limit: d.pids.limit }) },
    blkio_stats: Object.fromEntries(BLKIO.map((key) => [key, d.blkio[key] ?? null])),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: {
      cpu_usage: {
        total_usage: Number(d.cpu.totalNs), ...(d.cpu.perCpuNs === undefined ? {} : { percpu_usage: d.cpu.perCpuNs.map(Number) }),
        usage_in_kernelmode: Number(d.cpu.systemNs), usage_in_usermode: Number(d.cpu.userNs),
      },
      system_cpu_usage: systemCpuNs(),
      online_cpus: availableParallelism(),
      throttling_data: { periods: d.cpu.periods, throttled_periods: d.cpu.throttledPeriods, throttled_time: Number(d.cpu.throttledNs) },
    },
    memory_stats: {
      usage: d.memory.usageBytes, stats: d.memory.stats, limit,
      ...(d.memory.maxUsageBytes === undefined ? {} : { max_usage: d.memory.maxUsageBytes }),
      ...(d.memory.failCount === undefined ? {} : { failcnt: d.memory.failCount }),
    },
    ...(networks.length === 0 ? {} : { networks: Object.fromEntries(networks) }),
  }
}

/** All CPUs' time since the boot, idle time too. */
function systemCpuNs(): number {
  const line = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] ?? ''
  const ticks = line.trim().split(/\s+/).slice(1, 8).reduce((sum, n) => sum + Number(n), 0)
  return ticks * (1e9 / TICKS_PER_SECOND)
}
