/** Choosing and paging over the cache's objects: what lists, watches and informers share. */
import type { ListOptions } from '../core/client.ts'
import { ApiError, badRequest } from '../core/errors.ts'
import type { Kind } from '../core/kinds.ts'
import { parseFieldSelector, parseLabelSelector } from '../core/selectors.ts'
import type { ApiObject } from '../core/types/index.ts'
import type { Cache } from './cache.ts'
import type { Cached } from './cached.ts'

export type Matcher = (object: ApiObject) => boolean

/** Undefined: everything matches. Throws BadRequest. */
export function matcherOf(kind: Kind, options: Pick<ListOptions, 'labelSelector' | 'fieldSelector'>): Matcher | undefined {
  const labels = options.labelSelector ? parseLabelSelector(options.labelSelector) : undefined
  const fields = options.fieldSelector ? parseFieldSelector(kind, options.fieldSelector) : undefined
  if (labels === undefined) return fields
  if (fields === undefined) return o => labels(o.metadata.labels)
  return o => labels(o.metadata.labels) && fields(o)
}

export interface Page {
  items: readonly Cached[]
  revision: number
  continue?: string
  remaining?: number
}

/** The rest of a list that was begun is served from the same state this long. */
const SNAPSHOT_MS = 5 * 60_000
const SNAPSHOT_MAX = 64

interface ContinueToken { v: string; rv: number; start: string }

export class Lister {
  readonly #cache: Cache
  /** Unfinished lists by what they select. Arrays of the cache are never changed, so keeping them is all it takes. */
  readonly #snapshots = new Map<string, { items: readonly Cached[]; untilMs: number }>()

  constructor(cache: Cache) { this.#cache = cache }

  /** Throws BadRequest, or Expired (410) for a token whose state is gone; the error's details carry a token to go on with the present state. */
  list(kind: Kind, options: ListOptions): Page {
    const matcher = matcherOf(kind, options)
    const kindCache = this.#cache.of(kind)
    let items = kindCache.list(options.namespace)
    let revision = this.#cache.revision()
    let from = 0
    if (options.continue) {
      const token = decodeToken(options.continue)
      if (token.rv !== -1) {
        revision = token.rv
        const found = this.#snapshots.get(snapshotKey(kind, options, token.rv))
        if (found !== undefined) items = found.items
        else if (kindCache.version > token.rv) throw new ContinueExpired(encodeToken({ ...token, rv: -1 }))
      }
      from = firstAfter(kind, items, token.start)
    }
    if (options.limit === undefined || options.limit <= 0) {
      const rest = from === 0 ? items : items.slice(from)
      return { items: matcher === undefined ? rest : rest.filter(c => matcher(c.object)), revision }
    }
    const page: Cached[] = []
    let next = from
    for (; next < items.length && page.length < options.limit; next++) {
      if (matcher === undefined || matcher(items[next]!.object)) page.push(items[next]!)
    }
    if (next >= items.length) return { items: page, revision }
    this.#remember(snapshotKey(kind, options, revision), items)
    const token = encodeToken({ v: 'meta.k8s.io/v1', rv: revision, start: nameOf(kind, items[next - 1]!) })
    return { items: page, revision, continue: token, ...(matcher === undefined && { remaining: items.length - next }) }
  }

  #remember(key: string, items: readonly Cached[]): void {
    const nowMs = Date.now()
    this.#snapshots.delete(key)
    this.#snapshots.set(key, { items, untilMs: nowMs + SNAPSHOT_MS })
    for (const [k, s] of this.#snapshots) {
      if (this.#snapshots.size <= SNAPSHOT_MAX && s.untilMs > nowMs) break
      this.#snapshots.delete(k)
    }
  }
}

/** 410 for a continue token; `continue` starts over behind the same object, in the present state. */
export class ContinueExpired extends ApiError {
  readonly continue: string
  constructor(token: string) {
    super('Expired', 'The provided continue parameter is too old to display a consistent list result. You can start a new list without '
      + 'the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with '
      + 'the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the '
      + 'first chunk was returned and now may show up in the list.')
    this.continue = token
  }
  override toStatus(): ReturnType<ApiError['toStatus']> { return { ...super.toStatus(), metadata: { continue: this.continue } } }
}

const snapshotKey = (kind: Kind, o: ListOptions, revision: number): string => `${kind.apiVersion}/${kind.plural}/${o.namespace ?? ''}/${revision}`

function nameOf(kind: Kind, c: Cached): string {
  const { namespace, name } = c.object.metadata
  return kind.namespaced ? `${namespace}/${name}` : name
}

/** Index of the first item whose key is greater than `start`. */
function firstAfter(kind: Kind, items: readonly Cached[], start: string): number {
  let low = 0
  for (let high = items.length; low < high;) {
    const middle = (low + high) >> 1
    if (nameOf(kind, items[middle]!) <= start) low = middle + 1
    else high = middle
  }
  return low
}

function encodeToken(t: ContinueToken): string { return Buffer.from(JSON.stringify(t)).toString('base64url') }

function decodeToken(text: string): ContinueToken {
  try {
    const t = JSON.parse(Buffer.from(text, 'base64url').toString()) as ContinueToken
    if (t.v === 'meta.k8s.io/v1' && Number.isInteger(t.rv) && typeof t.start === 'string') return t
  } catch {
    // Told below.
  }
  throw badRequest('continue key is not valid')
}
