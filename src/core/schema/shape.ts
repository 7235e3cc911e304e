/** Holds an object to its kind's table: unknown members are pruned and told, wrong types refused, values normalised. */
import { isRecord } from '../clone.ts'
import { badRequest } from '../errors.ts'
import { canonical, isQuantity } from '../quantity.ts'
import type { ApiObject } from '../types/index.ts'
import { typeOf } from './registry.ts'
import type { Field, Message, Scalar } from './registry.ts'
import { normalizeMicroTime, normalizeTime } from '../time.ts'

export type FieldValidation = 'Strict' | 'Warn' | 'Ignore'

interface Context {
  root: string
  path: (string | number)[]
  unknown: string[]
}

const MAX_REPORTED = 50

function pathText(path: (string | number)[], last?: string): string {
  let text = ''
  for (const p of last === undefined ? path : [...path, last]) {
    text += typeof p === 'number' ? `[${p}]` : text === '' ? p : `.${p}`
  }
  return text
}

const GO_TYPE: Partial<Record<Scalar, string>> = {
  Quantity: 'resource.Quantity', Time: 'v1.Time', MicroTime: 'v1.MicroTime', IntOrString: 'intstr.IntOrString', bytes: '[]uint8',
  ExtraValue: '[]string',
}

function jsonType(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'boolean') return 'bool'
  return typeof value
}

function mismatch(c: Context, value: unknown, wanted: string): Error {
  const what = typeof value === 'number' && wanted.startsWith('int') ? `number ${value}` : jsonType(value)
  return badRequest(`json: cannot unmarshal ${what} into Go struct field ${c.root}.${pathText(c.path)} of type ${wanted}`)
}

function goType(field: Field): string {
  const one = field.message ? `v1.${field.message.name}` : GO_TYPE[field.scalar as Scalar] ?? field.scalar as string
  return field.shape === 'list' ? `[]${one}` : field.shape === 'map' ? `map[string]${one}` : one
}

/** Changes `object` in place. Null members are dropped: Go's decoder leaves such fields unset. */
function pruneMessage(message: Message, object: Record<string, unknown>, c: Context): void {
  for (const name in object) {
    const field = message.fields.get(name)
    if (field === undefined) {
      if (c.path.length === 0 && (name === 'apiVersion' || name === 'kind')) continue
      if (c.unknown.length < MAX_REPORTED) c.unknown.push(pathText(c.path, name))
      delete object[name]
      continue
    }
    const value = object[name]
    if (value === null || value === undefined) {
      delete object[name]
      continue
    }
    c.path.push(name)
    if (field.shape === 'one') {
      const pruned = pruneOne(field, value, c)
      if (pruned !== value) object[name] = pruned
    } else if (field.shape === 'list') pruneList(field, value, c)
    else pruneMap(field, value, c)
    c.path.pop()
  }
}

function pruneList(field: Field, value: unknown, c: Context): void {
  if (!Array.isArray(value)) throw mismatch(c, value, goType(field))
  for (let i = 0; i < value.length; i++) {
    const item = value[i] as unknown
    c.path.push(i)
    if (item === null) {
      if (!field.message) throw mismatch(c, null, goType(field))
      value[i] = {}
    } else {
      const pruned = pruneOne(field, item, c)
      if (pruned !== item) value[i] = pruned
    }
    c.path.pop()
  }
}

function pruneMap(field: Field, value: unknown, c: Context): void {
  if (!isRecord(value)) throw mismatch(c, value, goType(field))
  for (const key in value) {
    const item = value[key]
    if (item === null || item === undefined) {
      delete value[key]
      continue
    }
    c.path.push(key)
    const pruned = pruneOne(field, item, c)
    if (pruned !== item) value[key] = pruned
    c.path.pop()
  }
}

