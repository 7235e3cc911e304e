/** Delays between attempts, as numbers only: who waits is the caller. */

export const BACKOFF_BASE_MS = 10_000
export const BACKOFF_CAP_MS = 300_000
/** A container that ran this long starts again from the first delay. */
export const BACKOFF_RESET_MS = 600_000

/** 0, 10 s, 20 s, 40 s … 300 s: the first restart of a container is immediate, unlike Kubernetes' (10 s). */
export function restartDelayMs(level: number): number {
  return level <= 0 ? 0 : Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (level - 1))
}

/** 10 s, 20 s … 300 s after the `failures`th failed image pull in a row (1 is the first). */
export function pullDelayMs(failures: number): number { return Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (failures - 1)) }

/** 0.5 s, 1 s … 30 s after the `failures`th failure to set up a sandbox, a volume or a container's configuration. */
export function setupDelayMs(failures: number): number { return Math.min(30_000, 500 * 2 ** (failures - 1)) }
