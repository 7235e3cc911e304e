/** Kubernetes' field errors: collected, then thrown together as one 422 Invalid. */
import { ApiError } from '../errors.ts'
import type { StatusCause } from '../errors.ts'
import type { Kind } from '../kinds.ts'

/** Values in messages are cut: they come from the request. */
const MAX_SHOWN = 256

function show(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : value === undefined ? 'null' : JSON.stringify(value)
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text
}

/** Paths are written as users know them: `spec.containers[0].name`. */
export class FieldErrors {
  readonly causes: (StatusCause & { field: string; message: string })[] = []

  #add(reason: string, field: string, message: string): void { this.causes.push({ reason, message, field }) }

  required(field: string, detail = ''): void {
    this.#add('FieldValueRequired', field, detail === '' ? 'Required value' : `Required value: ${detail}`)
  }

  invalid(field: string, value: unknown, detail: string): void {
    this.#add('FieldValueInvalid', field, `Invalid value: ${show(value)}: ${detail}`)
  }

  notSupported(field: string, value: unknown, supported: readonly string[]): void {
    this.#add('FieldValueNotSupported', field,
      `Unsupported value: ${show(value)}: supported values: ${supported.map(s => JSON.stringify(s)).join(', ')}`)
  }

  duplicate(field: string, value: unknown): void { this.#add('FieldValueDuplicate', field, `Duplicate value: ${show(value)}`) }
  forbidden(field: string, detail: string): void { this.#add('FieldValueForbidden', field, `Forbidden: ${detail}`) }
  notFound(field: string, value: unknown): void { this.#add('FieldValueNotFound', field, `Not found: ${show(value)}`) }
  tooLong(field: string, max: number): void { this.#add('FieldValueTooLong', field, `Too long: may not be more than ${max} bytes`) }

  /** Adds what a check from names.ts found, if anything. */
  check(field: string, value: string, wrong: string | undefined): void {
    if (wrong !== undefined) this.invalid(field, value, wrong)
  }

  /** `value` must be one of `supported`; undefined passes. */
  oneOf(field: string, value: string | undefined, supported: readonly string[]): void {
    if (value !== undefined && !supported.includes(value)) this.notSupported(field, value, supported)
  }

  notNegative(field: string, value: number | undefined): void {
    if (value !== undefined && value < 0) this.invalid(field, value, 'must be greater than or equal to 0')
  }

  port(field: string, value: number | undefined): void {
    if (value === undefined) this.required(field)
    else if (!Number.isInteger(value) || value < 1 || value > 65535) this.invalid(field, value, 'must be between 1 and 65535, inclusive')
  }

  throwIfAny(kind: Kind, name: string): void {
    if (this.causes.length > 0) throw invalidObject(kind, name, this.causes)
  }
}

/** `Pod "x" is invalid: spec.containers: Required value`, with the causes in the details. */
export function invalidObject(kind: Kind, name: string, causes: (StatusCause & { field: string; message: string })[]): ApiError {
  const texts = causes.map(c => `${c.field}: ${c.message}`)
  const text = texts.length === 1 ? texts[0] as string : `[${texts.join(', ')}]`
  return new ApiError('Invalid', `${kind.kind} ${JSON.stringify(name)} is invalid: ${text}`, {
    name, ...(kind.group !== '' && { group: kind.group }), kind: kind.kind, causes,
  })
}
