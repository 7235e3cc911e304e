/** When a container that ended is started again: Docker's policies and its growing pauses. */
import type { RestartPolicy } from '../../model.ts'

const FIRST_MS = 100
const MAX_MS = 60_000
/** One that ran this long begins with short pauses again. */
const STABLE_MS = 10_000

export class RestartManager {
  #policy: RestartPolicy
  #count: number
  #pauseMs = 0
  #canceled = false

  constructor(policy: RestartPolicy | undefined, count: number) {
    this.#policy = policy ?? {}
    this.#count = count
  }

  setPolicy(policy: RestartPolicy): void { this.#policy = policy }

  /** No restart until {@link reset}. */
  cancel(): void { this.#canceled = true }

  /** Somebody started it by hand. */
  reset(): void {
    this.#canceled = false
    this.#count = 0
    this.#pauseMs = 0
  }

  /** Milliseconds to wait before the restart; undefined: none. */
  afterExit(exitCode: number, manuallyStopped: boolean, ranMs: number): number | undefined {
    if (this.#canceled) return undefined
    if (ranMs >= STABLE_MS) this.#pauseMs = 0
    this.#pauseMs = this.#pauseMs === 0 ? FIRST_MS : Math.min(this.#pauseMs * 2, MAX_MS)
    if (!wanted(this.#policy, this.#count, exitCode, manuallyStopped)) return undefined
    this.#count++
    return this.#pauseMs
  }

  /** Whether one that does not run is started when the engine comes up. */
  atOpening(exitCode: number, manuallyStopped: boolean): boolean {
    if (this.#policy.Name === 'always') return true
    return !manuallyStopped && wanted(this.#policy, this.#count, exitCode, false)
  }
}

function wanted(policy: RestartPolicy, count: number, exitCode: number, manuallyStopped: boolean): boolean {
  switch (policy.Name) {
    case 'always': return true
    case 'unless-stopped': return !manuallyStopped
    case 'on-failure': {
      const max = policy.MaximumRetryCount ?? 0
      return exitCode !== 0 && (max === 0 || count < max)
    }
    default: return false
  }
}
