/** Pulling: find who has the image, bring its blobs in parallel and unpack them on their way. */
import { orAbsent } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageInfo, OnProgress, PeerSource, Progress, PullOptions } from '../engine.ts'
import { Peer } from '../registry/peer.ts'
import { RegistryError } from '../registry/source.ts'
import type { FetchedManifest, Source } from '../registry/source.ts'
import { checkConfig, checkIndex, checkManifest, configLabels, indexLabels, manifestLabels, nameImage } from './assemble.ts'
import type { ImageContext } from './assemble.ts'
import { ingest, MAX_DOCUMENT_BYTES, parseDocument, putDocument, readDocument, withPullLease } from './content.ts'
import { LayerExtractor, MIN_EXTRACT_BYTES } from './extract.ts'
import { isIndexType } from './media-types.ts'
import type { ConfigFile, Descriptor, Index, Manifest, Platform } from './media-types.ts'
import { choosePlatform, formatPlatform, parsePlatform } from './platform.ts'
import { familiar, formatReference, parseReference } from './reference.ts'
import type { Reference } from './reference.ts'
import { toInfo } from './store.ts'
import type { Tagging } from './store.ts'

/** Blobs in flight at once, over all pulls: Docker's number. */
const MAX_DOWNLOADS = 3
const PROGRESS_EVERY_MS = 100

interface Found extends FetchedManifest, Tagging { sources: Source[]; fromRegistry: boolean }

/** One pull and all who wait for it. */
interface Shared { work: Promise<ImageInfo>; stop: AbortController; listeners: Set<OnProgress>; said: Progress[] }

export class Puller {
  readonly #x: ImageContext
  readonly #pulls = new Map<string, Shared>()
  readonly #blobs = new Map<string, Promise<LayerExtractor | undefined>>()
  #active = 0
  readonly #queue: (() => void)[] = []
  peers: PeerSource | undefined

  constructor(x: ImageContext) {
    this.#x = x
  }

