/** A container's changes as a new image on top of the one it was made from. */
import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import type { CommitOptions } from '../engine.ts'
import { nameImage, writeImage } from '../images/assemble.ts'
import type { ImageContext } from '../images/assemble.ts'
import { ingestStream, withLease } from '../images/content.ts'
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from '../images/media-types.ts'
import type { ConfigFile, RuntimeConfig } from '../images/media-types.ts'
import { formatReference, parseReference } from '../images/reference.ts'

/** `layer`: the changes as a tar; undefined if there are none. Resolves with the new image's id. */
export async function commitImage(
  x: ImageContext, imageId: string, containerId: string, layer: Readable | undefined, o: CommitOptions,
): Promise<string> {
  const names = o.tags.map((t) => formatReference(parseReference(t)))
  const from = await x.store.lookup(imageId)
  if (from === undefined) throw new EngineError('not-found', `No such image: ${imageId}`)
  const { resolved } = from
  return withLease(x.containerd, 'commit', async (lease) => {
    await x.containerd.leases.addResource(lease, { id: from.record.targetDigest, type: 'content' })
    const layers = [...resolved.manifest.layers]
    const diffIds = [...resolved.config.rootfs.diff_ids]
    let chain = resolved.chainId
    if (layer !== undefined) {
      const blob = await ingestStream(x.containerd, `commit-${randomBytes(8).toString('hex')}`, layer, lease)
      const descriptor = { mediaType: OCI_LAYER, ...blob }
      chain = await x.unpacker.layer(chain, blob.digest, descriptor, Promise.resolve(), lease)
      layers.push(descriptor)
      diffIds.push(blob.digest)
    }
    const created = new Date().toISOString()
    // What was said of the base's making is not true of this one.
    const { comment: _comment, container_config: _container, ...base } = resolved.config
    const config: ConfigFile = {
      ...base, created, ...(o.author === undefined ? {} : { author: o.author }), config: o.config as RuntimeConfig,
      container: containerId, ...(o.comment === undefined ? {} : { comment: o.comment }),
      ...(o.containerConfig === undefined ? {} : { container_config: o.containerConfig as RuntimeConfig }),
      rootfs: { type: 'layers', diff_ids: diffIds },
      history: [...resolved.config.history ?? [], {
        created, ...(o.createdBy === undefined ? {} : { created_by: o.createdBy }), ...(o.author === undefined ? {} : { author: o.author }),
        ...(o.comment === undefined ? {} : { comment: o.comment }), ...(layer === undefined ? { empty_layer: true } : {}),
      }],
    }
    const target = await writeImage(x, Buffer.from(JSON.stringify(config)), { config: OCI_CONFIG, manifest: OCI_MANIFEST }, layers, chain, lease)
    const { id } = await nameImage(x, names, target, lease, { keepReplaced: true })
    await x.parents.set(id, resolved.id)
    return id
  })
}
