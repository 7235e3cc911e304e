/** Pulling: find who has the image, bring its blobs in parallel, unpack each layer as soon as it is there. */
import { EngineError } from '../engine.ts'
import type { ImageInfo, OnProgress, PeerSource, RegistryAuth } from '../engine.ts'
import { Repository } from '../registry/client.ts'
import { Peer } from '../registry/peer.ts'
import type { FetchedManifest, Source } from '../registry/source.ts'
import { checkConfig, checkIndex, checkManifest, configLabels, indexLabels, manifestLabels, nameImage } from './assemble.ts'
import type { ImageContext } from './assemble.ts'
import { ingest, MAX_DOCUMENT_BYTES, parseDocument, putDocument, readDocument, withPullLease } from './content.ts'
import { isIndexType, OCI_CONFIG } from './media-types.ts'
import type { ConfigFile, Descriptor, Index, Manifest } from './media-types.ts'
import { choosePlatform } from './platform.ts'
import { familiar, formatReference, parseReference } from './reference.ts'
import type { Reference } from './reference.ts'
import { toInfo } from './store.ts'
import type { Tagging } from './store.ts'

export interface PullOptions {
  auth?: RegistryAuth
  onProgress?: OnProgress
  peersOnly?: boolean
  insecure?: boolean
  stallMs?: number
  signal?: AbortSignal
}

/** Blobs in flight at once, over all pulls: enough to fill a line, few enough to keep memory flat. */
const MAX_DOWNLOADS = 4
const PROGRESS_EVERY_MS = 100

interface Found extends FetchedManifest, Tagging { sources: Source[]; fromRegistry: boolean }

export class Puller {
  readonly #x: ImageContext
  readonly #pulls = new Map<string, Promise<ImageInfo>>()
  readonly #blobs = new Map<string, Promise<void>>()
  #active = 0
  readonly #queue: (() => void)[] = []
  peers: PeerSource | undefined

  constructor(x: ImageContext) {
    this.#x = x
  }

  /** Pulls of one reference at a time share the work (and the first one's credentials do not leak: others wait, then ask again). */
  async pull(reference: string, options: PullOptions = {}): Promise<ImageInfo> {
    const parsed = parseReference(reference)
    const full = formatReference(parsed)
    const credentials = JSON.stringify(options.auth ?? {})
    const key = `${full} ${options.peersOnly === true} ${credentials}`
    const running = this.#pulls.get(key)
    if (running !== undefined) return running
    const work = this.#pull(parsed, full, options).finally(() => { this.#pulls.delete(key) })
    this.#pulls.set(key, work)
    return work
  }

  async #pull(parsed: Reference, full: string, options: PullOptions): Promise<ImageInfo> {
    const report = options.onProgress ?? (() => undefined)
    const wanted = parsed.digest ?? parsed.tag ?? 'latest'
    report({ id: wanted, status: `Pulling from ${familiar(`${parsed.host}/${parsed.path}`)}` })
    const local = this.#x.store.record(full)
    let found: Found
    try {
      found = await this.#find(parsed, full, wanted, options)
    } catch (e) {
      // What is here is still right when nobody could name a newer one: a node must keep working alone.
      const here = await this.#usable(full)
      if (here === undefined || !(e instanceof EngineError) || e.code === 'failed') throw e
      report({ status: `Status: Image is kept as it is here for ${familiar(full)} (${e.message})` })
      return here
    }
    if (local !== undefined && (local.targetDigest === found.digest || (!found.fromRegistry && local.taggedAtMs >= found.taggedAtMs))) {
      const here = await this.#usable(full)
      if (here !== undefined) {
        report({ status: `Digest: ${local.targetDigest}` })
        report({ status: `Status: Image is up to date for ${familiar(full)}` })
        return here
      }
    }
    // Half a layer is worth keeping when the line broke, not when the content is wrong.
    const passing = (e: unknown): boolean => e instanceof EngineError && e.code === 'unavailable'
    const info = await withPullLease(this.#x.containerd, full, passing, lease => this.#bring(parsed, full, found, lease, options))
    report({ status: `Digest: ${found.digest}` })
    report({ status: `Status: Downloaded newer image for ${familiar(full)}` })
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
      const sources = [...equal.slice(start), ...equal.slice(0, start)]
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
      if (e instanceof EngineError && e.code === 'not-found') throw new EngineError('not-found', `${familiar(full)}: ${e.message}`)
      throw e
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

  #registry(parsed: Reference, options: PullOptions): Repository {
    return new Repository(parsed.host, parsed.path, {
      auth: options.auth, insecure: options.insecure, ...(options.stallMs === undefined ? {} : { stallMs: options.stallMs }),
    })
  }

