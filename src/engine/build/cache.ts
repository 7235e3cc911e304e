/**
 * The build cache: which step on which parent gave which layer. The table is a file of our own; the layers are kept from
 * containerd's garbage collector by a label on their blobs. Either may be lost or stale without harm: a step whose layer is
 * gone is done again.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { replaceFile } from '../../files/replace.ts'
import { orAbsent } from '../containerd/index.ts'
import type { ImageContext } from '../images/assemble.ts'
import { collectGarbage } from '../images/content.ts'
import type { Descriptor } from '../images/media-types.ts'
import { CACHE_ROOT_LABEL } from '../images/remove.ts'
import type { BuildLease } from './lease.ts'

export interface CachedStep {
  /** When the step was done: images from the cache keep their time, and so their id. */
  created: string
  /** History's text of the step. */
  createdBy?: string
  /** Left out for steps that change only the configuration, or nothing. */
  layer?: { descriptor: Descriptor; diffId: string; chainId: string }
}
interface Entry extends CachedStep { usedAtMs: number }

const MARK = 'gantry/build-cache'
const MAX_ENTRIES = 1000
const MAX_AGE_MS = 14 * 24 * 3600_000
const MAX_BYTES = 20 * 2 ** 30

export function stepKey(parent: string, ...parts: string[]): string {
  return createHash('sha256').update(JSON.stringify([parent, ...parts])).digest('hex')
}

export class BuildCache {
  readonly #x: ImageContext
  readonly #file: string
  readonly #entries = new Map<string, Entry>()
  #saving: Promise<void> | undefined
  #dirty = false

  constructor(x: ImageContext, file: string) {
    this.#x = x
    this.#file = file
  }

  /** Reads the table and lets go of layers it does not know (the engine was killed between the two). */
  async load(): Promise<void> {
    try {
      const entries = JSON.parse(await readFile(this.#file, 'utf8')) as Record<string, Entry>
      for (const [k, e] of Object.entries(entries)) if (typeof e?.created === 'string') this.#entries.set(k, e)
    } catch {
      // None yet, or broken off by a power cut: an empty cache is always right.
    }
    const known = new Set([...this.#entries.values()].flatMap(e => (e.layer === undefined ? [] : [e.layer.descriptor.digest])))
    const marked = await this.#x.containerd.content.list([`labels."${MARK}"`])
    await Promise.all(marked.filter(i => !known.has(i.digest)).map(i => this.#release(i.digest)))
  }

  /** What the step gave, if its layer is still whole; it is then given to the lease to hold. */
  async find(key: string, lease: BuildLease): Promise<CachedStep | undefined> {
    const e = this.#entries.get(key)
    if (e === undefined) return undefined
    if (e.layer !== undefined) {
      const { descriptor, chainId } = e.layer
      const [unpacked, info] = await Promise.all([
        this.#x.unpacker.exists(chainId), orAbsent(this.#x.containerd.content.info(descriptor.digest)),
      ])
      // Without its label the layer belongs to an image that was deleted on purpose.
      if (!unpacked || info?.labels[CACHE_ROOT_LABEL] === undefined) {
        this.#entries.delete(key)
        this.#dirty = true
        return undefined
      }
      lease.hold({ id: chainId, type: `snapshots/${this.#x.snapshotter}` }, { id: descriptor.digest, type: 'content' })
    }
    // Only tells what to prune first: the next change brings it to the file.
    e.usedAtMs = Date.now()
    return e
  }

  /** Remembers a step. Its layer must be under a lease; it is kept from then on. */
  async add(key: string, step: CachedStep): Promise<void> {
    if (step.layer !== undefined) {
      const { descriptor, chainId } = step.layer
      await this.#x.containerd.content.label(descriptor.digest, {
        [CACHE_ROOT_LABEL]: new Date().toISOString(), [MARK]: 'layer',
        // One blob can be the top of several chains.
        [`containerd.io/gc.ref.snapshot.${this.#x.snapshotter}/${chainId.slice(7, 31)}`]: chainId,
      })
    }
    this.#entries.set(key, { ...step, usedAtMs: Date.now() })
    this.#dirty = true
    // Steps follow each other faster than the table is written; the build waits for the last writing only.
    this.save().catch(() => { this.#dirty = true })
  }

  /** Writes the table if it changed. */
  async save(): Promise<void> {
    if (!this.#dirty) return
    if (this.#saving !== undefined) {
      await this.#saving
      return this.save()
    }
    this.#dirty = false
    this.#saving = (async () => {
      await replaceFile(this.#file, JSON.stringify(Object.fromEntries(this.#entries)))
    })().finally(() => { this.#saving = undefined })
    await this.#saving
  }

  list(): { id: string; step: CachedStep; usedAtMs: number }[] {
    return [...this.#entries].map(([id, e]) => ({ id, step: e, usedAtMs: e.usedAtMs }))
  }

  /** Forgets what is old or too much; with limits of its caller's, only by these. Resolves with keys and the bytes of the blobs let go. */
  async prune(limits: { maxEntries?: number; olderThanMs?: number; keepBytes?: number } = {
    maxEntries: MAX_ENTRIES, olderThanMs: Date.now() - MAX_AGE_MS, keepBytes: MAX_BYTES,
  }): Promise<{ ids: string[]; bytes: number }> {
    const { maxEntries = Infinity, olderThanMs = -Infinity, keepBytes = Infinity } = limits
    const byUse = [...this.#entries].sort((a, b) => b[1].usedAtMs - a[1].usedAtMs)
    let total = 0
    const gone = byUse.filter(([, e], i) => {
      total += e.layer?.descriptor.size ?? 0
      return i >= maxEntries || e.usedAtMs < olderThanMs || total > keepBytes
    })
    if (gone.length === 0) return { ids: [], bytes: 0 }
    for (const [key] of gone) this.#entries.delete(key)
    this.#dirty = true
    const kept = new Set([...this.#entries.values()].map(e => e.layer?.descriptor.digest))
    const blobs = new Map(gone.flatMap(([, e]) => (e.layer === undefined ? [] : [[e.layer.descriptor.digest, e.layer.descriptor.size] as const])))
    let bytes = 0
    for (const [digest, size] of blobs) {
      if (kept.has(digest)) continue
      await this.#release(digest)
      bytes += size
    }
    await this.save()
    if (bytes > 0) await collectGarbage(this.#x.containerd)
    return { ids: gone.map(([key]) => key), bytes }
  }

  async #release(digest: string): Promise<void> {
    const info = await orAbsent(this.#x.containerd.content.info(digest))
    if (info === undefined) return
    const snapshots = Object.keys(info.labels).filter(k => k.startsWith(`containerd.io/gc.ref.snapshot.${this.#x.snapshotter}/`))
    await this.#x.containerd.content.label(digest, Object.fromEntries([CACHE_ROOT_LABEL, MARK, ...snapshots].map(k => [k, ''])))
  }
}
