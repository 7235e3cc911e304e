/** Server-side apply: one manager's configuration merged into the live object, with conflicts and removal by ownership. */
import { clone, isRecord } from '../clone.ts'
import { ApiError, badRequest } from '../errors.ts'
import type { StatusCause } from '../errors.ts'
import type { Kind } from '../kinds.ts'
import type { Field, Message } from '../schema/registry.ts'
import type { ApiObject, ManagedFieldsEntry } from '../types/index.ts'
import { equal } from '../clone.ts'
import { intersection, isEmpty, isGranular, isKeyed, itemKey, memberField, messageOf, pathsOf } from './field-set.ts'
import type { FieldSet } from './field-set.ts'
import { compareObjects, findEntry, makeEntry, messageFor, ownedBy, sorted, takeAway } from './managed.ts'

export interface ApplyOptions {
  manager: string
  force: boolean
  now: Date
  /** Default: the object itself. */
  subresource?: string
}

type Json = Record<string, unknown>

/**
 * The next state of the object (not yet defaulted or validated: pass it to prepareCreate or prepareUpdate), with managedFields
 * set. `live` stays as it is. If nothing changes the result equals `live`, times included. Throws Conflict with a cause
 * per field that another manager owns with another value, unless `force`.
 */
export function serverSideApply<T extends ApiObject>(kind: Kind<T>, live: T | undefined, applied: T, options: ApplyOptions): T {
  const { manager, force, now, subresource = '' } = options
  checkApplied(applied, manager)
  const configuration = clone(applied)
  const message = messageFor(configuration)
  const set = ownedBy(configuration, false)
  if (!live) {
    configuration.metadata.managedFields = isEmpty(set) ? []
      : [makeEntry(manager, 'Apply', applied.apiVersion, subresource, now, set)]
    return configuration
  }
  const entries = live.metadata.managedFields?.length ? live.metadata.managedFields : untracked(live, now)
  const mine = findEntry(entries, manager, 'Apply', applied.apiVersion, subresource)
  const others = entries.filter(e => e !== mine)

  const merged = mergeGranular(clone(live) as unknown as Json, configuration as unknown as Json, message, undefined)
  const next = merged as unknown as T
  if (mine) {
    prune(merged, (mine.fieldsV1 ?? {}) as FieldSet, set, others.map(e => (e.fieldsV1 ?? {}) as FieldSet), message, undefined)
  }
  for (const field of ['uid', 'creationTimestamp', 'generation', 'namespace'] as const) {
    if (live.metadata[field] !== undefined) (next.metadata as unknown as Json)[field] = live.metadata[field]
  }
  const resourceVersion = configuration.metadata.resourceVersion ?? live.metadata.resourceVersion
  if (resourceVersion !== undefined) next.metadata.resourceVersion = resourceVersion

  const { changed, removed } = compareObjects(live, next)
  if (!force) {
    const conflicts = others.flatMap(e => {
      const both = intersection((e.fieldsV1 ?? {}) as FieldSet, changed)
      return isEmpty(both) ? [] : [{ entry: e, paths: pathsOf(both) }]
    })
    if (conflicts.length > 0) throw conflictError(kind, applied.metadata.name, conflicts)
  }
  const rest = takeAway(takeAway(others, changed), removed)
  const entry = mine && equal(mine.fieldsV1, set) ? mine : makeEntry(manager, 'Apply', applied.apiVersion, subresource, now, set)
  next.metadata.managedFields = sorted(isEmpty(set) ? rest : [...rest, entry])
  return next
}

