/** Kubernetes' time formats. */
import type { MicroTime, Time } from '../core/types/index.ts'

/** RFC 3339, whole seconds. */
export function time(ms: number): Time { return `${new Date(ms).toISOString().slice(0, 19)}Z` }

/** RFC 3339, six fractional digits. */
export function microTime(ms: number): MicroTime { return `${new Date(ms).toISOString().slice(0, 23)}000Z` }
