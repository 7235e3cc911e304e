/** Pushing: blobs the registry lacks (mounted from a sibling repository where possible), then the manifest. */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { decompress } from '../archive/compression.ts'
import { gzip } from '../archive/gzip.ts'
import { EngineError } from '../engine.ts'
import type { PushOptions } from '../engine.ts'
import type { Repository } from '../registry/client.ts'
import type { ImageContext } from './assemble.ts'
import { blobStream, sha256, withLease } from './content.ts'
import { DOCKER_CONFIG, DOCKER_LAYER_GZIP, isGzipLayer, OCI_LAYER } from './media-types.ts'
import type { Descriptor, Manifest } from './media-types.ts'
import { formatReference, parseReference } from './reference.ts'
import { PLAIN_BYTES_LABEL } from './unpack.ts'

const MAX_UPLOADS = 5
const MAX_ATTEMPTS = 5
/** Label of a layer's blob: digest and size of it as gzip, as pushed. The same bytes give the same again. */
const GZIP_LABEL = 'gantry/gzip'

/** Pushes the image of this machine's platform; resolves with the digest of what the tag now names. */
export async function pushImage(x: ImageContext, reference: string, options: PushOptions = {}): Promise<{ digest: string; size: number }> {
  const hit = await x.store.lookup(reference)
  if (hit === undefined) throw new EngineError('not-found', `An image does not exist locally with the tag: ${reference}`)
  const parsed = parseReference(hit.record.name)
  const report = options.onProgress ?? (() => undefined)
  const { manifest, manifestDescriptor, config } = hit.resolved
  report({ status: `The push refers to repository [${parsed.host}/${parsed.path}]` })
  const push = new Push(x, x.registries.repository(parsed.host, parsed.path, options), parsed, options)

  return withLease(x.containerd, 'push', async lease => {
    await x.containerd.leases.addResource(lease, { id: manifestDescriptor.digest, type: 'content' })
    // By layer as users know it, the top one first; one blob may be several layers.
    const named = manifest.layers.map((layer, i) => ({ layer, id: short(config.rootfs.diff_ids[i] ?? layer.digest) }))
    const waiting = [...new Map(named.map(n => [n.layer.digest, n])).values()].reverse()
    for (const { id } of waiting) report({ id, status: 'Preparing' })
    for (const { id } of waiting.slice(MAX_UPLOADS)) report({ id, status: 'Waiting' })
    const pushed = new Map<string, Descriptor>()
    const configSent = push.blob(manifest.config, () => undefined)
    configSent.catch(() => undefined)
    await Promise.all(Array.from({ length: MAX_UPLOADS }, async () => {
      for (let w = waiting.shift(); w !== undefined; w = waiting.shift()) {
        const { id, layer } = w
        try {
          pushed.set(layer.digest, await push.layer(layer, manifest.config.mediaType === DOCKER_CONFIG, (status, currentBytes, totalBytes) => {
            report({ id, status, ...(currentBytes === undefined ? {} : { currentBytes }), ...(totalBytes === undefined ? {} : { totalBytes }) })
          }))
        } catch (e) {
          waiting.length = 0
          throw e
        }
      }
    }))
    await configSent
    const layers = manifest.layers.map(l => pushed.get(l.digest)!)
    const same = layers.every((l, i) => l.digest === manifest.layers[i]!.digest)
    const bytes = same ? await x.containerd.content.readAll(manifestDescriptor.digest) : Buffer.from(JSON.stringify({ ...manifest, layers } satisfies Manifest))
    const digest = same ? manifestDescriptor.digest : sha256(bytes)
    await push.repository.putManifest(parsed.digest ?? parsed.tag ?? 'latest', manifestDescriptor.mediaType, bytes, options.signal)
    // The registry's digest names what is here, in the form in which it is here.
    if (options.asDocker === true) {
      await x.store.put(formatReference({ host: parsed.host, path: parsed.path, digest }), hit.record.target, { taggedAtMs: Date.now(), origin: 'registry' }, lease)
    }
    report({ status: `${parsed.tag ?? 'latest'}: digest: ${digest} size: ${bytes.length}` })
    return { digest, size: bytes.length }
  })
}

type Say = (status: string, currentBytes?: number, totalBytes?: number) => void

/** The blobs of one push. */
class Push {
  readonly repository: Repository
  readonly #x: ImageContext
  readonly #path: string
  readonly #sourceLabel: string
  readonly #options: PushOptions

  constructor(x: ImageContext, repository: Repository, to: { host: string; path: string }, options: PushOptions) {
    this.#x = x
    this.repository = repository
    this.#path = to.path
    this.#sourceLabel = `containerd.io/distribution.source.${to.host}`
    this.#options = options
  }

