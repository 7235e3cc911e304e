/**
 * Resource quantities in Kubernetes' grammar: a decimal number with `n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei` or a decimal
 * exponent. Values are exact to 10⁻⁹ (finer digits round away from zero, as Kubernetes does).
 */
import { badRequest } from './errors.ts'

export interface Quantity {
  /** The value times 10⁹. */
  nano: bigint
  format: 'DecimalSI' | 'BinarySI' | 'DecimalExponent'
}

const SYNTAX = /^([+-]?)(\d*)(?:\.(\d*))?(?:(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?\d{1,3}))?$/
const DECIMAL: Record<string, number> = { n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 }
const BINARY: Record<string, number> = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50, Ei: 60 }
const NANO = 1_000_000_000n
const DECIMAL_SUFFIXES = ['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E']
const BINARY_SUFFIXES = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']
/** Longer texts are refused, so that a quantity cannot be used to burn time in big integers. */
const MAX_LENGTH = 64

function roundedDivision(value: bigint, by: bigint): bigint {
  const quotient = value / by
  return quotient * by === value ? quotient : quotient + (value < 0n ? -1n : 1n)
}

/** What a text means, or undefined if it is no quantity. */
function read(text: string): Quantity | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const m = SYNTAX.exec(text)
  if (!m) return undefined
  const [, sign, whole = '', fraction = '', suffix, exponent] = m
  if (whole === '' && fraction === '') return undefined
  let digits = BigInt(whole + fraction)
  if (sign === '-') digits = -digits
  const places = fraction.length
  if (suffix !== undefined && suffix in BINARY) {
    const scaled = (digits << BigInt(BINARY[suffix] as number)) * NANO
    return { nano: roundedDivision(scaled, 10n ** BigInt(places)), format: 'BinarySI' }
  }
  const power = (suffix !== undefined ? DECIMAL[suffix] as number : exponent !== undefined ? Number(exponent) : 0) + 9 - places
  const nano = power >= 0 ? digits * 10n ** BigInt(power) : roundedDivision(digits, 10n ** BigInt(-power))
  return { nano, format: exponent !== undefined ? 'DecimalExponent' : 'DecimalSI' }
}

/** Throws BadRequest if `q` is no quantity. Numbers are accepted as in YAML (`cpu: 2`). */
export function parseQuantity(q: string | number): Quantity {
  const quantity = read(String(q))
  if (!quantity) {
    throw badRequest(`quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': ${JSON.stringify(q)}`)
  }
  return quantity
}

export function isQuantity(q: unknown): boolean {
  return (typeof q === 'string' || typeof q === 'number') && (memo.has(String(q)) || read(String(q)) !== undefined)
}

/** Whole digits, the largest suffix that loses nothing, in the family of suffixes it was given in. */
export function formatQuantity({ nano, format }: Quantity): string {
  if (nano === 0n) return '0'
  const magnitude = nano < 0n ? -nano : nano
  if (format === 'BinarySI' && magnitude >= 1024n * NANO) {
    let value = roundedDivision(nano, NANO)
    let power = 0
    while (power < BINARY_SUFFIXES.length - 1 && value % 1024n === 0n) {
      value /= 1024n
      power++
    }
    return `${value}${BINARY_SUFFIXES[power]}`
  }
  let value = nano
  let power = 0
  while (power < DECIMAL_SUFFIXES.length - 1 && value % 1000n === 0n) {
    value /= 1000n
    power++
  }
  if (format !== 'DecimalExponent') return `${value}${DECIMAL_SUFFIXES[power]}`
  const exponent = (power - 3) * 3
  return exponent === 0 ? `${value}` : `${value}e${exponent}`
}

interface Known { canonical: string; milli: number; units: number }
/** A cluster uses few distinct quantities, many times each. */
const memo = new Map<string, Known>()
const MEMO_LIMIT = 4096

function known(q: string | number): Known {
  const text = typeof q === 'string' ? q : String(q)
  let k = memo.get(text)
  if (k) return k
  const quantity = parseQuantity(text)
  k = {
    canonical: formatQuantity(quantity),
    milli: Number(roundedDivision(quantity.nano, 1_000_000n)),
    units: Number(roundedDivision(quantity.nano, NANO)),
  }
  if (memo.size >= MEMO_LIMIT) memo.clear()
  memo.set(text, k)
  return k
}

/** `1000m` → `1`, `0.5Gi` → `512Mi`, `50000000` → `50M`. Throws BadRequest. */
export function canonical(q: string | number): string { return known(q).canonical }

/** Thousandths of a core, rounded up; 0 for undefined. Throws BadRequest. */
export function cpuMilli(q: string | number | undefined): number { return q === undefined ? 0 : known(q).milli }

/** Whole units (bytes of memory, pieces of anything else), rounded up; 0 for undefined. Throws BadRequest. */
export function bytes(q: string | number | undefined): number { return q === undefined ? 0 : known(q).units }

/** Negative, 0 or positive as `a` is less than, equal to or more than `b`. */
export function compareQuantity(a: string | number, b: string | number): number {
  const x = parseQuantity(a).nano
  const y = parseQuantity(b).nano
  return x < y ? -1 : x > y ? 1 : 0
}
