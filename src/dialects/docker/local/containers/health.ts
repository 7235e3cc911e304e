/** A container's health check: probes in turn, a verdict, the last results. Starting is followed by healthy or unhealthy, never by a restart. */
import type { ContainerConfig, Health, HealthConfig, HealthResult } from '../../model.ts'
import { rfc3339Nano } from '../../shared/time.ts'

const MS_NS = 1_000_000
const DEFAULT = { intervalMs: 30_000, timeoutMs: 30_000, startIntervalMs: 5000, retries: 3 }
const KEPT_RESULTS = 5

export interface Clock {
  now(): number
  after(ms: number, work: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms)
    return () => { clearTimeout(timer) }
  },
}

export interface HealthDeps {
  clock: Clock
  /** Runs the command; `exitCode` −1 if it took longer than `timeoutMs` and was ended. Output is at most 4096 bytes. */
  probe(command: string[], timeoutMs: number): Promise<{ exitCode: number; output: string }>
  onStatus(status: Health['Status']): void
}

/** The command of a health check; undefined: there is none. */
export function probeCommand(config: ContainerConfig): string[] | undefined {
  const [kind, ...rest] = config.Healthcheck?.Test ?? []
  if (kind === 'CMD') return rest.length === 0 ? undefined : rest
  if (kind === 'CMD-SHELL') return [...(config.Shell?.length ?? 0) > 0 ? config.Shell! : ['/bin/sh', '-c'], rest.join(' ')]
  return undefined
}

export class HealthMonitor {
  status: Health['Status'] = 'starting'
  #streak = 0
  #log: HealthResult[] = []
  readonly #command: string[]
  readonly #deps: HealthDeps
  readonly #intervalMs: number
  readonly #startIntervalMs: number
  readonly #startPeriodMs: number
  readonly #timeoutMs: number
  readonly #retries: number
  #startedAtMs = 0
  #cancel: (() => void) | undefined
  /** Counts stops, so that a probe's late answer is dropped. */
  #run = 0

  constructor(command: string[], config: HealthConfig, deps: HealthDeps) {
    this.#command = command
    this.#deps = deps
    const ms = (ns: number | undefined, fallback: number): number => ns === undefined || ns === 0 ? fallback : ns / MS_NS
    this.#intervalMs = ms(config.Interval, DEFAULT.intervalMs)
    this.#timeoutMs = ms(config.Timeout, DEFAULT.timeoutMs)
    this.#startPeriodMs = ms(config.StartPeriod, 0)
    this.#startIntervalMs = ms(config.StartInterval, DEFAULT.startIntervalMs)
    this.#retries = config.Retries === undefined || config.Retries === 0 ? DEFAULT.retries : config.Retries
  }

  /** A new run of the container, since `startedAtMs`. */
  start(startedAtMs: number): void {
    this.stop()
    this.status = 'starting'
    this.#streak = 0
    this.#startedAtMs = startedAtMs
    this.#schedule()
  }

  /** Goes on after a pause, or after a restart of this process (with what was known then). */
  resume(startedAtMs: number): void {
    this.stop()
    this.#startedAtMs = startedAtMs
    this.#schedule()
  }

  stop(): void {
    this.#run++
    this.#cancel?.()
    this.#cancel = undefined
  }

  inspect(): Health { return { Status: this.status, FailingStreak: this.#streak, Log: this.#log } }

  #schedule(): void {
    const run = this.#run
    const young = this.status === 'starting' && this.#deps.clock.now() - this.#startedAtMs < this.#startPeriodMs
    this.#cancel = this.#deps.clock.after(young ? this.#startIntervalMs : this.#intervalMs, () => { void this.#probe(run) })
  }

  async #probe(run: number): Promise<void> {
    const startMs = this.#deps.clock.now()
    const result = await this.#deps.probe(this.#command, this.#timeoutMs).catch((e: Error) => ({ exitCode: -1, output: e.message }))
    if (run !== this.#run) return
    this.#take(startMs, result)
    this.#schedule()
  }

  #take(startMs: number, result: { exitCode: number; output: string }): void {
    const before = this.status
    if (result.exitCode === 0) {
      this.#streak = 0
      this.status = 'healthy'
    } else if (this.status !== 'starting' || startMs - this.#startedAtMs >= this.#startPeriodMs) {
      this.#streak++
      if (this.#streak >= this.#retries) this.status = 'unhealthy'
    }
    this.#log = [...this.#log, {
      Start: rfc3339Nano(startMs), End: rfc3339Nano(this.#deps.clock.now()), ExitCode: result.exitCode, Output: result.output,
    }].slice(-KEPT_RESULTS)
    if (this.status !== before) this.#deps.onStatus(this.status)
  }
}