  /**
   * Equal pulls at one time share the work, and each hears of all of it; those with other credentials do not, as what one may see
   * another may not. The work stops when nobody waits for it any more.
   */
  async pull(reference: string, options: PullOptions = {}): Promise<ImageInfo> {
    const parsed = parseReference(reference)
    const full = formatReference(parsed)
    options.signal?.throwIfAborted()
    const { peersOnly, insecure, platform, keepReplaced, auth } = options
    const key = JSON.stringify([full, peersOnly, insecure, platform, keepReplaced, auth])
    let shared = this.#pulls.get(key)
    if (shared === undefined) {
      const started: Omit<Shared, 'work'> = { stop: new AbortController(), listeners: new Set(), said: [] }
      const onProgress: OnProgress = p => {
        if (p.currentBytes === undefined) started.said.push(p)
        for (const l of started.listeners) l(p)
      }
      const work = Promise.resolve().then(() => this.#pull(parsed, full, { ...options, onProgress, signal: started.stop.signal }))
        .finally(() => { this.#pulls.delete(key) })
      shared = { ...started, work }
      this.#pulls.set(key, shared)
    }
    return this.#join(shared, options)
  }

  async #join(shared: Shared, options: PullOptions): Promise<ImageInfo> {
    const listener: OnProgress = p => options.onProgress?.(p)
    for (const p of shared.said) listener(p)
    shared.listeners.add(listener)
    const { promise: left, reject } = Promise.withResolvers<never>()
    const leave = (): void => { reject(options.signal!.reason as Error) }
    options.signal?.addEventListener('abort', leave, { once: true })
    try {
      return await Promise.race([shared.work, left])
    } finally {
      options.signal?.removeEventListener('abort', leave)
      shared.listeners.delete(listener)
      if (shared.listeners.size === 0) {
        shared.stop.abort()
        // Nobody is told how it ends, but it has ended when this resolves: nothing is left half-done behind a caller's back.
        await shared.work.catch(() => undefined)
      }
    }
  }

  async #pull(parsed: Reference, full: string, options: PullOptions): Promise<ImageInfo> {
    const report = options.onProgress ?? (() => undefined)
    const wanted = parsed.digest ?? parsed.tag ?? 'latest'
    const local = this.#x.store.record(full)
    let found: Found
    try {
      found = await this.#find(parsed, full, wanted, options)
    } catch (e) {
      // What is here is still right when nobody could name a newer one: a node must keep working alone. Docker's users are told.
      const here = options.keepReplaced === true ? undefined : await this.#usable(full)
      if (here === undefined || !(e instanceof EngineError) || e.code === 'failed') throw e
      report({ status: `Status: Image is kept as it is here for ${familiar(full)} (${e.message})` })
      return here
    }
    report({ id: parsed.digest === undefined ? wanted : familiar(full), status: `Pulling from ${parsed.path}` })
    const repoDigest = `${parsed.host}/${parsed.path}@${found.digest}`
    const names = options.keepReplaced === true && found.fromRegistry ? [...new Set([full, repoDigest])] : [full]
    // A digest that a push gave names an image in its local form, which has another manifest.
    const known = this.#x.store.record(repoDigest)
    const current = local?.targetDigest === (known?.targetDigest ?? found.digest) && names.every(n => this.#x.store.record(n) !== undefined)
    if (local !== undefined && (current || (!found.fromRegistry && local.taggedAtMs >= found.taggedAtMs)) && options.platform === undefined) {
      const here = await this.#usable(full)
      if (here !== undefined) {
        report({ status: `Digest: ${found.fromRegistry ? found.digest : local.targetDigest}` })
        report({ status: `Status: Image is up to date for ${familiar(full)}` })
        return here
      }
    }
    const before = local === undefined ? undefined : await this.#x.store.resolve(local.target).catch(() => undefined)
    // Half a layer is worth keeping when the line broke, not when the content is wrong.
    const passing = (e: unknown): boolean => e instanceof EngineError && e.code === 'unavailable'
    const info = await withPullLease(this.#x.containerd, full, passing, lease => this.#bring(names, found, lease, options))
    report({ status: `Digest: ${found.digest}` })
    report({ status: `Status: ${before?.id === info.id ? 'Image is up to date' : 'Downloaded newer image'} for ${familiar(full)}` })
    return info
  }

  /** The image as it is here, whole and unpacked; undefined otherwise. */
  async #usable(full: string): Promise<ImageInfo | undefined> {
    const record = this.#x.store.record(full)
    if (record === undefined) return undefined
    const resolved = await this.#x.store.resolve(record.target).catch(() => undefined)
    if (resolved === undefined || !await this.#x.unpacker.exists(resolved.chainId)) return undefined
    return toInfo(resolved, await this.#x.store.recordsOf(resolved.id))
  }

  async #find(parsed: Reference, full: string, wanted: string, options: PullOptions): Promise<Found> {
    const endpoints = await this.peers?.sources(full).catch(() => []) ?? []
    const peers = endpoints.map(e => new Peer(e, parsed))
    const answers = await Promise.all(peers.map(async peer => {
      try {
        return { peer, manifest: await peer.tagged(wanted) }
      } catch (e) {
        return { peer, error: e as Error }
      }
    }))
    const having = answers.filter(a => a.manifest !== undefined)
    if (having.length > 0) {
      const newest = having.reduce((a, b) => (b.manifest.taggedAtMs > a.manifest.taggedAtMs ? b : a))
      const equal = having.filter(a => a.manifest.digest === newest.manifest.digest).map(a => a.peer as Source)
      // Peers that pull the same thing at the same time should not all ask the same one.
      const start = Math.floor(Math.random() * equal.length)
      const sources: Source[] = [...equal.slice(start), ...equal.slice(0, start)]
      if (options.peersOnly !== true) sources.push(this.#registry(parsed, options))
      return { ...newest.manifest, sources, fromRegistry: false }
    }
    if (options.peersOnly === true) {
      const broken = answers.find(a => a.error instanceof EngineError && a.error.code !== 'not-found')
      if (broken?.error !== undefined) throw new EngineError('unavailable', `no peer could give ${familiar(full)}: ${broken.error.message}`)
      throw new EngineError('not-found', `No such image: ${familiar(full)}: no peer has it`)
    }
    const registry = this.#registry(parsed, options)
    let manifest: FetchedManifest
    try {
      manifest = await registry.manifest(wanted, options.signal)
    } catch (e) {
      throw e instanceof EngineError && e.code === 'not-found' && !(e instanceof RegistryError) ? new EngineError('not-found', `${familiar(full)}: ${e.message}`) : e
    }
    // A peer may have the same image under another name.
    const holders = wanted === manifest.digest ? [] : await Promise.all(peers.map(async p => {
      try {
        await p.manifest(manifest.digest)
        return [p as Source]
      } catch {
        return []
      }
    }))
    return { ...manifest, sources: [...holders.flat(), registry], taggedAtMs: Date.now(), origin: 'registry', fromRegistry: true }
  }

  #registry(parsed: Reference, options: PullOptions): Source {
    return this.#x.registries.reader(parsed.host, parsed.path, options)
  }

  async #bring(names: string[], found: Found, lease: string, options: PullOptions): Promise<ImageInfo> {
    const x = this.#x
    const [full] = names as [string]
    const { host, path } = parseReference(full)
    const origin: Record<string, string> = found.fromRegistry ? { [`containerd.io/distribution.source.${host}`]: path } : {}
    const platform = options.platform === undefined ? undefined : parsePlatform(options.platform)
    const naming = { taggedAtMs: found.taggedAtMs, origin: found.origin, keepReplaced: options.keepReplaced === true }
    let manifestBytes = found.bytes
    let manifestDescriptor: Descriptor = { mediaType: found.mediaType, digest: found.digest, size: found.bytes.length }
    let target = manifestDescriptor
    if (isIndexType(found.mediaType)) {
      const index = parseDocument<Index>(found.bytes, found.digest)
      checkIndex(index, found.digest)
      const chosen = choosePlatform(index.manifests, platform ?? x.platform)
      if (chosen === undefined) {
        throw new EngineError('not-found', `no matching manifest for ${formatPlatform(platform ?? x.platform)} in the manifest list entries`)
      }
      if (platform === undefined) await putDocument(x.containerd, found.mediaType, found.bytes, { ...indexLabels(index), ...origin }, lease)
      // An index stands for this machine's platform; another's image is named by its own manifest.
      else target = chosen
      manifestBytes = (await firstOf(found.sources, s => s.manifest(chosen.digest, options.signal))).bytes
      manifestDescriptor = chosen
    }
    const manifest = parseDocument<Manifest>(manifestBytes, manifestDescriptor.digest)
    checkManifest(manifest, manifestDescriptor.digest)
    if (manifest.config.size > MAX_DOCUMENT_BYTES) throw new EngineError('failed', `the configuration of ${familiar(full)} is too large`)
    await putDocument(x.containerd, manifestDescriptor.mediaType, manifestBytes, { ...manifestLabels(manifest), ...origin }, lease)

    const stop = new AbortController()
    const signal = options.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, options.signal])
    const report = options.onProgress ?? (() => undefined)
    const present = await Promise.all(manifest.layers.map(async l => await orAbsent(x.containerd.content.info(l.digest)) !== undefined))
    manifest.layers.forEach((l, i) => { report({ id: short(l.digest), status: present[i] === true ? 'Already exists' : 'Pulling fs layer' }) })
    const absent = manifest.layers.filter((_, i) => present[i] !== true)
    for (const l of absent.slice(MAX_DOWNLOADS)) report({ id: short(l.digest), status: 'Waiting' })
    const extractors: LayerExtractor[] = []
    const fetches = manifest.layers.map((l, i) => this.#blob(
      l, found.sources, lease, origin, signal, present[i] === true ? () => undefined : report,
      () => {
        if (l.size < MIN_EXTRACT_BYTES) return undefined
        const extractor = new LayerExtractor(x.spoolDir, `layer ${l.digest}`)
        extractors.push(extractor)
        return extractor
      },
    ))
    // A failure of one must not surface as unhandled while another is waited for.
    for (const f of fetches) f.catch(() => { stop.abort() })
    try {
      await this.#blob(manifest.config, found.sources, lease, origin, signal, () => undefined)
      const config = await readDocument<ConfigFile>(x.containerd, manifest.config.digest)
      checkConfig(config, manifest)
      if (platform !== undefined && choosePlatform([{ ...manifestDescriptor, platform: platformOf(config) }], platform) === undefined) {
        throw new EngineError('not-found', `image with reference ${familiar(full)} was found but does not match the specified platform: `
          + `wanted ${formatPlatform(platform)}, actual: ${formatPlatform(platformOf(config))}`)
      }
      let chain = ''
      for (const [i, layer] of manifest.layers.entries()) {
        const id = short(layer.digest)
        const extract = (currentBytes: number): void => { if (present[i] !== true) report({ id, status: 'Extracting', currentBytes, totalBytes: layer.size }) }
        const ready = fetches[i]!.then(extractor => {
          extract(Math.min(layer.size, 1 << 16))
          return extractor
        })
        ready.catch(() => undefined)
        chain = await x.unpacker.layer(chain, config.rootfs.diff_ids[i]!, layer, ready, lease)
        await ready
        extract(layer.size)
        if (present[i] !== true) report({ id, status: 'Pull complete' })
      }
      await x.containerd.content.label(manifest.config.digest, configLabels(x.snapshotter, chain), { lease })
    } catch (e) {
      stop.abort()
      const failures = (await Promise.allSettled(fetches)).filter(r => r.status === 'rejected').map(r => r.reason as unknown)
      // An aborted sibling is only the consequence.
      throw failures.find(f => f instanceof EngineError) ?? e
    } finally {
      await Promise.all(extractors.map(x => x.close()))
    }
    options.signal?.throwIfAborted()
    return nameImage(x, names, target, lease, naming)
  }

  /** Resolves when the blob is here; with what unpacks it on its way, if that was begun. */
  async #blob(
    descriptor: Descriptor, sources: Source[], lease: string, labels: Record<string, string>, signal: AbortSignal, report: OnProgress,
    openTap?: () => LayerExtractor | undefined,
  ): Promise<LayerExtractor | undefined> {
    // One transfer per digest: whoever waited finds the blob present, and his lease takes hold of it.
    for (let running = this.#blobs.get(descriptor.digest); running !== undefined; running = this.#blobs.get(descriptor.digest)) {
      await running.catch(() => undefined)
    }
    const work = this.#transfer(descriptor, sources, lease, labels, signal, report, openTap).finally(() => { this.#blobs.delete(descriptor.digest) })
    this.#blobs.set(descriptor.digest, work)
    return work
  }

  async #transfer(
    descriptor: Descriptor, sources: Source[], lease: string, labels: Record<string, string>, signal: AbortSignal, report: OnProgress,
    openTap?: () => LayerExtractor | undefined,
  ): Promise<LayerExtractor | undefined> {
    const id = short(descriptor.digest)
    // Configurations are small, and all else waits for them.
    const isLayer = openTap !== undefined
    if (isLayer) await this.#enter(signal)
    let extractor: LayerExtractor | undefined
    try {
      const left = [...sources]
      let reportedAt = 0
      for (;;) {
        let used = 0
        try {
          await ingest(this.#x.containerd, {
            ref: `${isLayer ? 'layer' : 'config'}-${descriptor.digest}`, digest: descriptor.digest, size: descriptor.size, labels, lease, signal,
            onBytes: n => {
              const now = Date.now()
              if (now - reportedAt < PROGRESS_EVERY_MS && n < descriptor.size) return
              reportedAt = now
              report({ id, status: 'Downloading', currentBytes: n, totalBytes: descriptor.size })
              if (n === descriptor.size) report({ id, status: 'Verifying Checksum' })
            },
            ...(!isLayer ? {} : {
              openTap: () => {
                extractor = openTap()
                return extractor
              },
            }),
          }, async offset => {
            let failure: unknown
            for (let tries = 0; tries < left.length; tries++) {
              try {
                return await left[used]!.blob(descriptor, offset, signal)
              } catch (e) {
                failure = e
                used = (used + 1) % left.length
              }
            }
            throw failure
          })
          report({ id, status: 'Download complete' })
          return extractor
        } catch (e) {
          // A source that gives wrong bytes is not asked again; another may be honest.
          if (!(e instanceof EngineError) || signal.aborted || left.length === 1) throw e
          left.splice(used, 1)
        }
      }
    } finally {
      if (isLayer) this.#leave()
    }
  }

  async #enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#active < MAX_DOWNLOADS) {
      this.#active++
      return
    }
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => {
        this.#queue.splice(this.#queue.indexOf(go), 1)
        reject(signal.reason as Error)
      }
      const go = (): void => {
        signal.removeEventListener('abort', abort)
        resolve()
      }
      signal.addEventListener('abort', abort, { once: true })
      this.#queue.push(go)
    })
  }

  #leave(): void {
    const next = this.#queue.shift()
    if (next === undefined) this.#active--
    else next()
  }
}

async function firstOf<T>(sources: Source[], ask: (s: Source) => Promise<T>): Promise<T> {
  let failure: unknown
  for (const s of sources) {
    try {
      return await ask(s)
    } catch (e) {
      failure = e
    }
  }
  throw failure
}

const platformOf = ({ os, architecture, variant }: ConfigFile): Platform => ({ os, architecture, ...(variant === undefined ? {} : { variant }) })

const short = (digest: string): string => digest.slice(7, 19)
