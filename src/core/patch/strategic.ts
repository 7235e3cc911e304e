/** Kubernetes' strategic merge patch: lists merge by the keys that the kind's table names, and `$` directives steer it. */
import { clone, equal, isRecord } from '../clone.ts'
import { badRequest } from '../errors.ts'
import { memberField, messageOf } from './field-set.ts'
import type { Field, Message } from '../schema/registry.ts'

type Json = Record<string, unknown>

const DELETE_PRIMITIVES = '$deleteFromPrimitiveList/'
const ELEMENT_ORDER = '$setElementOrder/'

/** A new value; `document` and `patch` stay as they are. Throws BadRequest for a directive or list item that makes no sense. */
export function strategicMerge(document: Json, patch: unknown, message: Message): Json {
  if (!isRecord(patch)) throw badRequest('a strategic merge patch must be an object')
  return mergeObject(clone(document), patch, message, undefined)
}

/** Changes and returns `target`. */
function mergeObject(target: Json, patch: Json, message: Message | undefined, owner: Field | undefined): Json {
  const directive = patch['$patch']
  if (directive === 'replace') return mergeObject({}, withoutDirective(patch), message, owner)
  if (directive === 'delete') return {}
  if (directive !== undefined && directive !== 'merge') {
    throw badRequest(`unknown patch type $patch: ${JSON.stringify(directive)}`)
  }
  const retained = patch['$retainKeys']
  if (retained !== undefined) {
    if (!Array.isArray(retained)) throw badRequest('$retainKeys must be a list of member names')
    for (const name of Object.keys(target)) if (!retained.includes(name)) delete target[name]
  }
  for (const name of Object.keys(patch)) {
    if (name.startsWith('$')) {
      if (name.startsWith(DELETE_PRIMITIVES)) deletePrimitives(target, name.slice(DELETE_PRIMITIVES.length), patch[name])
      continue
    }
    const value = patch[name]
    const field = memberField(message, owner, name)
    if (value === null) delete target[name]
    else if (isRecord(value)) {
      if (value['$patch'] === 'delete') delete target[name]
      else define(target, name, mergeObject(isRecord(target[name]) ? target[name] : {}, value, messageOf(field), field))
    } else if (Array.isArray(value) && field?.merge) {
      const live = target[name]
      target[name] = mergeList(Array.isArray(live) ? live as unknown[] : [], value as unknown[], field)
    } else define(target, name, clone(value))
  }
  for (const name of Object.keys(patch)) {
    if (name.startsWith(ELEMENT_ORDER)) setOrder(target, name.slice(ELEMENT_ORDER.length), patch[name], message, owner)
  }
  return target
}

function define(target: Json, name: string, value: unknown): void {
  if (name === '__proto__') Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true })
  else target[name] = value
}

function withoutDirective(patch: Json): Json {
  const { $patch: _, ...rest } = patch
  return rest
}

function deletePrimitives(target: Json, name: string, values: unknown): void {
  if (!Array.isArray(values)) throw badRequest(`${DELETE_PRIMITIVES}${name} must be a list`)
  const live = target[name]
  if (Array.isArray(live)) target[name] = live.filter(item => !values.includes(item))
}

function mergeList(live: unknown[], patch: unknown[], field: Field): unknown[] {
  const mergeKey = field.merge?.mergeKey
  if (mergeKey === undefined) return [...live, ...patch.filter(item => !live.includes(item))]
  const replaces = patch.some(item => isRecord(item) && item['$patch'] === 'replace')
  const result: unknown[] = replaces ? [] : [...live]
  for (const item of patch) {
    if (!isRecord(item)) throw badRequest(`${field.name}: items must be objects with ${JSON.stringify(mergeKey)}`)
    if (item['$patch'] === 'replace' && item[mergeKey] === undefined) continue
    const key = item[mergeKey]
    if (key === undefined) throw badRequest(`${field.name}: ${JSON.stringify(item).slice(0, 200)} does not contain declared merge key: ${mergeKey}`)
    const at = result.findIndex(other => isRecord(other) && other[mergeKey] === key)
    if (item['$patch'] === 'delete') {
      if (at !== -1) result.splice(at, 1)
    } else if (at === -1) result.push(mergeObject({}, item, field.message, undefined))
    else result[at] = mergeObject(result[at] as Json, item, field.message, undefined)
  }
  return result
}

/** The listed items come in the listed order; others keep their place between them. */
function setOrder(target: Json, name: string, order: unknown, message: Message | undefined, owner: Field | undefined): void {
  const list = target[name]
  if (!Array.isArray(order)) throw badRequest(`${ELEMENT_ORDER}${name} must be a list`)
  if (!Array.isArray(list)) return
  const mergeKey = memberField(message, owner, name)?.merge?.mergeKey
  const idOf = (item: unknown): unknown => mergeKey !== undefined && isRecord(item) ? item[mergeKey] : item
  const wanted = order.map(idOf)
  const ordered = wanted.flatMap(id => {
    const found = (list as unknown[]).find(item => equal(idOf(item), id))
    return found === undefined ? [] : [found]
  })
  let next = 0
  target[name] = (list as unknown[]).map(item => wanted.some(id => equal(id, idOf(item))) ? ordered[next++] : item)
}
