/** Filters of image lists. */
import { matchesGlob } from 'node:path'
import type { ImageDetails } from '../../../../engine/engine.ts'
import { familiar } from '../../../../engine/images/reference.ts'
import type { Filters } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import { labelsMatch, untilMs } from '../../shared/filters.ts'
import { createdMs, isDangling } from './show.ts'

/** A filter's one truth value; undefined if it is not there. Throws `invalid`. */
export function booleanFilter(filters: Filters, key: string): boolean | undefined {
  const values = filters[key] ?? []
  if (values.length === 0) return undefined
  const known: Record<string, boolean> = { true: true, 1: true, false: false, 0: false }
  const read = new Set(values.map(v => known[v.toLowerCase()]))
  if (read.size !== 1 || read.has(undefined)) throw new DockerError('invalid', `invalid filter '${key}=[${values.join(' ')}]'`)
  return [...read][0]
}

/** Go's path.Match of a reference's familiar form, or of its name alone. */
function matchesReference(pattern: string, full: string): boolean {
  const text = familiar(full)
  const at = text.indexOf('@')
  const name = at >= 0 ? text.slice(0, at) : text.slice(0, text.lastIndexOf(':'))
  return matchesGlob(text, pattern) || matchesGlob(name, pattern)
}

/** Those to show, with the names that a `reference` filter left. `find` resolves before's and since's images. */
export async function selectImages(
  images: ImageDetails[], options: { all: boolean; filters: Filters }, find: (ref: string) => Promise<ImageDetails>,
): Promise<ImageDetails[]> {
  const { filters } = options
  const dangling = booleanFilter(filters, 'dangling')
  const until = untilMs(filters)
  const bound = async (key: string): Promise<number | undefined> => {
    const times = await Promise.all((filters[key] ?? []).map(async r => createdMs(await find(r))))
    return times.length === 0 ? undefined : key === 'before' ? Math.min(...times) : Math.max(...times)
  }
  const before = await bound('before')
  const since = await bound('since')
  const unwanted = filters['label!'] ?? []
  const references = filters['reference'] ?? []
  const out: ImageDetails[] = []
  for (const i of images) {
    const created = createdMs(i)
    const labels = i.config.config?.Labels
    if ((before !== undefined && created >= before) || (since !== undefined && created <= since) || (until !== undefined && created > until)) continue
    if (!labelsMatch(filters['label'], labels) || unwanted.some(w => labelsMatch([w], labels))) continue
    const wanted = (name: string): boolean => references.length === 0 || references.some(p => matchesReference(p, name))
    const shown = references.length === 0 ? i : { ...i, tags: i.tags.filter(wanted), repoDigests: i.repoDigests.filter(wanted) }
    if (shown.tags.length === 0 && shown.repoDigests.length === 0) {
      // Steps of a build show only when all are asked for.
      if (references.length > 0 || dangling === false || (i.children.length > 0 && (!options.all || dangling === true))) continue
    } else if (dangling === true && !isDangling(i)) continue
    out.push(shown)
  }
  return out
}
