/** Filters of lists and events. Keys were checked by the front; within a key any value may hold, between keys all must. */
import type { Filters } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { EventMessage, StringMap } from '../model.ts'
import { parseTimestampNs } from './time.ts'

/** Every `k` or `k=v` holds. */
export function labelsMatch(wishes: string[] | undefined, labels: StringMap | null | undefined): boolean {
  return (wishes ?? []).every((wish) => {
    const at = wish.indexOf('=')
    const key = at < 0 ? wish : wish.slice(0, at)
    const value = labels?.[key]
    return value !== undefined && (at < 0 || value === wish.slice(at + 1))
  })
}

/** `label` and `label!` of a prune; `until` is in {@link untilMs}. */
export function pruneMatches(filters: Filters, labels: StringMap | null | undefined): boolean {
  return labelsMatch(filters['label'], labels) && !(filters['label!'] ?? []).some((wish) => labelsMatch([wish], labels))
}

/** Milliseconds since the epoch of filter `until`, which may be there once. */
export function untilMs(filters: Filters): number | undefined {
  const values = filters['until'] ?? []
  if (values.length === 0) return undefined
  if (values.length > 1) throw new DockerError('invalid', 'more than one until filter specified')
  const ns = parseTimestampNs(values[0]!)
  if (ns === undefined) throw new DockerError('invalid', `failed to parse ${values[0]} as a time`)
  return Number(ns / 1_000_000n)
}

/** Exact, or as a regular expression found anywhere. */
export function matcher(values: string[] | undefined): ((text: string) => boolean) | undefined {
  if (values === undefined || values.length === 0) return undefined
  const exact = new Set(values)
  const patterns = values.flatMap((v) => {
    try {
      return [new RegExp(v)]
    } catch {
      return []
    }
  })
  return (text) => exact.has(text) || patterns.some((p) => p.test(text))
}

const PREFIXED_ACTIONS = ['health_status', 'exec_create', 'exec_start']
const OBJECTS = ['container', 'network', 'volume', 'plugin', 'daemon', 'service', 'node', 'secret', 'config'] as const

/** A test of events, prepared once a listener. */
export function eventFilter(filters: Filters): (e: EventMessage) => boolean {
  const tests: ((e: EventMessage) => boolean)[] = []
  const exactly = (key: string, of: (e: EventMessage) => string): void => {
    const values = filters[key]
    if (values !== undefined && values.length > 0) tests.push((e) => values.includes(of(e)))
  }
  exactly('type', (e) => e.Type)
  exactly('scope', (e) => e.scope)
  const actions = [...filters['event'] ?? [], ...filters['action'] ?? []]
  if (actions.length > 0) {
    tests.push((e) => actions.includes(e.Action)
      || PREFIXED_ACTIONS.some((p) => e.Action.startsWith(`${p}:`) && actions.some((a) => a === p)))
  }
  for (const kind of OBJECTS) {
    const values = filters[kind]
    if (values === undefined || values.length === 0) continue
    tests.push((e) => {
      const name = e.Actor.Attributes['name'] ?? ''
      return values.some((v) => e.Actor.ID.startsWith(v) || name.startsWith(v))
    })
  }
  const images = filters['image']
  if (images !== undefined && images.length > 0) {
    tests.push((e) => {
      const name = e.Actor.Attributes[e.Type === 'image' ? 'name' : 'image'] ?? ''
      return [e.Actor.ID, name, withoutTag(e.Actor.ID), withoutTag(name)].some((x) => images.includes(x))
    })
  }
  if ((filters['label']?.length ?? 0) > 0) tests.push((e) => labelsMatch(filters['label'], e.Actor.Attributes))
  return (e) => tests.every((t) => t(e))
}

function withoutTag(reference: string): string {
  return reference.replace(/@.*$/, '').replace(/:[^/:]*$/, '')
}
