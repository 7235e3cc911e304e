/** JSON Merge Patch, RFC 7386. */
import { clone, isRecord } from '../clone.ts'

/** A new value; neither argument is changed. Null removes a member, a list replaces a list. */
export function mergePatch(document: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return clone(patch)
  const result: Record<string, unknown> = isRecord(document) ? { ...document } : {}
  for (const name of Object.keys(patch)) {
    const value = patch[name]
    if (value === null) delete result[name]
    else {
      const merged = mergePatch(Object.hasOwn(result, name) ? result[name] : undefined, value)
      Object.defineProperty(result, name, { value: merged, enumerable: true, configurable: true, writable: true })
    }
  }
  return result
}
