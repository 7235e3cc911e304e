/** Query parameters as dockerd reads them. */
import { DockerError } from '../errors.ts'
import type { Filters } from '../backend.ts'

const FALSE = new Set(['', '0', 'no', 'false', 'none'])
const NS_PER_S = 1_000_000_000n

export class Query {
  readonly #params: URLSearchParams

  constructor(text: string) { this.#params = new URLSearchParams(text) }

  has(key: string): boolean { return this.#params.has(key) }
  /** '' if it is not there. */
  text(key: string): string { return this.#params.get(key) ?? '' }
  /** Undefined if it is not there, or empty. */
  optional(key: string): string | undefined { return this.#params.get(key) || undefined }
  all(key: string): string[] { return this.#params.getAll(key) }

  /** Anything but a word for "no" is true. */
  flag(key: string): boolean { return !FALSE.has(this.text(key).trim().toLowerCase()) }
  flagOr(key: string, otherwise: boolean): boolean { return this.has(key) ? this.flag(key) : otherwise }

  /** Undefined if it is not there, or empty. Rejects what is no whole number within the bounds. */
  integer(key: string, bounds: { min?: number; max?: number } = {}): number | undefined {
    const text = this.optional(key)
    if (text === undefined) return undefined
    const n = Number(text)
    if (!/^[+-]?\d+$/.test(text) || n < (bounds.min ?? Number.MIN_SAFE_INTEGER) || n > (bounds.max ?? Number.MAX_SAFE_INTEGER)) {
      throw new DockerError('invalid', `invalid value for "${key}": "${text}" is not a valid integer`)
    }
    return n
  }

  /** As `integer`, but zero for anything that is none: where dockerd does so. */
  lenientInteger(key: string): number {
    const text = this.text(key)
    return /^[+-]?\d+$/.test(text) ? Number(text) : 0
  }

  /** Unix seconds with up to nine decimals, as nanoseconds. Undefined if it is not there, empty or zero. */
  timeNs(key: string): bigint | undefined {
    const text = this.optional(key)
    if (text === undefined) return undefined
    const m = /^(-?\d{1,12})(?:\.(\d{1,9})\d*)?$/.exec(text)
    if (m === null) throw new DockerError('invalid', `invalid value for "${key}": "${text}" is not a Unix time in seconds`)
    const ns = BigInt(m[1]!) * NS_PER_S + BigInt((m[2] ?? '').padEnd(9, '0'))
    return ns === 0n ? undefined : ns
  }

  /** A parameter that holds JSON; undefined if it is not there, or empty. */
  json(key: string): unknown {
    const text = this.optional(key)
    if (text === undefined) return undefined
    try {
      return JSON.parse(text) as unknown
    } catch {
      throw new DockerError('invalid', `invalid value for "${key}": it is not valid JSON`)
    }
  }

  /** The `filters` parameter in either of its forms: `{"label":["a"]}`, `{"label":{"a":true}}`. Keys but these are refused; all pass if left out. */
  filters(accepted?: readonly string[]): Filters {
    let value: unknown
    try {
      value = JSON.parse(this.text('filters') || '{}')
    } catch {
      throw new DockerError('invalid', 'invalid filter: it is not valid JSON')
    }
    if (value === null) return {}
    if (typeof value !== 'object' || Array.isArray(value)) throw new DockerError('invalid', 'invalid filter: it is not a JSON object')
    const filters: Filters = Object.create(null) as Filters
    for (const [key, held] of Object.entries(value)) {
      if (accepted?.includes(key) === false) throw new DockerError('invalid', `invalid filter '${key}'`)
      filters[key] = valuesOf(key, held)
    }
    return filters
  }
}

function valuesOf(key: string, held: unknown): string[] {
  if (Array.isArray(held) && held.every(v => typeof v === 'string')) return held
  if (typeof held === 'object' && held !== null && Object.values(held).every(v => typeof v === 'boolean')) return Object.keys(held)
  throw new DockerError('invalid', `invalid filter '${key}': its values are neither a list of strings nor a map of true`)
}
