/** Images into one archive that docker, containerd, podman and skopeo read: OCI layout plus docker's manifest.json. */
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { Pack } from 'tar-stream'
import { EngineError } from '../engine.ts'
import type { ImageContext } from './assemble.ts'
import { blobStream, withLease } from './content.ts'
import type { Descriptor } from './media-types.ts'
import { familiar, formatReference, parseReference } from './reference.ts'
import type { Resolved } from './store.ts'

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

async function writeArchive(x: ImageContext, tar: Pack, images: { resolved: Resolved; names: Set<string> }[]): Promise<void> {
  const written = new Set<string>()
  const text = (name: string, value: unknown): void => { tar.entry({ name, mode: 0o644 }, JSON.stringify(value)) }
  const blob = async (d: Descriptor): Promise<void> => {
    if (written.has(d.digest)) return
    written.add(d.digest)
    const entry = tar.entry({ name: `blobs/sha256/${d.digest.slice(7)}`, size: d.size, mode: 0o644 })
    for await (const chunk of blobStream(x.containerd, d.digest) as AsyncIterable<Buffer>) {
      if (!entry.write(chunk)) await once(entry, 'drain')
    }
    entry.end(undefined)
  }
  tar.entry({ name: 'blobs/', type: 'directory', mode: 0o755 })
  tar.entry({ name: 'blobs/sha256/', type: 'directory', mode: 0o755 })
  for (const { resolved } of images) {
    for (const layer of resolved.manifest.layers) await blob(layer)
    await blob(resolved.manifest.config)
    await blob(resolved.manifestDescriptor)
  }
  text('oci-layout', { imageLayoutVersion: '1.0.0' })
  text('index.json', {
    schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: images.flatMap(({ resolved, names }) => {
      const { mediaType, digest, size } = resolved.manifestDescriptor
      const base = { mediaType, digest, size }
      return names.size === 0 ? [base] : [...names].map(name => ({
        ...base, annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1) },
      }))
    }),
  })
  text('manifest.json', images.map(({ resolved, names }) => ({
    Config: `blobs/sha256/${resolved.id.slice(7)}`, RepoTags: [...names].map(familiar),
    Layers: resolved.manifest.layers.map(l => `blobs/sha256/${l.digest.slice(7)}`),
  })))
  tar.finalize()
}