function checkApplied(applied: ApiObject, manager: string): void {
  if (manager === '') {
    throw new ApiError('Invalid',
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch')
  }
  if (manager.length > 128 || /[\u0000-\u001f\u007f]/.test(manager)) {
    throw new ApiError('Invalid',
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: must be at most 128 printable characters')
  }
  if (applied.metadata.managedFields?.length) throw badRequest('metadata.managedFields must be nil')
}

/** What an object held before anybody applied to it belongs to a manager of that name. */
function untracked(live: ApiObject, now: Date): ManagedFieldsEntry[] {
  const set = ownedBy(live, true)
  return isEmpty(set) ? [] : [makeEntry('before-first-apply', 'Update', live.apiVersion, '', now, set)]
}

/** Puts `applied` into `live`, which it changes and returns. */
function mergeGranular(live: Json, applied: Json, message: Message | undefined, owner: Field | undefined): Json {
  for (const name in applied) {
    const value = applied[name]
    if (value === undefined) continue
    const field = memberField(message, owner, name)
    live[name] = mergeValue(live[name], value, field)
  }
  return live
}

function mergeValue(live: unknown, applied: unknown, field: Field | undefined): unknown {
  if (isGranular(field, applied)) return mergeGranular(isRecord(live) ? live : {}, applied, messageOf(field), field)
  if (field !== undefined && isKeyed(field) && Array.isArray(applied) && Array.isArray(live)) {
    return mergeKeyed(live, applied, field)
  }
  return applied
}

/** The applied order counts; items of others keep their place between them. */
function mergeKeyed(live: unknown[], applied: unknown[], field: Field): unknown[] {
  const wanted = new Set(applied.map(item => itemKey(field, item)))
  const existing = new Map(live.map(item => [itemKey(field, item), item]))
  const result: unknown[] = []
  let next = 0
  const takeApplied = (): void => {
    const item = applied[next++]
    const was = field.ownership === 'set' ? undefined : existing.get(itemKey(field, item))
    result.push(isRecord(was) && isRecord(item) ? mergeGranular(was, item, field.message, undefined) : item)
  }
  for (const item of live) {
    if (!wanted.has(itemKey(field, item))) result.push(item)
    else if (next < applied.length) takeApplied()
  }
  while (next < applied.length) takeApplied()
  return result
}

/**
 * Removes from `value` what the manager owned (`last`), does not apply any more (`now`) and nobody else owns. Changes
 * `value`.
 */
function prune(
  value: Json, last: FieldSet, now: FieldSet, others: FieldSet[], message: Message | undefined, owner: Field | undefined,
): void {
  for (const key in last) {
    if (!key.startsWith('f:')) continue
    const name = key.slice(2)
    if (!Object.hasOwn(value, name)) continue
    const field = memberField(message, owner, name)
    const inside = value[name]
    const lastNode = last[key] as FieldSet
    const nowNode = own(now, key)
    const otherNodes = others.flatMap(o => own(o, key) ?? [])
    if (isGranular(field, inside)) prune(inside, lastNode, nowNode ?? {}, otherNodes, messageOf(field), field)
    else if (field !== undefined && isKeyed(field) && Array.isArray(inside)) {
      value[name] = pruneKeyed(inside, lastNode, nowNode ?? {}, otherNodes, field)
    }
    if (nowNode !== undefined || otherNodes.length > 0) continue
    const rest = value[name]
    const isContainer = isGranular(field, rest) || (field !== undefined && isKeyed(field) && Array.isArray(rest))
    if (!isContainer || Object.keys(rest as object).length === 0) delete value[name]
  }
}

function pruneKeyed(list: unknown[], last: FieldSet, now: FieldSet, others: FieldSet[], field: Field): unknown[] {
  return list.filter(item => {
    const key = itemKey(field, item)
    const lastNode = key === undefined ? undefined : own(last, key)
    if (key === undefined || lastNode === undefined) return true
    const nowNode = own(now, key)
    const otherNodes = others.flatMap(o => own(o, key) ?? [])
    if (nowNode === undefined && otherNodes.length === 0) return false
    // Whoever owns a part of an item needs its keys too.
    if (isRecord(item)) prune(item, withoutKeys(lastNode, field), nowNode ?? {}, otherNodes, field.message, undefined)
    return true
  })
}

function withoutKeys(item: FieldSet, field: Field): FieldSet {
  const rest = { ...item }
  for (const name of field.mapKeys) delete rest[`f:${name}`]
  return rest
}

function own(set: FieldSet, key: string): FieldSet | undefined { return Object.hasOwn(set, key) ? set[key] : undefined }

function conflictError(kind: Kind, name: string, conflicts: { entry: ManagedFieldsEntry; paths: string[] }[]): ApiError {
  const causes: StatusCause[] = []
  const parts: string[] = []
  let count = 0
  for (const { entry, paths } of conflicts) {
    const who = `conflict with ${JSON.stringify(entry.manager)}${entry.subresource ? ` with subresource ${JSON.stringify(entry.subresource)}` : ''}`
      + ` using ${entry.apiVersion}`
    count += paths.length
    for (const path of paths) causes.push({ reason: 'FieldManagerConflict', message: who, field: path })
    parts.push(paths.length === 1 ? `${who}: ${paths[0]}`
      : `conflicts with ${who.slice('conflict with '.length)}:\n- ${paths.join('\n- ')}`)
  }
  const text = `Apply failed with ${count} conflict${count === 1 ? '' : 's'}: ${parts.join('\n')}`
  return new ApiError('Conflict', text, { name, ...(kind.group !== '' && { group: kind.group }), kind: kind.plural, causes })
}
