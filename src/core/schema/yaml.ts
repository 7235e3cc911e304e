/** YAML as Kubernetes' tools read it: YAML 1.1's octal modes and yes/no, but no times, dates or binary types. */
import { parseAllDocuments } from 'yaml'
import type { DocumentOptions, ParseOptions, ScalarTag, SchemaOptions, Tags } from 'yaml'
import { badRequest } from '../errors.ts'
import { MAX_DEPTH } from './json.ts'

/** An alias may stand for this many nodes in all, so that a few lines cannot unfold to gigabytes. */
const MAX_ALIASES = 100
const KEPT = new Set(['map', 'seq', 'str', 'null', 'bool', 'int', 'float', 'merge'])

const options: ParseOptions & DocumentOptions & SchemaOptions = {
  version: '1.1',
  // Otherwise `n: 1` would be the member "false".
  customTags: tags => (tags.filter(isKept) as ScalarTag[]).map(tag => tag.tag.endsWith(':bool') ? plainBool(tag) : tag) as Tags,
  uniqueKeys: false,
  logLevel: 'error',
}

function isKept(tag: Tags[number]): boolean {
  if (typeof tag !== 'object' || tag === null || !('tag' in tag)) return true
  return KEPT.has((tag.tag ?? '').replace('tag:yaml.org,2002:', '')) && (tag as ScalarTag).format !== 'TIME'
}

function plainBool(tag: ScalarTag): ScalarTag {
  const yes = tag.test?.test('true') ?? false
  return { ...tag, test: yes ? /^(?:yes|Yes|YES|true|True|TRUE|on|On|ON)$/ : /^(?:no|No|NO|false|False|FALSE|off|Off|OFF)$/ }
}

/**
 * Every document of a YAML (or JSON) text, empty ones left out; members given twice are named in `duplicates`, dotted.
 * Throws BadRequest with the line for bad syntax, too many aliases or too deep nesting.
 */
export function parseYaml(text: string): { documents: unknown[]; duplicates: string[] } {
  const documents: unknown[] = []
  const duplicates: string[] = []
  try {
    const parsed = parseAllDocuments(text, options)
    if (!Array.isArray(parsed)) return { documents, duplicates }
    for (const document of parsed) {
      const error = document.errors[0]
      if (error) throw badRequest(`error converting YAML to JSON: ${error.message.split('\n')[0] ?? ''}`)
      collect(document.contents, '', 0, duplicates)
      const value = document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown
      if (value !== null && value !== undefined) documents.push(unshared(value, 0))
    }
  } catch (e) {
    // Recursion that ran out of stack (RangeError) and an alias bomb (ReferenceError) are the input's fault.
    if (e instanceof RangeError || e instanceof ReferenceError) throw badRequest(`error converting YAML to JSON: ${e.message}`)
    throw e
  }
  return { documents, duplicates }
}

/** Aliases make one object appear twice, or inside itself: each place gets its own copy. */
function unshared(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (depth > MAX_DEPTH) throw new RangeError(`exceeded max depth of ${MAX_DEPTH}`)
  if (Array.isArray(value)) return value.map(item => unshared(item, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, unshared(item, depth + 1)]))
}

function collect(node: unknown, path: string, depth: number, duplicates: string[]): void {
  if (depth > MAX_DEPTH) throw new RangeError(`exceeded max depth of ${MAX_DEPTH}`)
  const items = (node as { items?: unknown[] } | null)?.items
  if (!items) return
  const seen = new Set<string>()
  items.forEach((item, i) => {
    const pair = item as { key?: { value?: unknown } | null; value?: unknown }
    if (pair !== null && typeof pair === 'object' && 'key' in pair) {
      const key = String(pair.key?.value)
      const here = path === '' ? key : `${path}.${key}`
      if (seen.has(key) && key !== '<<') duplicates.push(here)
      seen.add(key)
      collect(pair.value, here, depth + 1, duplicates)
    } else collect(item, `${path}[${i}]`, depth + 1, duplicates)
  })
}
