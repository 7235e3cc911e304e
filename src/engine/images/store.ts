/**
 * The image records of containerd in memory, with what their content says. containerd is the truth: its events (and our own
 * writes) make the list be read again; what a digest stands for never changes, so that is read once.
 */
import { Code, hasCode, timestampMs } from '../containerd/index.ts'
import type { ContainerdClient, EventWatch, Image } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageInfo } from '../engine.ts'
import { readDocument } from './content.ts'
import { isIndexType, isManifestType } from './media-types.ts'
import type { ConfigFile, Descriptor, Index, Manifest, Platform } from './media-types.ts'
import { choosePlatform } from './platform.ts'
import { formatReference, parseReference } from './reference.ts'
import { chainIds } from './unpack.ts'

/** When a name was given its target, in milliseconds, where that happened first: peers copy it. */
export const TAGGED_LABEL = 'gantry/tagged-at'
const ORIGIN_LABEL = 'gantry/origin'
/** Records under this prefix keep an image that was removed while containers use it. No list shows it. */
export const KEPT = 'dangling.gantry/image@'
/** Records under this prefix, which ends in the image's id, are Docker's untagged images: steps of builds, and what lost its tag to another. */
export const UNTAGGED = 'untagged.gantry/image@'

export const isNamed = (record: { name: string }): boolean => !record.name.startsWith(KEPT) && !record.name.startsWith(UNTAGGED)
/** `host/path@sha256:…` */
export const isDigestName = (record: { name: string }): boolean => isNamed(record) && record.name.includes('@')
/** `host/path` of a name. */
export function repositoryOf(name: string): string {
  const at = name.indexOf('@')
  return at >= 0 ? name.slice(0, at) : name.slice(0, name.lastIndexOf(':'))
}

/** What a record's target stands for on this machine's platform. */
export interface Resolved {
  /** Digest of the configuration: Docker's image id. */
  id: string
  /** What the name points to: a manifest, or an index that holds it. */
  target: Descriptor
  manifestDescriptor: Descriptor
  manifest: Manifest
  config: ConfigFile
  /** Name of the snapshot a container's file system grows from; '' for an image without layers. */
  chainId: string
  /** All digests below the target, the target included. */
  digests: string[]
  sizeBytes: number
}

/** When and where a name was given to its target first: of several nodes' images of one name the newest is right. */
export interface Tagging { taggedAtMs: number; origin: 'registry' | 'local' }

export interface ImageRecord extends Tagging { name: string; targetDigest: string; target: Descriptor }

/** An image with all records that keep it. */
export interface ImageEntry { resolved: Resolved; records: ImageRecord[] }

export class ImageStore {
  readonly #containerd: ContainerdClient
  readonly #platform: Platform
  readonly #handlers = new Set<() => void>()
  readonly #resolved = new Map<string, Promise<Resolved>>()
  #records = new Map<string, ImageRecord>()
  /** Images by id; made again when a record has changed. */
  #entries: Promise<Map<string, ImageEntry>> | undefined
  #refreshing: Promise<void> | undefined
  #again = false
  /** Own changes of records so far. */
  #writes = 0
  #watch: EventWatch | undefined

  constructor(containerd: ContainerdClient, platform: Platform) {
    this.#containerd = containerd
    this.#platform = platform
  }

