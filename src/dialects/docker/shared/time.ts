/** Times as Docker writes them. Inside, a time is a number of milliseconds since the epoch, with a fraction; 0 is "never". */

export const NEVER = '0001-01-01T00:00:00Z'

/** Now, finer than a millisecond; never earlier than what it answered before. */
export function nowMs(): number {
  const now = performance.timeOrigin + performance.now()
  // The clock may have been set since this process began: then the coarse clock is right.
  const coarse = Date.now()
  last = Math.max(last, Math.abs(now - coarse) < 1000 ? now : coarse)
  return last
}
let last = 0

/** RFC 3339 with as many digits of a nanosecond as needed, as Go prints it. */
export function rfc3339Nano(ms: number): string {
  if (ms <= 0) return NEVER
  const whole = Math.floor(ms)
  const nanos = (whole % 1000) * 1_000_000 + Math.floor((ms - whole) * 1e6)
  const fraction = nanos === 0 ? '' : `.${String(nanos).padStart(9, '0').replace(/0+$/, '')}`
  return `${new Date(whole).toISOString().slice(0, 19)}${fraction}Z`
}

const MINUTE = 60
const HOUR = 60 * MINUTE

/** How long ago, in Docker's rough words. */
export function humanDuration(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < MINUTE) return `${seconds} seconds`
  const minutes = Math.floor(seconds / MINUTE)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.floor(seconds / HOUR + 0.5)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`
  return `${Math.floor(seconds / HOUR / 24 / 365)} years`
}

/** A Go duration (`10m`, `1h30m`), a unix time with a fraction, or RFC 3339 → nanoseconds since the epoch; undefined if none of them. */
export function parseTimestampNs(text: string, now = Date.now()): bigint | undefined {
  const unix = /^(\d+)(?:\.(\d{1,9})\d*)?$/.exec(text)
  if (unix !== null) return BigInt(unix[1]!) * 1_000_000_000n + BigInt((unix[2] ?? '').padEnd(9, '0'))
  if (/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) {
    const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
    let ms = 0
    for (const [, n, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) ms += Number(n) * unitMs[unit!]!
    return BigInt(Math.floor((now - ms) * 1000)) * 1000n
  }
  const at = Date.parse(text)
  return Number.isNaN(at) ? undefined : BigInt(at) * 1_000_000n
}
