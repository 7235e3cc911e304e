/** Layers of images that `cacheFrom` names: an image whose history begins as this build's does may give the next step's layer. */
import type { ImageContext } from '../images/assemble.ts'
import type { ConfigFile, Descriptor } from '../images/media-types.ts'
import { chainId } from '../images/unpack.ts'
import type { CachedStep } from './cache.ts'
import type { BuildLease } from './lease.ts'

export interface ImportedImage { config: ConfigFile; layers: Descriptor[] }

/**
 * The step that follows `stage` in one of the images, if it is called `createdBy` there. Docker's rule: same texts and same files so far, and
 * the same text now.
 */
export async function importedStep(
  x: ImageContext, images: ImportedImage[], stage: { config: ConfigFile; chainId: string }, createdBy: string, lease: BuildLease,
): Promise<CachedStep | undefined> {
  const before = stage.config.history ?? []
  const diffs = stage.config.rootfs.diff_ids
  for (const { config, layers } of images) {
    const history = config.history ?? []
    const next = history[before.length]
    if (next === undefined || next.created_by !== createdBy) continue
    if (!before.every((h, n) => h.created_by === history[n]!.created_by) || !diffs.every((d, n) => d === config.rootfs.diff_ids[n])) continue
    const created = next.created ?? new Date(0).toISOString()
    if (next.empty_layer === true) return { created }
    const diffId = config.rootfs.diff_ids[diffs.length]
    const descriptor = layers[diffs.length]
    if (diffId === undefined || descriptor === undefined) continue
    const chain = chainId(stage.chainId, diffId)
    if (!await x.unpacker.exists(chain)) continue
    lease.hold({ id: chain, type: `snapshots/${x.snapshotter}` }, { id: descriptor.digest, type: 'content' })
    return { created, layer: { descriptor, diffId, chainId: chain } }
  }
  return undefined
}