  async #bring(parsed: Reference, full: string, found: Found, lease: string, options: PullOptions): Promise<ImageInfo> {
    const x = this.#x
    const origin: Record<string, string> = found.fromRegistry ? { [`containerd.io/distribution.source.${parsed.host}`]: parsed.path } : {}
    let manifestBytes = found.bytes
    let manifestDescriptor: Descriptor = { mediaType: found.mediaType, digest: found.digest, size: found.bytes.length }
    const target = manifestDescriptor
    if (isIndexType(found.mediaType)) {
      const index = parseDocument<Index>(found.bytes, found.digest)
      checkIndex(index, found.digest)
      const chosen = choosePlatform(index.manifests, x.platform)
      if (chosen === undefined) {
        throw new EngineError('not-found', `no matching manifest for ${x.platform.os}/${x.platform.architecture} in the manifest list of ${familiar(full)}`)
      }
      await putDocument(x.containerd, found.mediaType, found.bytes, { ...indexLabels(index), ...origin }, lease)
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
    for (const l of manifest.layers) report({ id: short(l.digest), status: 'Pulling fs layer' })
    const fetches = manifest.layers.map(l => this.#blob('layer', l, found.sources, lease, origin, signal, report))
    // A failure of one must not surface as unhandled while another is waited for.
    for (const f of fetches) f.catch(() => { stop.abort() })
    try {
      await this.#blob('config', manifest.config, found.sources, lease, origin, signal, () => undefined)
      const config = await readDocument<ConfigFile>(x.containerd, manifest.config.digest)
      checkConfig(config, manifest)
      if (manifest.config.mediaType === OCI_CONFIG || config.rootfs.type === 'layers') {
        let chain = ''
        for (const [i, layer] of manifest.layers.entries()) {
          const id = short(layer.digest)
          const ready = fetches[i]!.then(() => { report({ id, status: 'Extracting' }) })
          chain = await x.unpacker.layer(chain, config.rootfs.diff_ids[i]!, layer, ready, lease)
          await fetches[i]!
          report({ id, status: 'Pull complete' })
        }
        await x.containerd.content.label(manifest.config.digest, configLabels(x.snapshotter, chain), { lease })
      }
    } catch (e) {
      stop.abort()
      const failures = (await Promise.allSettled(fetches)).filter(r => r.status === 'rejected').map(r => r.reason as unknown)
      // An aborted sibling is only the consequence.
      throw failures.find(f => f instanceof EngineError) ?? e
    }
    return nameImage(x, [full], target, lease, found)
  }

  async #blob(
    kind: string, descriptor: Descriptor, sources: Source[], lease: string, labels: Record<string, string>, signal: AbortSignal, report: OnProgress,
  ): Promise<void> {
    // One transfer per digest: whoever waited finds the blob present, and his lease takes hold of it.
    for (let running = this.#blobs.get(descriptor.digest); running !== undefined; running = this.#blobs.get(descriptor.digest)) {
      await running.catch(() => undefined)
    }
    const work = this.#transfer(kind, descriptor, sources, lease, labels, signal, report).finally(() => { this.#blobs.delete(descriptor.digest) })
    this.#blobs.set(descriptor.digest, work)
    return work
  }

  async #transfer(
    kind: string, descriptor: Descriptor, sources: Source[], lease: string, labels: Record<string, string>, signal: AbortSignal, report: OnProgress,
  ): Promise<void> {
    const id = short(descriptor.digest)
    await this.#enter()
    try {
      const left = [...sources]
      let reportedAt = 0
      let transferred = false
      for (;;) {
        let used = 0
        try {
          await ingest(this.#x.containerd, {
            ref: `${kind}-${descriptor.digest}`, digest: descriptor.digest, size: descriptor.size, labels, lease, signal,
            onBytes: n => {
              const now = Date.now()
              if (now - reportedAt < PROGRESS_EVERY_MS) return
              reportedAt = now
              report({ id, status: 'Downloading', currentBytes: n, totalBytes: descriptor.size })
            },
          }, async offset => {
            transferred = true
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
          report({ id, status: transferred ? 'Download complete' : 'Already exists' })
          return
        } catch (e) {
          // A source that gives wrong bytes is not asked again; another may be honest.
          if (!(e instanceof EngineError) || signal.aborted || left.length === 1) throw e
          left.splice(used, 1)
        }
      }
    } finally {
      this.#leave()
    }
  }

  async #enter(): Promise<void> {
    if (this.#active < MAX_DOWNLOADS) {
      this.#active++
      return
    }
    await new Promise<void>(resolve => this.#queue.push(resolve))
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

const short = (digest: string): string => digest.slice(7, 19)
