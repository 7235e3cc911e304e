/**
 * One container's probes: when they run, and what their results mean. How a probe is made is the caller's (`check`).
 * Kubernetes' rules: the startup probe gates the other two; a success or failure counts after its threshold of results in a
 * row; before its first word a readiness probe counts as failed and a liveness probe as passed.
 */
import type { Probe } from '../../core/types/index.ts'

export type ProbeKind = 'startup' | 'liveness' | 'readiness'
export interface ProbeResult { ok: boolean; message: string }

export interface ProbeCallbacks {
  check(kind: ProbeKind, probe: Probe): Promise<ProbeResult>
  onReady(ready: boolean): void
  /** The startup probe has passed (at once when there is none). */
  onStarted(): void
  /** Startup or liveness has failed for good: the container is to be stopped. */
  onFailed(kind: 'startup' | 'liveness', probe: Probe, message: string): void
  /** Every failed result, for the event `Unhealthy`. */
  onUnhealthy(kind: ProbeKind, message: string): void
}

/** Counts results in a row against a probe's thresholds. */
export class Threshold {
  readonly #success: number
  readonly #failure: number
  #run = 0
  #lastOk: boolean | undefined

  constructor(probe: Probe) {
    this.#success = probe.successThreshold ?? 1
    this.#failure = probe.failureThreshold ?? 3
  }

  /** True or false once the threshold is reached (and on each further result), undefined before. */
  add(ok: boolean): boolean | undefined {
    this.#run = this.#lastOk === ok ? this.#run + 1 : 1
    this.#lastOk = ok
    return this.#run >= (ok ? this.#success : this.#failure) ? ok : undefined
  }
}

/**
 * Until a network probe that only waits for a first success (startup, readiness) has had one, it is also tried at these
 * times after its start. Those tries count only if they succeed, so a quick server is ready in milliseconds while the
 * thresholds keep their meaning.
 */
const EARLY_TRIES_MS = [25, 75, 150, 300, 600, 1000, 1500, 2000, 3000, 4000, 6000, 8000]

export class ContainerProbes {
  readonly #probes: Partial<Record<ProbeKind, Probe>>
  readonly #callbacks: ProbeCallbacks
  readonly #startedAtMs: number
  readonly #timers = new Map<ProbeKind, NodeJS.Timeout>()
  #stopped = false
  #livenessOff = false

  /** `started` and `ready`: what is known already, for a container adopted from an earlier agent. */
  constructor(
    probes: Partial<Record<ProbeKind, Probe>>, startedAtMs: number, known: { started: boolean; ready: boolean }, callbacks: ProbeCallbacks,
  ) {
    this.#probes = probes
    this.#callbacks = callbacks
    this.#startedAtMs = startedAtMs
    if (probes.startup !== undefined && !known.started) this.#begin('startup', probes.startup, false)
    else this.#afterStartup(known)
  }

  stop(): void {
    this.#stopped = true
    for (const t of this.#timers.values()) clearTimeout(t)
    this.#timers.clear()
  }

  /** The Pod is being deleted: nothing may kill the container any more but the deletion itself. */
  stopLiveness(): void {
    this.#livenessOff = true
    for (const kind of ['startup', 'liveness'] as const) {
      clearTimeout(this.#timers.get(kind))
      this.#timers.delete(kind)
    }
  }

  #afterStartup(known: { started: boolean; ready: boolean }): void {
    if (!known.started) this.#callbacks.onStarted()
    if (this.#probes.readiness === undefined) this.#callbacks.onReady(true)
    else this.#begin('readiness', this.#probes.readiness, known.ready)
    if (this.#probes.liveness !== undefined && !this.#livenessOff) this.#begin('liveness', this.#probes.liveness, true)
  }

  #begin(kind: ProbeKind, probe: Probe, word: boolean): void {
    const periodMs = (probe.periodSeconds ?? 10) * 1000
    const firstAtMs = this.#startedAtMs + (probe.initialDelaySeconds ?? 0) * 1000
    const threshold = new Threshold(probe)
    let said = word
    const early = kind === 'liveness' || word || probe.exec !== undefined || (probe.successThreshold ?? 1) > 1
      ? [] : EARLY_TRIES_MS.filter(ms => ms < periodMs)
    let dueMs = Math.max(firstAtMs, Date.now())
    const beganMs = dueMs
    let nextRegularMs = dueMs

    const run = async (): Promise<void> => {
      const regular = Date.now() >= nextRegularMs - 1
      if (regular) nextRegularMs = Math.max(nextRegularMs + periodMs, Date.now())
      const result = await this.#callbacks.check(kind, probe)
      if (this.#stopped || (this.#livenessOff && kind !== 'readiness')) return
      if (regular || result.ok) {
        if (!result.ok) this.#callbacks.onUnhealthy(kind, result.message)
        const verdict = threshold.add(result.ok)
        if (verdict !== undefined) {
          if (kind === 'readiness' && verdict !== said) this.#callbacks.onReady(verdict)
          said = verdict
          if (kind === 'startup' && verdict) {
            this.#timers.delete('startup')
            this.#afterStartup({ started: false, ready: false })
            return
          }
          if (kind !== 'readiness' && !verdict) {
            this.stop()
            this.#callbacks.onFailed(kind, probe, result.message)
            return
          }
        }
      }
      const tryMs = said && kind !== 'startup' ? undefined : early.find(ms => beganMs + ms > Date.now())
      dueMs = tryMs === undefined ? nextRegularMs : Math.min(nextRegularMs, beganMs + tryMs)
      schedule()
    }
    const schedule = (): void => {
      this.#timers.set(kind, setTimeout(() => void run(), Math.max(0, dueMs - Date.now())).unref())
    }
    schedule()
  }
}
