/** Root file systems as images of one layer. */
import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { decompress } from '../archive/compression.ts'
import { EngineError } from '../engine.ts'
import type { ImageConfig, ImageInfo, ImportOptions } from '../engine.ts'
import { nameImage, writeImage } from './assemble.ts'
import type { ImageContext } from './assemble.ts'
import { ingestStream, withLease } from './content.ts'
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from './media-types.ts'
import type { ConfigFile, Descriptor, RuntimeConfig } from './media-types.ts'
import { parsePlatform } from './platform.ts'
import { formatReference, parseReference } from './reference.ts'

/** Docker's form of the engine's configuration fields. */
function runtimeConfig(c: Partial<ImageConfig>): RuntimeConfig {
  const set = (list: string[] | undefined): Record<string, object> | undefined => list && Object.fromEntries(list.map(k => [k, {}]))
  const out: RuntimeConfig = {
    User: c.user, ExposedPorts: set(c.exposedPorts), Env: c.env, Entrypoint: c.entrypoint, Cmd: c.cmd, Volumes: set(c.volumes),
    WorkingDir: c.workingDir, Labels: c.labels, StopSignal: c.stopSignal,
  }
  return Object.fromEntries(Object.entries(out).filter(([, v]) => v !== undefined && v !== ''))
}

/** A root file system (tar, plain or compressed) as an image of one layer; untagged without a reference. */
export async function importRootfs(
  x: ImageContext, tar: Readable, reference: string | undefined, c: Partial<ImageConfig> = {}, options: ImportOptions = {},
): Promise<ImageInfo> {
  const names = reference === undefined ? [] : [formatReference(parseReference(reference))]
  const { os, architecture, variant } = options.platform === undefined ? x.platform : parsePlatform(options.platform)
  return withLease(x.containerd, 'import', async lease => {
    const { stream } = await decompress(tar)
    // Kept plain, as the layers of builds are: packing takes several times as long as all the rest.
    const blob = await ingestStream(x.containerd, `import-${randomBytes(8).toString('hex')}`, stream, lease)
    if (blob.size === 0) throw new EngineError('invalid', 'nothing to import: the archive is empty')
    const diffId = blob.digest
    const layer: Descriptor = { mediaType: OCI_LAYER, ...blob }
    const chain = await x.unpacker.layer('', diffId, layer, Promise.resolve(), lease)
    const created = new Date().toISOString()
    const config: ConfigFile = {
      created, architecture, os, ...(variant === undefined ? {} : { variant }),
      config: options.runtimeConfig ?? runtimeConfig(c), rootfs: { type: 'layers', diff_ids: [diffId] },
      history: [{ created, comment: options.comment ?? 'Imported from -' }],
    }
    const target = await writeImage(x, Buffer.from(JSON.stringify(config)), { config: OCI_CONFIG, manifest: OCI_MANIFEST }, [layer], chain, lease)
    return nameImage(x, names, target, lease, { keepReplaced: options.keepReplaced === true })
  })
}