  /** Resolves with the layer as the registry has it. */
  async layer(layer: Descriptor, docker: boolean, say: Say): Promise<Descriptor> {
    if (this.#options.asDocker !== true || isGzipLayer(layer.mediaType)) {
      await this.blob(layer, say)
      return layer
    }
    const mediaType = docker ? DOCKER_LAYER_GZIP : `${OCI_LAYER}+gzip`
    const { labels } = await this.#x.containerd.content.info(layer.digest)
    const [digest, size] = labels[GZIP_LABEL]?.split(' ') ?? []
    if (digest !== undefined && await this.#present({ mediaType, digest, size: Number(size) }, labels, say)) {
      await this.#remember(layer.digest, labels)
      return { mediaType, digest, size: Number(size) }
    }
    const made = await this.#attempts(() => this.#compress(layer, Number(labels[PLAIN_BYTES_LABEL] ?? 0) || layer.size, say))
    say('Pushed')
    await this.#remember(layer.digest, { ...labels, [GZIP_LABEL]: `${made.digest} ${made.size}` })
    return { mediaType, ...made }
  }

  async blob(d: Descriptor, say: Say): Promise<void> {
    const { labels } = await this.#x.containerd.content.info(d.digest)
    await this.#attempts(async () => {
      const from = this.#siblings(labels).find(s => s !== this.#path)
      const how = await this.repository.upload(d, () => blobStream(this.#x.containerd, d.digest), {
        ...(from === undefined ? {} : { mountFrom: from }), signal: this.#options.signal, onBytes: n => { say('Pushing', n, d.size) },
      })
      say({ exists: 'Layer already exists', mounted: `Mounted from ${from}`, pushed: 'Pushed' }[how])
    })
    await this.#remember(d.digest, labels)
  }

  /** Whether the registry has it, or could take it from a repository beside. */
  #present(d: Descriptor, labels: Record<string, string>, say: Say): Promise<boolean> {
    return this.#attempts(async () => {
      if (await this.repository.hasBlob(d.digest, this.#options.signal)) {
        say('Layer already exists')
        return true
      }
      const from = this.#siblings(labels).find(s => s !== this.#path)
      if (from === undefined || await this.repository.begin({ digest: d.digest, from }, this.#options.signal) !== 'mounted') return false
      say(`Mounted from ${from}`)
      return true
    })
  }

  async #compress(layer: Descriptor, plainBytes: number, say: Say): Promise<{ digest: string; size: number }> {
    const hash = createHash('sha256')
    let size = 0
    let read = 0
    const { stream: plain } = await decompress(blobStream(this.#x.containerd, layer.digest))
    async function* counted(): AsyncGenerator<Buffer> {
      for await (const chunk of plain as AsyncIterable<Buffer>) {
        read += chunk.length
        yield chunk
      }
    }
    async function* compressed(): AsyncGenerator<Buffer> {
      for await (const chunk of gzip(counted())) {
        hash.update(chunk)
        size += chunk.length
        yield chunk
      }
    }
    let digest: string | undefined
    const end = (): string => { digest ??= `sha256:${hash.digest('hex')}`; return digest }
    try {
      await this.repository.uploadStream(() => Readable.from(compressed(), { objectMode: false, highWaterMark: 256 << 10 }), end, {
        signal: this.#options.signal, onBytes: () => { say('Pushing', read, plainBytes) },
      })
    } finally {
      plain.destroy()
    }
    return { digest: end(), size }
  }

  #siblings(labels: Record<string, string>): string[] {
    return labels[this.#sourceLabel]?.split(',').filter(s => s !== '') ?? []
  }

  /** Notes that the repository has the blob, to mount it from there, and whatever else changed. */
  async #remember(digest: string, labels: Record<string, string>): Promise<void> {
    const siblings = this.#siblings(labels)
    const gzipped: Record<string, string> = labels[GZIP_LABEL] === undefined ? {} : { [GZIP_LABEL]: labels[GZIP_LABEL] }
    if (siblings.includes(this.#path) && gzipped[GZIP_LABEL] === undefined) return
    // Label values are limited: the latest few repositories are enough to mount from.
    const known = siblings.includes(this.#path) ? siblings : [...siblings, this.#path].slice(-8)
    await this.#x.containerd.content.label(digest, { [this.#sourceLabel]: known.join(','), ...gzipped })
  }

  async #attempts<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (e) {
        if (!(e instanceof EngineError) || e.code !== 'unavailable' || attempt === MAX_ATTEMPTS) throw e
        await sleep(200 * 2 ** attempt, undefined, { signal: this.#options.signal })
      }
    }
  }
}

const short = (digest: string): string => digest.slice(7, 19)
