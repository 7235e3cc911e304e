/**
 * Sets of field paths in the FieldsV1 form in which managedFields holds them: nested objects with keys `f:NAME` (a member),
 * `k:{"KEY":VALUE}` (an item of a keyed list) and `v:VALUE` (an item of a set). A node without children is in the set; one
 * with children is in it if it has `.` too.
 */
import { equal, isRecord } from '../clone.ts'
import type { Field, Message } from '../schema/registry.ts'

export interface FieldSet { [key: string]: FieldSet }

export function isEmpty(set: FieldSet): boolean {
  for (const _ in set) return false
  return true
}

/** Whether a node that is there is itself in the set, not just something under it. */
function isMember(node: FieldSet): boolean { return node['.'] !== undefined || isEmpty(node) }

function child(set: FieldSet | undefined, key: string): FieldSet | undefined {
  return set !== undefined && Object.hasOwn(set, key) ? set[key] : undefined
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { ...a }
  for (const key in b) {
    const x = child(a, key)
    const y = b[key] as FieldSet
    if (x === undefined) result[key] = y
    else if (key !== '.') {
      const both = union(x, y)
      if (!isEmpty(both) && (isMember(x) || isMember(y))) both['.'] = {}
      result[key] = both
    }
  }
  return result
}

/** The paths of `a` that are not in `b`. A node `*` in `b` stands for everything below. */
export function difference(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = {}
  for (const key in a) {
    const x = a[key] as FieldSet
    const y = child(b, key)
    if (y === undefined) {
      result[key] = x
      continue
    }
    if (key === '.' || y['*'] !== undefined) continue
    const rest = difference(x, y)
    delete rest['.']
    const stays = isMember(x) && !isMember(y)
    if (stays) result[key] = isEmpty(rest) ? rest : { '.': {}, ...rest }
    else if (!isEmpty(rest)) result[key] = rest
  }
  return result
}

/** The paths that are in both. */
export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = {}
  for (const key in a) {
    if (key === '.') continue
    const x = a[key] as FieldSet
    const y = child(b, key)
    if (y === undefined) continue
    const common = intersection(x, y)
    if (isMember(x) && isMember(y)) result[key] = isEmpty(common) ? common : { '.': {}, ...common }
    else if (!isEmpty(common)) result[key] = common
  }
  return result
}

/** Every path in the set, as messages show them: `.spec.containers[name="web"].image`. */
export function pathsOf(set: FieldSet, prefix = ''): string[] {
  const paths: string[] = []
  for (const key in set) {
    if (key === '.') continue
    const node = set[key] as FieldSet
    const path = prefix + segment(key)
    if (isMember(node)) paths.push(path)
    paths.push(...pathsOf(node, path))
  }
  return paths
}

function segment(key: string): string {
  if (key.startsWith('f:')) return `.${key.slice(2)}`
  if (key.startsWith('v:')) return `[=${key.slice(2)}]`
  const parts = Object.entries(JSON.parse(key.slice(2)) as Record<string, unknown>).map(([k, v]) => `${k}=${JSON.stringify(v)}`)
  return `[${parts.join(',')}]`
}

/** The key of a keyed list's item; undefined if the item lacks a key field. */
export function itemKey(field: Field, item: unknown): string | undefined {
  if (field.ownership === 'set') return `v:${JSON.stringify(item)}`
  if (!isRecord(item)) return undefined
  const names = field.mapKeys
  if (names.length === 1) {
    const value = item[names[0] as string] ?? keyDefault(field, names[0] as string)
    return value === undefined ? undefined : `k:{"${names[0]}":${JSON.stringify(value)}}`
  }
  let text = 'k:{'
  for (const name of [...names].sort()) {
    const value = item[name] ?? keyDefault(field, name)
    if (value !== undefined) text += `${text.length > 3 ? ',' : ''}"${name}":${JSON.stringify(value)}`
  }
  return text.length === 3 ? undefined : `${text}}`
}

function keyDefault(field: Field, name: string): unknown { return field.message?.fields.get(name)?.default }

export function isKeyed(field: Field): boolean {
  return field.shape === 'list' && (field.ownership === 'map' || field.ownership === 'set')
}

/** Whether the parts of the field's value are owned one by one. Without a field (free-form kinds) maps are granular. */
export function isGranular(field: Field | undefined, value: unknown): value is Record<string, unknown> {
  if (!isRecord(value)) return false
  if (field === undefined) return true
  if (field.ownership === 'atomic' || field.shape === 'list') return false
  return field.message !== undefined || field.shape === 'map'
}

/** The field behind a member of a granular value; undefined in free-form parts. */
export function memberField(message: Message | undefined, owner: Field | undefined, name: string): Field | undefined {
  if (owner?.shape === 'map') return mapItemField(owner)
  return message?.fields.get(name)
}