  /** Resolves when the list is known. */
  async start(): Promise<void> {
    const refresh = (): void => {
      this.refresh().catch(() => {
        // The connection broke: the watch lists again when it is back.
      })
    }
    this.#watch = this.#containerd.events.watch({
      topics: ['/images/create', '/images/update', '/images/delete'],
      onEvent: refresh,
      onConnected: () => this.refresh(),
    })
    await this.#watch.first
  }

  close(): void { this.#watch?.close() }

  onChange(handler: () => void): () => void {
    this.#handlers.add(handler)
    return () => { this.#handlers.delete(handler) }
  }

  /** Reads the list again. Calls during a read share one further read, so a caller always sees its own writes. */
  async refresh(): Promise<void> {
    if (this.#refreshing !== undefined) {
      this.#again = true
      return this.#refreshing
    }
    this.#refreshing = (async () => {
      do {
        this.#again = false
        await this.#read()
      } while (this.#again)
    })().finally(() => { this.#refreshing = undefined })
    return this.#refreshing
  }

  async #read(): Promise<void> {
    let images: Image[]
    let writes: number
    // A list that was read before one of our own writes must not undo it here.
    do {
      writes = this.#writes
      images = await this.#containerd.images.list()
    } while (writes !== this.#writes)
    const before = this.#records
    this.#records = new Map(images.map(i => [i.name, toRecord(i)]))
    const targets = new Set(images.map(i => i.target.digest))
    for (const digest of this.#resolved.keys()) if (!targets.has(digest)) this.#resolved.delete(digest)
    const changed = before.size !== this.#records.size
      || [...this.#records.values()].some(r => before.get(r.name)?.targetDigest !== r.targetDigest)
    if (changed) this.#changed()
  }

  #changed(): void {
    this.#entries = undefined
    for (const h of this.#handlers) h()
  }

  records(): IterableIterator<ImageRecord> { return this.#records.values() }

  record(name: string): ImageRecord | undefined { return this.#records.get(name) }

  /** Gives `name` its target. Content must be protected by a lease until this resolves. */
  async put(name: string, target: Descriptor, { taggedAtMs, origin }: Tagging, lease: string): Promise<void> {
    const { platform: _, urls: __, ...descriptor } = target
    const image: Image = { name, target: descriptor, labels: { [TAGGED_LABEL]: String(taggedAtMs), [ORIGIN_LABEL]: origin } }
    try {
      await this.#containerd.images.create(image, { lease })
    } catch (e) {
      if (!hasCode(e, Code.alreadyExists)) throw e
      await this.#containerd.images.update(image, ['target', `labels.${TAGGED_LABEL}`, `labels.${ORIGIN_LABEL}`], { lease })
    }
    this.#set({ name, target: descriptor, targetDigest: descriptor.digest, taggedAtMs, origin })
  }

  /** With `sync` unreferenced content is gone when this resolves. */
  async delete(name: string, sync: boolean): Promise<void> {
    await this.#containerd.images.delete(name, sync).catch((e: unknown) => { if (!hasCode(e, Code.notFound)) throw e })
    this.#writes++
    const had = this.#records.delete(name)
    if (had) this.#changed()
  }

  #set(r: ImageRecord): void {
    this.#writes++
    const before = this.#records.get(r.name)
    this.#records.set(r.name, r)
    this.#entries = undefined
    if (before?.targetDigest !== r.targetDigest) this.#changed()
  }

  /** The meaning of a target; `not-found` if its content for this platform is not here. */
  resolve(target: Descriptor): Promise<Resolved> {
    const known = this.#resolved.get(target.digest)
    if (known !== undefined) return known
    const reading = this.#resolveNow(target)
    this.#resolved.set(target.digest, reading)
    reading.catch(() => { this.#resolved.delete(target.digest) })
    return reading
  }

  async #resolveNow(target: Descriptor): Promise<Resolved> {
    const digests = [target.digest]
    let manifestDescriptor = target
    let sizeBytes = target.size
    if (isIndexType(target.mediaType)) {
      const index = await readDocument<Index>(this.#containerd, target.digest)
      const chosen = choosePlatform(index.manifests ?? [], this.#platform)
      if (chosen === undefined) throw new EngineError('not-found', `no image for ${this.#platform.os}/${this.#platform.architecture} in ${target.digest}`)
      manifestDescriptor = chosen
      // Other platforms count only if their manifests are here too; their blobs are found when they are asked for.
      digests.push(chosen.digest)
      sizeBytes += chosen.size
    } else if (!isManifestType(target.mediaType)) {
      throw new EngineError('failed', `${target.digest} is a ${target.mediaType}, which is no image`)
    }
    const manifest = await readDocument<Manifest>(this.#containerd, manifestDescriptor.digest)
    const config = await readDocument<ConfigFile>(this.#containerd, manifest.config.digest)
    digests.push(manifest.config.digest, ...manifest.layers.map(l => l.digest))
    sizeBytes += manifest.config.size + manifest.layers.reduce((n, l) => n + l.size, 0)
    return {
      id: manifest.config.digest, target, manifestDescriptor, manifest, config, digests, sizeBytes,
      chainId: chainIds(config.rootfs.diff_ids).at(-1) ?? '',
    }
  }

  /** All images by id. Records whose content is not whole are left out. */
  entries(): Promise<Map<string, ImageEntry>> {
    this.#entries ??= this.#collect([...this.#records.values()])
    return this.#entries
  }

  async #collect(records: ImageRecord[]): Promise<Map<string, ImageEntry>> {
    const byId = new Map<string, ImageEntry>()
    const resolved = await Promise.all(records.map(r => this.resolve(r.target).catch(() => undefined)))
    for (const [i, r] of resolved.entries()) {
      if (r === undefined) continue
      const entry = byId.get(r.id)
      if (entry === undefined) byId.set(r.id, { resolved: r, records: [records[i]!] })
      else entry.records.push(records[i]!)
    }
    return byId
  }

  /** All images, one entry an id, newest first. */
  async list(): Promise<ImageInfo[]> {
    return [...(await this.entries()).values()].map(e => toInfo(e.resolved, e.records)).sort((a, b) => b.createdAtMs - a.createdAtMs)
  }

  /**
   * By name, `name@digest`, id or its prefix, or digest of manifest or index. Names win over ids, except over a whole id.
   * `invalid` if a prefix fits several images.
   */
  async lookup(reference: string): Promise<{ record: ImageRecord; resolved: Resolved } | undefined> {
    const record = this.#byName(reference)
    if (record !== undefined) return { record, resolved: await this.resolve(record.target) }
    const hex = /^(?:sha256:)?([0-9a-f]{1,64})$/.exec(reference)?.[1]
    if (hex === undefined) return undefined
    const hits: ImageEntry[] = []
    for (const e of (await this.entries()).values()) {
      const fits = e.resolved.id.startsWith(hex, 7) || (hex.length === 64
        && (e.resolved.manifestDescriptor.digest.endsWith(hex) || e.records.some(r => r.targetDigest.endsWith(hex))))
      if (fits) hits.push(e)
    }
    if (hits.length > 1) throw new EngineError('invalid', `"${reference}" fits ${hits.length} images: give more of the id`)
    const [hit] = hits
    return hit && { record: hit.records.find(isNamed) ?? hit.records[0]!, resolved: hit.resolved }
  }

  #byName(reference: string): ImageRecord | undefined {
    const exact = this.#records.get(reference)
    if (exact !== undefined) return exact
    let parsed
    try {
      parsed = parseReference(reference)
    } catch {
      return undefined
    }
    const named = this.#records.get(formatReference(parsed))
    if (named !== undefined || parsed.digest === undefined) return named
    // name@digest of an image that is here under a tag of the same repository.
    for (const r of this.#records.values()) {
      if (r.targetDigest === parsed.digest && r.name.startsWith(`${parsed.host}/${parsed.path}:`)) return r
    }
    return undefined
  }

  /** All records of one image id. */
  async recordsOf(id: string): Promise<ImageRecord[]> {
    return (await this.entries()).get(id)?.records ?? []
  }
}

function toRecord(i: Image): ImageRecord {
  const tagged = Number(i.labels[TAGGED_LABEL])
  return {
    name: i.name, target: i.target, targetDigest: i.target.digest,
    taggedAtMs: Number.isFinite(tagged) && tagged > 0 ? tagged : timestampMs(i.createdAt) ?? 0,
    origin: i.labels[ORIGIN_LABEL] === 'registry' ? 'registry' : 'local',
  }
}

export function toInfo(resolved: Resolved, records: ImageRecord[]): ImageInfo {
  const created = Date.parse(resolved.config.created ?? '')
  const named = records.filter(isNamed).sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    id: resolved.id, names: named.map(r => r.name), digests: named.map(r => r.targetDigest), sizeBytes: resolved.sizeBytes,
    createdAtMs: Number.isNaN(created) ? 0 : created, labels: resolved.config.config?.Labels ?? {},
    origin: named.some(r => r.origin === 'registry') ? 'registry' : 'local',
  }
}
