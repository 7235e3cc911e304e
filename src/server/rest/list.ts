/** GET of a collection. A list is put together from its items' shared bytes, and kept until one of its kind changes. */
import { ApiError, badRequest } from '../../core/errors.ts'
import type { ListOptions } from '../../core/client.ts'
import type { Kind } from '../../core/kinds.ts'
import type { Cached } from '../cached.ts'
import type { Cache } from '../cache.ts'
import type { Context, Response } from '../host.ts'
import type { Lister, Page } from '../listing.ts'
import type { Form } from './accept.ts'
import { formOf } from './accept.ts'
import { includeObjectOf, partialOf, tableOf } from './forms.ts'
import { sendLarge } from './respond.ts'

interface KeptList { version: number; revision: number; body: Buffer; gzip: Buffer | undefined }

const KEPT_MAX = 64
const KEPT_MAX_BYTES = 32 << 20

function count(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name)
  if (text === null || text === '') return undefined
  if (!/^\d{1,15}$/.test(text)) throw badRequest(`${name}: invalid value ${JSON.stringify(text.slice(0, 50))}: must be a non-negative integer`)
  return Number(text)
}

/** `resourceVersion` of a query; undefined if unset. */
export function revisionOf(query: URLSearchParams): number | undefined { return count(query, 'resourceVersion') }

/** The query's choice of objects, with the path's. */
export function listOptions({ query, info }: Context): ListOptions {
  const named = info.name === '' ? undefined : `metadata.name=${info.name}`
  const fields = query.get('fieldSelector') || undefined
  return {
    namespace: info.namespace || undefined, labelSelector: query.get('labelSelector') || undefined,
    fieldSelector: named === undefined ? fields : fields === undefined ? named : `${named},${fields}`,
    limit: count(query, 'limit'), continue: query.get('continue') || undefined,
  }
}

function checkRevisionMatch(query: URLSearchParams): void {
  const match = query.get('resourceVersionMatch')
  if (match === null || match === '') return
  const revision = query.get('resourceVersion') ?? ''
  const wrong = query.get('continue') ? 'resourceVersionMatch is forbidden when continue is provided'
    : revision === '' ? 'resourceVersionMatch is forbidden unless resourceVersion is provided'
      : match === 'Exact' && revision === '0' ? 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        : match !== 'Exact' && match !== 'NotOlderThan' ? `resourceVersionMatch: Unsupported value: ${JSON.stringify(match)}` : undefined
  if (wrong !== undefined) {
    throw new ApiError('Invalid', `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: ${wrong}`, {
      group: 'meta.k8s.io', kind: 'ListOptions', causes: [{ reason: 'FieldValueForbidden', message: `Forbidden: ${wrong}`, field: 'resourceVersionMatch' }],
    })
  }
}

export class Lists {
  readonly #cache: Cache
  readonly #lister: Lister
  readonly #kept = new Map<string, KeptList>()
  #keptBytes = 0

  constructor(cache: Cache, lister: Lister) {
    this.#cache = cache
    this.#lister = lister
  }

  async serve(context: Context, kind: Kind, res: Response): Promise<void> {
    const { query, info, req } = context
    checkRevisionMatch(query)
    const wanted = revisionOf(query)
    if (wanted !== undefined) await this.#cache.waitFor(wanted)
    const form = formOf(req.headers['accept'])
    const { version } = this.#cache.of(kind)
    if (query.get('resourceVersionMatch') === 'Exact' && wanted! < version) {
      throw new ApiError('Expired', `The resourceVersion for the provided list is too old: ${wanted}`)
    }
    const options = listOptions(context)
    if (form.as !== 'object') {
      const page = this.#lister.list(kind, options)
      const body = Buffer.from(JSON.stringify(
        form.as === 'table' ? tableOf(kind, page.items, form, includeObjectOf(query), metadataOf(page)) : partialList(page, form),
      ))
      await sendLarge(req, res, body)
      return
    }
    const key = `${info.path}?${options.labelSelector ?? ''}&${options.fieldSelector ?? ''}&${options.limit ?? ''}`
    const kept = options.continue === undefined ? this.#kept.get(key) : undefined
    if (kept?.version === version && kept.revision >= (wanted ?? 0)) {
      kept.gzip = await sendLarge(req, res, kept.body, kept.gzip) ?? kept.gzip
      return
    }
    const page = this.#lister.list(kind, options)
    const list: KeptList = { version, revision: page.revision, body: assemble(kind, page), gzip: undefined }
    if (options.continue === undefined && page.continue === undefined) this.#keep(key, list)
    list.gzip = await sendLarge(req, res, list.body)
  }

  #keep(key: string, list: KeptList): void {
    this.#drop(key)
    if (list.body.length > KEPT_MAX_BYTES / 4) return
    this.#kept.set(key, list)
    this.#keptBytes += list.body.length
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT_MAX && this.#keptBytes <= KEPT_MAX_BYTES) break
      this.#drop(oldest)
    }
  }

  #drop(key: string): void {
    const list = this.#kept.get(key)
    if (list === undefined) return
    this.#kept.delete(key)
    this.#keptBytes -= list.body.length
  }
}

function metadataOf(page: Page): object {
  return {
    resourceVersion: String(page.revision), ...(page.continue !== undefined && { continue: page.continue }),
    ...(page.remaining !== undefined && page.remaining > 0 && { remainingItemCount: page.remaining }),
  }
}

function partialList(page: Page, form: Form): object {
  return {
    kind: 'PartialObjectMetadataList', apiVersion: form.metaVersion, metadata: metadataOf(page),
    items: page.items.map(c => partialOf(c.object, form)),
  }
}

const COMMA = Buffer.from(',')

/** The list's JSON out of its items' bytes. */
export function assemble(kind: Kind, page: { items: readonly Cached[]; revision: number }): Buffer {
  const head = `{"kind":"${kind.kind}List","apiVersion":"${kind.apiVersion}","metadata":${JSON.stringify(metadataOf(page))},"items":[`
  const parts: Buffer[] = [Buffer.from(head)]
  for (const [i, c] of page.items.entries()) {
    if (i > 0) parts.push(COMMA)
    parts.push(c.bytes)
  }
  parts.push(Buffer.from(']}\n'))
  return Buffer.concat(parts)
}
