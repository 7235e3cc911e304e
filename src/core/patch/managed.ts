/** metadata.managedFields: which client wrote which field last. */
import { equal } from '../clone.ts'
import { typeOf } from '../schema/registry.ts'
import type { Message } from '../schema/registry.ts'
import { formatTime } from '../time.ts'
import type { ApiObject, ManagedFieldsEntry } from '../types/index.ts'
import { compare, difference, isEmpty, setOf, union } from './field-set.ts'
import type { Comparison, FieldSet } from './field-set.ts'

/** More Update entries than this are merged, oldest first, into one. */
const MAX_UPDATE_ENTRIES = 10
const ANCIENT = 'ancient-changes'

/** Nobody owns these: they identify the object, or the server sets them. */
const UNOWNED_META = new Set([
  'f:name', 'f:namespace', 'f:uid', 'f:creationTimestamp', 'f:generation', 'f:resourceVersion', 'f:selfLink', 'f:managedFields',
])

/** Copies instead of deleting: objects that have lost a member are slow to encode for as long as they live. */
function strip(set: FieldSet): FieldSet {
  const kept: FieldSet = {}
  for (const key in set) {
    const part = set[key]!
    if (key === 'f:metadata') {
      const meta: FieldSet = {}
      for (const k in part) if (k !== '.' && !UNOWNED_META.has(k)) meta[k] = part[k]!
      if (!isEmpty(meta)) kept[key] = meta
    } else if (key !== 'f:apiVersion' && key !== 'f:kind') kept[key] = part
  }
  return kept
}

export function messageFor(object: ApiObject): Message | undefined { return typeOf(object.apiVersion, object.kind) }

type Json = Record<string, unknown>

export function ownedBy(object: ApiObject, containers: boolean): FieldSet {
  return strip(setOf(object as unknown as Json, messageFor(object), undefined, containers))
}

export function compareObjects(old: ApiObject, now: ApiObject): Comparison {
  const { changed, removed } = compare(old as unknown as Json, now as unknown as Json, messageFor(now), undefined)
  return { changed: strip(changed), removed: strip(removed) }
}

/** The entry of a manager; undefined if it has none. */
export function findEntry(
  entries: readonly ManagedFieldsEntry[], manager: string, operation: 'Apply' | 'Update', apiVersion: string, subresource: string,
): ManagedFieldsEntry | undefined {
  return entries.find(e => e.manager === manager && e.operation === operation && (e.subresource ?? '') === subresource
    && (operation === 'Update' ? e.apiVersion === apiVersion : true))
}

export function makeEntry(
  manager: string, operation: 'Apply' | 'Update', apiVersion: string, subresource: string, now: Date, set: FieldSet,
): ManagedFieldsEntry {
  return {
    manager, operation, apiVersion, time: formatTime(now.getTime()), fieldsType: 'FieldsV1', fieldsV1: set,
    ...(subresource !== '' && { subresource }),
  }
}

/** Every entry without the paths of `lost`; entries left empty go. Entries that lose nothing stay the same objects. */
export function takeAway(entries: readonly ManagedFieldsEntry[], lost: FieldSet): ManagedFieldsEntry[] {
  if (isEmpty(lost)) return [...entries]
  const kept: ManagedFieldsEntry[] = []
  for (const entry of entries) {
    const set = (entry.fieldsV1 ?? {}) as FieldSet
    const rest = difference(set, lost)
    if (equal(rest, set)) kept.push(entry)
    else if (!isEmpty(rest)) kept.push({ ...entry, fieldsV1: rest })
  }
  return kept
}

/** Apply entries first, then by time and name, as Kubernetes orders them. */
export function sorted(entries: ManagedFieldsEntry[]): ManagedFieldsEntry[] {
  return entries.sort((a, b) =>
    compareText(a.operation ?? '', b.operation ?? '') || compareText(a.time ?? '', b.time ?? '')
      || compareText(a.manager ?? '', b.manager ?? ''))
}

function compareText(a: string, b: string): number { return a < b ? -1 : a > b ? 1 : 0 }

function capped(entries: ManagedFieldsEntry[]): ManagedFieldsEntry[] {
  const updates = entries.filter(e => e.operation === 'Update')
  if (updates.length <= MAX_UPDATE_ENTRIES) return entries
  updates.sort((a, b) => compareText(a.time ?? '', b.time ?? ''))
  const old = updates.slice(0, updates.length - MAX_UPDATE_ENTRIES + 1)
  const last = old.at(-1) as ManagedFieldsEntry
  const fieldsV1 = old.reduce<FieldSet>((set, e) => union(set, (e.fieldsV1 ?? {}) as FieldSet), {})
  const { subresource: _, ...rest } = last
  return [...entries.filter(e => !old.includes(e)), { ...rest, manager: ANCIENT, fieldsV1 }]
}

/**
 * Records a create (`old` undefined), update or non-apply patch by `manager` in `object.metadata.managedFields`. Call it for a
 * create before admission adds what the client did not ask for, for an update last, when the object is as it will be stored.
 * An update that sends managedFields edits them (kubectl does, to migrate); `[{}]` clears them. `subresource` is '' for the
 * object itself.
 */
export function trackUpdate(
  old: ApiObject | undefined, object: ApiObject, manager: string, subresource: string, now: Date,
): void {
  const { metadata } = object
  if (old === undefined) {
    // The status of a new object is the server's; who reports it owns it later.
    const { status: _, ...rest } = object as ApiObject & { status?: unknown }
    const set = ownedBy(rest, true)
    metadata.managedFields = isEmpty(set) ? [] : [makeEntry(manager, 'Update', object.apiVersion, subresource, now, set)]
    return
  }
  const sent = metadata.managedFields
  if (sent?.length === 1 && Object.keys(sent[0] as object).length === 0) {
    delete metadata.managedFields
    return
  }
  const base = sent?.length ? sent : old.metadata.managedFields ?? []
  const { changed, removed } = compareObjects(old, object)
  if (isEmpty(changed) && isEmpty(removed)) {
    if (base.length === 0) delete metadata.managedFields
    else metadata.managedFields = base
    return
  }
  const mine = findEntry(base, manager, 'Update', object.apiVersion, subresource)
  const others = takeAway(takeAway(base.filter(e => e !== mine), changed), removed)
  const before = (mine?.fieldsV1 ?? {}) as FieldSet
  const set = union(difference(before, removed), changed)
  const entry = mine && equal(set, before) ? mine : makeEntry(manager, 'Update', object.apiVersion, subresource, now, set)
  metadata.managedFields = sorted(capped(isEmpty(set) ? others : [...others, entry]))
}
