/** Images into one archive that docker, containerd, podman and skopeo read: OCI layout plus docker's manifest.json. */
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { Pack } from 'tar-stream'
import { decompress } from '../archive/compression.ts'
import { EngineError } from '../engine.ts'
import type { ImageContext } from './assemble.ts'
import { blobStream, sha256, withLease } from './content.ts'
import { OCI_LAYER } from './media-types.ts'
import type { Descriptor, Manifest } from './media-types.ts'
import { familiar, formatReference, parseReference } from './reference.ts'
import { repositoryOf } from './store.ts'
import type { Resolved } from './store.ts'
import { PLAIN_BYTES_LABEL } from './unpack.ts'

/** The archive as a stream; blobs go straight from the content store. Rejects with `not-found` before the first byte. */
export async function saveArchive(x: ImageContext, references: string[]): Promise<Readable> {
  const chosen = new Map<string, { resolved: Resolved; names: Set<string> }>()
  for (const reference of references) {
    const hit = await x.store.lookup(reference)
    if (hit === undefined) throw new EngineError('not-found', `No such image: ${reference}`)
    const entry = chosen.get(hit.resolved.id) ?? { resolved: hit.resolved, names: new Set<string>() }
    if (!/^(sha256:)?[0-9a-f]{4,64}$/.test(reference) || x.store.record(formatReference(parseReference(reference))) !== undefined) {
      if (!hit.record.name.includes('@')) entry.names.add(hit.record.name)
    }
    chosen.set(hit.resolved.id, entry)
  }
  const tar = pack()
  // A lease keeps the blobs although somebody may remove the image while it is being read.
  withLease(x.containerd, 'save', async lease => {
    for (const { resolved } of chosen.values()) {
      await x.containerd.leases.addResource(lease, { id: resolved.manifestDescriptor.digest, type: 'content' })
    }
    await writeArchive(x, tar, [...chosen.values()])
  }).catch((e: unknown) => { tar.destroy(e as Error) })
  // A plain Readable, as tar-stream's has no asynchronous iteration of its own error rules.
  return Readable.from(tar as AsyncIterable<Buffer>, { objectMode: false, highWaterMark: 256 * 1024 })
}

/** An image in the form the archive has it: every layer as all programs can read it. */
interface Shown {
  id: string
  names: Set<string>
  config: Descriptor
  manifest: { descriptor: Descriptor; bytes: Buffer }
  /** `plain`: the blob is to be decompressed. */
  layers: { descriptor: Descriptor; blob: string; plain: boolean }[]
}

/** Layers in zstd, which older programs cannot read, go as plain tars, if their size is known. */
async function show(x: ImageContext, { resolved, names }: { resolved: Resolved; names: Set<string> }): Promise<Shown> {
  const layers = await Promise.all(resolved.manifest.layers.map(async (descriptor, i) => {
    const { labels } = await x.containerd.content.info(descriptor.digest)
    const size = Number(labels[PLAIN_BYTES_LABEL] ?? 0)
    if (!descriptor.mediaType.endsWith('+zstd') || size === 0) return { descriptor, blob: descriptor.digest, plain: false }
    return { descriptor: { mediaType: OCI_LAYER, digest: resolved.config.rootfs.diff_ids[i]!, size }, blob: descriptor.digest, plain: true }
  }))
  const same = layers.every(l => !l.plain)
  const bytes = same
    ? await x.containerd.content.readAll(resolved.manifestDescriptor.digest)
    : Buffer.from(JSON.stringify({ ...resolved.manifest, layers: layers.map(l => l.descriptor) } satisfies Manifest))
  const descriptor = { mediaType: resolved.manifestDescriptor.mediaType, digest: sha256(bytes), size: bytes.length }
  return { id: resolved.id, names, config: resolved.manifest.config, layers, manifest: { descriptor, bytes } }
}

async function writeArchive(x: ImageContext, tar: Pack, chosen: { resolved: Resolved; names: Set<string> }[]): Promise<void> {
  const images = await Promise.all(chosen.map(c => show(x, c)))
  const written = new Set<string>()
  const text = (name: string, value: unknown): void => { tar.entry({ name, mode: 0o644 }, JSON.stringify(value)) }
  const blob = async (d: Descriptor, open: () => Promise<AsyncIterable<Buffer>>): Promise<void> => {
    if (written.has(d.digest)) return
    written.add(d.digest)
    const entry = tar.entry({ name: `blobs/sha256/${d.digest.slice(7)}`, size: d.size, mode: 0o644 })
    for await (const chunk of await open()) {
      if (!entry.write(chunk)) await once(entry, 'drain')
    }
    entry.end(undefined)
  }
  tar.entry({ name: 'blobs/', type: 'directory', mode: 0o755 })
  tar.entry({ name: 'blobs/sha256/', type: 'directory', mode: 0o755 })
  const stored = (digest: string): Readable => blobStream(x.containerd, digest)
  for (const { layers, config, manifest } of images) {
    for (const l of layers) await blob(l.descriptor, async () => (l.plain ? (await decompress(stored(l.blob))).stream : stored(l.blob)))
    await blob(config, () => Promise.resolve(stored(config.digest)))
    await blob(manifest.descriptor, () => Promise.resolve(Readable.from([manifest.bytes])))
  }
  text('oci-layout', { imageLayoutVersion: '1.0.0' })
  text('index.json', {
    schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: images.flatMap(({ manifest, names }) => {
      const base = manifest.descriptor
      return names.size === 0 ? [base] : [...names].map(name => ({
        ...base, annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1) },
      }))
    }),
  })
  text('manifest.json', images.map(({ id, names, layers }) => ({
    Config: `blobs/sha256/${id.slice(7)}`, RepoTags: [...names].map(familiar), Layers: layers.map(l => `blobs/sha256/${l.descriptor.digest.slice(7)}`),
  })))
  const repositories: Record<string, Record<string, string>> = {}
  for (const { id, names } of images) {
    for (const n of names) (repositories[familiar(repositoryOf(n))] ??= {})[n.slice(n.lastIndexOf(':') + 1)] = id.slice(7)
  }
  if (Object.keys(repositories).length > 0) text('repositories', repositories)
  tar.finalize()
}