function pruneOne(field: Field, value: unknown, c: Context): unknown {
  if (field.message) {
    if (!isRecord(value)) throw mismatch(c, value, `v1.${field.message.name}`)
    pruneMessage(field.message, value, c)
    return value
  }
  switch (field.scalar as Scalar) {
    case 'string': if (typeof value === 'string') return value; break
    case 'bool': if (typeof value === 'boolean') return value; break
    case 'int32': if (typeof value === 'number' && (value | 0) === value) return value; break
    case 'int64': if (Number.isInteger(value)) return value; break
    case 'double': if (typeof value === 'number') return value; break
    case 'Quantity':
      if (typeof value !== 'string' && typeof value !== 'number') break
      if (!isQuantity(value)) {
        throw badRequest(`${pathText(c.path)}: quantities must match the regular expression `
          + `'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', not ${JSON.stringify(value)}`)
      }
      return canonical(value)
    case 'Time': case 'MicroTime': {
      if (typeof value !== 'string') break
      const time = field.scalar === 'Time' ? normalizeTime(value) : normalizeMicroTime(value)
      if (time === undefined) throw badRequest(`${pathText(c.path)}: cannot parse ${JSON.stringify(value)} as an RFC 3339 time`)
      return time
    }
    case 'IntOrString': if (typeof value === 'string' || (typeof value === 'number' && (value | 0) === value)) return value; break
    case 'bytes':
      if (typeof value !== 'string') break
      if (!BASE64.test(value)) throw badRequest(`${pathText(c.path)}: illegal base64 data`)
      return value
    case 'Duration': if (typeof value === 'string') return value; break
    case 'ExtraValue': if (Array.isArray(value) && value.every(v => typeof v === 'string')) return value; break
    case 'RawExtension': case 'FieldsV1': if (isRecord(value)) return value; break
  }
  throw mismatch(c, value, GO_TYPE[field.scalar as Scalar] ?? field.scalar as string)
}

const BASE64 = /^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/

const freeForm: Message = {
  name: 'Object', section: '', apiVersion: undefined, wire: [],
  fields: new Map(['metadata'].flatMap(name => {
    const field = typeOf('v1', 'ConfigMap')?.fields.get(name)
    return field ? [[name, field] as const] : []
  })),
}

/**
 * Fills in a missing apiVersion and kind, refuses others than `kind`'s, and prunes `object` in place. `duplicates` are the
 * members a parser met twice. `Strict` refuses unknown and duplicate members (400, `strict decoding error: …`), `Warn`
 * returns them as warnings, `Ignore` says nothing. A kind without a table keeps all members; its metadata is still checked.
 */
export function validateShape(
  kind: { apiVersion: string; kind: string }, object: unknown, mode: FieldValidation, duplicates: readonly string[] = [],
): { object: ApiObject; warnings: string[] } {
  if (!isRecord(object)) {
    throw badRequest(`couldn't get version/kind; json parse error: json: cannot unmarshal ${object === null ? 'null' : jsonType(object)} `
      + 'into Go value of type struct { APIVersion string; Kind string }')
  }
  object['apiVersion'] ||= kind.apiVersion
  object['kind'] ||= kind.kind
  if (object['apiVersion'] !== kind.apiVersion) {
    throw badRequest(`the API version in the data (${String(object['apiVersion'])}) does not match the expected API version (${kind.apiVersion})`)
  }
  if (object['kind'] !== kind.kind) {
    throw badRequest(`the kind in the data (${String(object['kind'])}) does not match the expected kind (${kind.kind})`)
  }
  const message = typeOf(kind.apiVersion, kind.kind)
  const c: Context = { root: kind.kind, path: [], unknown: [] }
  const version = kind.apiVersion.slice(kind.apiVersion.indexOf('/') + 1)
  const refuse = (why: string): Error =>
    badRequest(`${kind.kind} in version ${JSON.stringify(version)} cannot be handled as a ${kind.kind}: ${why}`)
  try {
    if (message) pruneMessage(message, object, c)
    else if (object['metadata'] !== undefined) pruneMessage(freeForm, { metadata: object['metadata'] }, c)
  } catch (e) {
    throw refuse((e as Error).message)
  }
  object['metadata'] ??= {}
  const warnings = mode === 'Ignore' ? [] : [
    ...c.unknown.map(p => `unknown field ${JSON.stringify(p)}`), ...duplicates.map(p => `duplicate field ${JSON.stringify(p)}`),
  ]
  if (mode === 'Strict' && warnings.length > 0) throw refuse(`strict decoding error: ${warnings.join(', ')}`)
  return { object: object as unknown as ApiObject, warnings }
}