const mapItems = new WeakMap<Field, Field>()
/** A map's values behave like a single field of the map's type. */
function mapItemField(map: Field): Field {
  let item = mapItems.get(map)
  if (!item) mapItems.set(map, item = { ...map, shape: 'one', ownership: undefined, merge: undefined, pointer: true })
  return item
}

/** The message whose fields a granular value of this field has. */
export function messageOf(field: Field | undefined): Message | undefined {
  return field === undefined || field.shape === 'map' ? undefined : field.message
}

/**
 * Every path of a value: leaves, keyed items, empty containers. With `containers`, as for updates, also maps, lists and
 * what Go has a pointer for; applied configurations own only what they fill.
 */
export function setOf(
  value: Record<string, unknown>, message: Message | undefined, owner: Field | undefined, containers: boolean,
): FieldSet {
  const set: FieldSet = {}
  for (const name in value) {
    const v = value[name]
    if (v === undefined) continue
    const field = memberField(message, owner, name)
    set[field !== undefined && owner?.shape !== 'map' ? field.setKey : `f:${name}`] = nodeOf(v, field, containers)
  }
  return set
}

function nodeOf(value: unknown, field: Field | undefined, containers: boolean): FieldSet {
  if (isGranular(field, value)) {
    const node = setOf(value, messageOf(field), field, containers)
    if (containers && !isEmpty(node) && (field === undefined || field.pointer || field.shape === 'map')) node['.'] = {}
    return node
  }
  if (field !== undefined && isKeyed(field) && Array.isArray(value)) {
    const node: FieldSet = {}
    for (const item of value as unknown[]) {
      const key = itemKey(field, item)
      if (key === undefined) continue
      if (field.ownership === 'set') node[key] = {}
      else {
        const inner = setOf(item as Record<string, unknown>, field.message, undefined, containers)
        inner['.'] = {}
        node[key] = inner
      }
    }
    // A list that Go always writes is there before its first item: nobody owns it.
    if (containers && !field.required && !isEmpty(node)) node['.'] = {}
    return node
  }
  return {}
}

/** What differs between two values: paths added or modified, and paths removed. */
export interface Comparison { changed: FieldSet; removed: FieldSet }

export function compare(
  old: Record<string, unknown>, now: Record<string, unknown>, message: Message | undefined, owner: Field | undefined,
): Comparison {
  const result: Comparison = { changed: {}, removed: {} }
  for (const name in now) {
    const v = now[name]
    if (v === undefined) continue
    const field = memberField(message, owner, name)
    compareOne(`f:${name}`, Object.hasOwn(old, name) ? old[name] : undefined, v, field, result)
  }
  for (const name in old) {
    if (old[name] !== undefined && (!Object.hasOwn(now, name) || now[name] === undefined)) result.removed[`f:${name}`] = { '*': {} }
  }
  return result
}

function compareOne(key: string, old: unknown, now: unknown, field: Field | undefined, into: Comparison): void {
  if (old === now) return
  if (old === undefined) {
    into.changed[key] = nodeOf(now, field, true)
    return
  }
  if (isGranular(field, old) && isGranular(field, now)) {
    const { changed, removed } = compare(old, now, messageOf(field), field)
    if (!isEmpty(changed)) into.changed[key] = changed
    if (!isEmpty(removed)) into.removed[key] = removed
  } else if (field !== undefined && isKeyed(field) && Array.isArray(old) && Array.isArray(now)) {
    compareKeyed(key, old, now, field, into)
  } else if (!equal(old, now)) into.changed[key] = {}
}

function compareKeyed(key: string, old: unknown[], now: unknown[], field: Field, into: Comparison): void {
  const inner: Comparison = { changed: {}, removed: {} }
  const before = new Map(old.map(item => [itemKey(field, item), item]))
  for (const item of now) {
    const k = itemKey(field, item)
    if (k === undefined) continue
    const was = before.get(k)
    before.delete(k)
    if (field.ownership === 'set') {
      if (was === undefined) inner.changed[k] = {}
    } else if (was === undefined) {
      inner.changed[k] = { ...setOf(item as Record<string, unknown>, field.message, undefined, true), '.': {} }
    } else {
      const { changed, removed } = compare(was as Record<string, unknown>, item as Record<string, unknown>, field.message,
        undefined)
      if (!isEmpty(changed)) inner.changed[k] = changed
      if (!isEmpty(removed)) inner.removed[k] = removed
    }
  }
  for (const k of before.keys()) if (k !== undefined) inner.removed[k] = { '*': {} }
  if (!isEmpty(inner.changed)) into.changed[key] = inner.changed
  if (!isEmpty(inner.removed)) into.removed[key] = inner.removed
}
