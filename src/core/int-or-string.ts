/** Values like maxSurge: a count, or a percentage of a total. */
import { badRequest } from './errors.ts'
import type { IntOrString } from './types/index.ts'

/** The percentage in `25%`, or undefined for anything else. */
export function percentOf(value: IntOrString): number | undefined {
  const m = typeof value === 'string' ? /^(\d{1,9})%$/.exec(value) : null
  return m ? Number(m[1]) : undefined
}

/** `value` as a count; a percentage is of `total`, rounded as asked. Throws BadRequest for other text. */
export function scaledValue(value: IntOrString, total: number, round: 'up' | 'down'): number {
  if (typeof value === 'number') return value
  const percent = percentOf(value)
  if (percent === undefined) {
    throw badRequest(`invalid value for IntOrString: ${JSON.stringify(value)} is neither an integer nor a percentage`)
  }
  const exact = percent * total
  return round === 'up' ? Math.ceil(exact / 100) : Math.floor(exact / 100)
}
