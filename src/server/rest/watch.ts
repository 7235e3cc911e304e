/** Watches: a stream of JSON lines. An event's line is made once and shared by every watcher that sees it unchanged. */
import type { ServerResponse } from 'node:http'
import { ApiError, isReason } from '../../core/errors.ts'
import type { Kind } from '../../core/kinds.ts'
import type { Cache, CacheEvent } from '../cache.ts'
import type { Cached } from '../cached.ts'
import type { Context, Response } from '../host.ts'
import { matcherOf } from '../listing.ts'
import type { Matcher } from '../listing.ts'
import { formOf } from './accept.ts'
import type { Form } from './accept.ts'
import { includeObjectOf, partialOf, tableOf } from './forms.ts'
import type { IncludeObject } from './forms.ts'
import { listOptions, revisionOf } from './list.ts'

const BOOKMARK_MS = 60_000
/** A watcher with more than this unread is cut off; it resumes from its last revision. */
const MAX_BEHIND_BYTES = 16 << 20
const MIN_TIMEOUT_S = 1800

function lineOf(type: CacheEvent['type'], object: Cached): Buffer { return object.framed(`{"type":"${type}","object":`, '}\n') }

export class Watches {
  readonly #cache: Cache
  readonly #open = new Set<Watcher>()

  constructor(cache: Cache) { this.#cache = cache }

  get size(): number { return this.#open.size }

  async serve(context: Context, kind: Kind, res: Response): Promise<void> {
    const { query, req } = context
    const form = formOf(req.headers['accept'])
    const include = form.as === 'table' ? includeObjectOf(query) : 'None'
    const options = listOptions(context)
    const matcher = matcherOf(kind, options)
    const wanted = revisionOf(query)
    const initial = isTrue(query.get('sendInitialEvents'))
    if (initial && query.get('resourceVersionMatch') !== 'NotOlderThan') {
      throw new ApiError('Invalid', 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan', {
        group: 'meta.k8s.io', kind: 'ListOptions', causes: [{ reason: 'FieldValueForbidden', message: 'sendInitialEvents requires NotOlderThan', field: 'resourceVersionMatch' }],
      })
    }
    if (wanted !== undefined) await this.#cache.waitFor(wanted)
    const timeoutS = Number(query.get('timeoutSeconds') ?? 0) || MIN_TIMEOUT_S * (1 + Math.random())
    const watcher = new Watcher(this.#cache, kind, res, {
      namespace: options.namespace, matcher, form, include, bookmarks: isTrue(query.get('allowWatchBookmarks')), timeoutS,
      closed: w => this.#open.delete(w),
    })
    this.#open.add(watcher)
    try {
      // Without a revision, and for 0, the present state comes first.
      watcher.start(initial || wanted === undefined || wanted === 0 ? undefined : wanted, initial)
    } catch (e) {
      watcher.stop()
      throw e
    }
    res.on('close', () => watcher.stop())
  }

