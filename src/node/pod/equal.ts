/** True if every field of `part` has the same value in `whole`; fields that only `whole` has do not matter. */
export function contains(whole: unknown, part: unknown): boolean {
  if (Object.is(whole, part)) return true
  if (typeof whole !== 'object' || typeof part !== 'object' || whole === null || part === null) return false
  if (Array.isArray(part)) {
    return Array.isArray(whole) && whole.length === part.length && part.every((p, i) => contains(whole[i], p))
  }
  return Object.entries(part).every(([k, v]) => v === undefined || contains((whole as Record<string, unknown>)[k], v))
}
