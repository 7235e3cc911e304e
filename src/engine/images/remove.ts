/** Untagging and deleting, with Docker's rules for images that are in use. */
import { orAbsent } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageContext } from './assemble.ts'
import { keepIfUsed, sweepDangling } from './assemble.ts'
import { withLease } from './content.ts'
import { familiar } from './reference.ts'
import { DANGLING } from './store.ts'
import type { Resolved } from './store.ts'

/** Label that keeps a layer for the builder's cache; see build/cache.ts. Its value only says that it is set. */
export const CACHE_ROOT_LABEL = 'containerd.io/gc.root'

export async function removeImage(
  x: ImageContext, reference: string, force = false,
): Promise<{ untagged: string[]; deleted: string[] }> {
  const hit = await x.store.lookup(reference)
  if (hit === undefined) throw new EngineError('not-found', `No such image: ${familiar(reference)}`)
  const { resolved } = hit
  const records = await x.store.recordsOf(resolved.id)
  const named = records.filter(r => !r.name.startsWith(DANGLING))
  const byId = /^(sha256:)?[0-9a-f]{4,64}$/.test(reference) && !named.some(r => familiar(r.name).split(':')[0] === reference)
  const short = resolved.id.slice(7, 19)
  if (byId && named.length > 1 && !force) {
    throw new EngineError('conflict', `conflict: unable to delete ${short} (must be forced) - image is referenced in multiple repositories`)
  }
  const losing = byId ? records : records.filter(r => r.name === hit.record.name)
  const last = losing.length === records.length
  const users = x.users().filter(u => u.imageId === resolved.id)
  if (last && users.length > 0) {
    const running = users.find(u => u.running)
    if (byId && running !== undefined) {
      throw new EngineError('conflict', `conflict: unable to delete ${short} (cannot be forced) - image is being used by running container ${running.id.slice(0, 12)}`)
    }
    if (!force) {
      throw new EngineError('conflict', byId
        ? `conflict: unable to delete ${short} (must be forced) - image is being used by stopped container ${users[0]!.id.slice(0, 12)}`
        : `conflict: unable to remove repository reference "${familiar(reference)}" (must force) - container ${users[0]!.id.slice(0, 12)} is using its referenced image ${short}`)
    }
  }
  const untagged = losing.filter(r => !r.name.startsWith(DANGLING)).map(r => familiar(r.name))
  let deleted = last
  if (last) {
    const kept = await withLease(x.containerd, 'remove', lease => keepIfUsed(x, hit.record.target, losing.length === 1 ? losing[0]!.name : '', lease))
    if (kept && users.length > 0) deleted = false
    else await releaseCache(x, resolved)
  }
  const gone = losing.filter(r => deleted || !r.name.startsWith(DANGLING))
  for (const [i, r] of gone.entries()) await x.store.delete(r.name, i === gone.length - 1)
  await sweepDangling(x)
  return { untagged, deleted: deleted ? [resolved.id] : [] }
}

/** The layers of a deleted image need not stay for the build cache. */
async function releaseCache(x: ImageContext, resolved: Resolved): Promise<void> {
  await Promise.all(resolved.manifest.layers.map(async l => {
    const info = await orAbsent(x.containerd.content.info(l.digest))
    if (info?.labels[CACHE_ROOT_LABEL] !== undefined) await x.containerd.content.label(l.digest, { [CACHE_ROOT_LABEL]: '' })
  }))
}