  /** Ends every stream properly, so that clients resume elsewhere. */
  close(): void { for (const w of [...this.#open]) w.end() }
}

function isTrue(text: string | null): boolean { return text !== null && /^(1|t|true)$/i.test(text) }

interface WatcherOptions {
  namespace: string | undefined
  matcher: Matcher | undefined
  form: Form
  include: IncludeObject
  bookmarks: boolean
  timeoutS: number
  closed(w: Watcher): void
}

class Watcher {
  readonly #cache: Cache
  readonly #kind: Kind
  readonly #res: Response
  readonly #o: WatcherOptions
  #unwatch: (() => void) | undefined
  readonly #timers: NodeJS.Timeout[] = []
  #columnsSent = false
  /** The first state may be larger than what a watcher may be behind with. */
  #initialBytes = 0
  #done = false

  constructor(cache: Cache, kind: Kind, res: Response, options: WatcherOptions) {
    this.#cache = cache
    this.#kind = kind
    this.#res = res
    this.#o = options
  }

  /** With undefined, the present state is sent as ADDED events first. */
  start(revision: number | undefined, markEnd: boolean): void {
    const kindCache = this.#cache.of(this.#kind)
    const from = revision ?? this.#cache.revision()
    const early: CacheEvent[] = []
    let live = false
    try {
      this.#unwatch = kindCache.watch(from, events => { if (live) this.#send(events); else early.push(...events) })
    } catch (e) {
      // Tested before the headers are out: an HTTP error is what clients handle best.
      if (isReason(e, 'Expired')) this.#done = true
      throw e
    }
    const res = this.#res as ServerResponse
    res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' })
    res.flushHeaders?.()
    if (revision === undefined) {
      const { namespace, matcher } = this.#o
      const parts: Buffer[] = []
      for (const c of kindCache.list(namespace)) if (matcher === undefined || matcher(c.object)) parts.push(this.#line('ADDED', c))
      if (markEnd) parts.push(this.#bookmark(from, { 'k8s.io/initial-events-end': 'true' }))
      const state = Buffer.concat(parts)
      this.#initialBytes = state.length
      this.#write(state)
    }
    live = true
    if (early.length > 0) this.#send(early)
    if (this.#o.bookmarks) {
      const t = setInterval(() => this.#write(this.#bookmark(this.#cache.revision())), BOOKMARK_MS)
      this.#timers.push(t.unref())
    }
    this.#timers.push(setTimeout(() => {
      if (this.#o.bookmarks) this.#write(this.#bookmark(this.#cache.revision()))
      this.end()
    }, this.#o.timeoutS * 1000).unref())
  }

  #send(events: readonly CacheEvent[]): void {
    const { namespace, matcher, form } = this.#o
    const parts: Buffer[] = []
    for (const e of events) {
      if (namespace !== undefined && e.current.object.metadata.namespace !== namespace) continue
      let { type } = e
      let shown = e.current
      if (matcher !== undefined) {
        const before = e.previous !== undefined && matcher(e.previous.object)
        const now = type !== 'DELETED' && matcher(e.current.object)
        if (!before && !now) continue
        if (before && !now && type !== 'DELETED') {
          // It left the selection: its last matching state, with the revision of the change.
          type = 'DELETED'
          shown = e.previous!.at(e.revision)
        } else if (now) type = before ? 'MODIFIED' : 'ADDED'
      }
      if (form.as === 'object' && type === e.type) parts.push(e.line ??= lineOf(type, shown))
      else parts.push(this.#line(type, shown))
    }
    if (parts.length > 0) this.#write(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  }

  #line(type: CacheEvent['type'], object: Cached): Buffer {
    const { form, include } = this.#o
    if (form.as === 'object') return lineOf(type, object)
    if (form.as === 'partial') return Buffer.from(`${JSON.stringify({ type, object: partialOf(object.object, form) })}\n`)
    const metadata = { resourceVersion: String(object.revision) }
    const table = tableOf(this.#kind, [object], form, include, metadata, !this.#columnsSent)
    this.#columnsSent = true
    return Buffer.from(`${JSON.stringify({ type, object: table })}\n`)
  }

  #bookmark(revision: number, annotations?: Record<string, string>): Buffer {
    const { form } = this.#o
    const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...(annotations && { annotations }) }
    const object = form.as === 'object' ? { kind: this.#kind.kind, apiVersion: this.#kind.apiVersion, metadata }
      : form.as === 'partial' ? { kind: 'PartialObjectMetadata', apiVersion: form.metaVersion, metadata }
        : { kind: 'Table', apiVersion: form.metaVersion, metadata: { resourceVersion: String(revision) }, columnDefinitions: null, rows: annotations === undefined ? [] : [{ cells: [], object: { kind: 'PartialObjectMetadata', apiVersion: form.metaVersion, metadata } }] }
    return Buffer.from(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
  }

  #write(bytes: Buffer): void {
    if (this.#done || bytes.length === 0) return
    const res = this.#res as ServerResponse
    res.write(bytes)
    if (res.writableLength > MAX_BEHIND_BYTES + this.#initialBytes) {
      this.stop()
      this.#res.destroy()
    }
  }

  end(): void {
    this.stop()
    this.#res.end()
  }

  stop(): void {
    this.#done = true
    this.#unwatch?.()
    this.#unwatch = undefined
    for (const t of this.#timers) clearTimeout(t)
    this.#o.closed(this)
  }
}
