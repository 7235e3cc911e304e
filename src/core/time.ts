/** Kubernetes' time formats: RFC 3339 in UTC, whole seconds, or six fractional digits. */
import { flat } from './flat.ts'

const RFC3339 = /^(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$/

/** The newest answer of {@link formatTime}: under load thousands ask within the same second. */
const newest = { second: NaN, text: '' }

/** `2026-11-22T12:00:00Z`. */
export function formatTime(ms: number): string {
  const second = Math.floor(ms / 1000)
  if (second !== newest.second) {
    newest.text = flat(`${new Date(ms).toISOString().slice(0, 19)}Z`)
    newest.second = second
  }
  return newest.text
}

/** `2026-11-22T12:00:00.000123Z`. */
export function formatMicroTime(seconds: number, nanos: number): string {
  const micros = Math.floor(nanos / 1000)
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(micros).padStart(6, '0')}Z`
}

/** As {@link formatMicroTime}, of milliseconds. */
export function microTimeOf(ms: number): string { return `${new Date(ms).toISOString().slice(0, 23)}000Z` }

/** The text in UTC and whole seconds, or undefined if it is no RFC 3339 time. */
export function normalizeTime(text: string): string | undefined {
  if (text.length === 20 && text.charCodeAt(19) === 0x5a && RFC3339.test(text) && !Number.isNaN(Date.parse(text))) return text
  const ms = RFC3339.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(ms) ? undefined : formatTime(ms)
}

/** The text in UTC with six fractional digits, or undefined. */
export function normalizeMicroTime(text: string): string | undefined {
  const m = RFC3339.exec(text)
  const ms = m ? Date.parse(`${m[1]}T${m[2]}${m[4] === 'z' ? 'Z' : m[4]}`) : Number.NaN
  if (Number.isNaN(ms)) return undefined
  const micros = ((m as RegExpExecArray)[3] ?? '.').slice(1, 7).padEnd(6, '0')
  return `${new Date(ms).toISOString().slice(0, 19)}.${micros}Z`
}
