/** Reading a request's query. Errors are BadRequest and name the parameter. */
import { badRequest } from '../../core/errors.ts'

export function flag(q: URLSearchParams, name: string): boolean { return /^(true|1)$/i.test(q.get(name) ?? '') }

export function text(q: URLSearchParams, name: string): string {
  const value = q.get(name)
  if (value === null || value === '') throw badRequest(`the parameter "${name}" is missing`)
  return value
}

export function optionalNumber(q: URLSearchParams, name: string): number | undefined {
  const value = q.get(name)
  if (value === null || value === '') return undefined
  const n = Number(value)
  if (!Number.isSafeInteger(n) || n < 0) throw badRequest(`the parameter "${name}" must be a whole number, not "${value}"`)
  return n
}

/** A JSON object in a parameter; empty if it is left out. */
export function json<T extends object>(q: URLSearchParams, name: string): Partial<T> {
  const value = q.get(name)
  if (value === null || value === '') return {}
  try {
    const parsed = JSON.parse(value) as unknown
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed as T
  } catch {
    // Reported below, like any other value that is no object.
  }
  throw badRequest(`the parameter "${name}" must be a JSON object`)
}
