/** Untagging and deleting, with Docker's rules for what is in use (moby, daemon/images/image_delete.go says which conflict beats force). */
import { orAbsent } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageRemoval, RemoveOptions } from '../engine.ts'
import { nameImage, sweepKept } from './assemble.ts'
import type { ImageContext } from './assemble.ts'
import { withLease } from './content.ts'
import { familiar } from './reference.ts'
import { isDigestName, isNamed, KEPT, repositoryOf } from './store.ts'
import type { ImageEntry, ImageRecord, Resolved } from './store.ts'
import { chainIds } from './unpack.ts'

/** Label that keeps a layer for the builder's cache; see build/cache.ts. Its value only says that it is set. */
export const CACHE_ROOT_LABEL = 'containerd.io/gc.root'

/** True for what a user types to mean an image by its id: hex digits that its id begins with. */
function meansId(reference: string, id: string): boolean {
  return reference === id || (/^[0-9a-f]+$/.test(reference) && id.startsWith(reference, 7)) || (reference.startsWith('sha256:') && id.startsWith(reference))
}

const short = (id: string): string => id.replace(/^sha256:/, '').slice(0, 12)

export async function removeImage(x: ImageContext, reference: string, options: RemoveOptions = {}): Promise<ImageRemoval[]> {
  const hit = await x.store.lookup(reference)
  if (hit === undefined) throw new EngineError('not-found', `No such image: ${familiar(reference)}`)
  return new Removal(x, options).remove(reference, hit.record, hit.resolved)
}

class Removal {
  readonly #x: ImageContext
  readonly #options: RemoveOptions
  readonly #done: ImageRemoval[] = []

  constructor(x: ImageContext, options: RemoveOptions) {
    this.#x = x
    this.#options = options
  }

  async remove(reference: string, record: ImageRecord, resolved: Resolved): Promise<ImageRemoval[]> {
    const { force = false } = this.#options
    const { id } = resolved
    const named = await this.#named(id)
    const byName = isNamed(record) && !meansId(reference, id)
    if (byName) {
      const [user] = this.#users(id)
      if (!force && isSingle(named) && user !== undefined) {
        throw new EngineError('conflict',
          `conflict: unable to remove repository reference "${reference}" (must force) - container ${short(user.id)} is using its referenced image ${short(id)}`)
      }
      const gone = [record]
      const repository = repositoryOf(record.name)
      // By name: the list may have been read again meanwhile.
      const siblings = named.filter(r => r.name !== record.name && repositoryOf(r.name) === repository)
      // A repository's digests go with its last tag.
      if (!isDigestName(record) && siblings.every(isDigestName)) gone.push(...siblings)
      if (gone.length < named.length) {
        await this.#untag(gone, id)
        return this.#done
      }
    } else if (isSingle(named)) {
      const conflict = await this.#conflict(id, !force, true)
      if (conflict !== undefined) throw conflict.error
    }
    await this.#delete(id, force, byName)
    await sweepKept(this.#x)
    return this.#done
  }

  async #named(id: string): Promise<ImageRecord[]> {
    return (await this.#x.store.recordsOf(id)).filter(isNamed).sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  #users(id: string): { id: string; running: boolean }[] {
    const users = new Map(this.#x.users().filter(u => u.imageId === id).map(u => [u.id, u.running]))
    for (const u of this.#options.users?.(id) ?? []) users.set(u.id, u.running || users.get(u.id) === true)
    return [...users].map(([user, running]) => ({ id: user, running }))
  }

  async #untag(records: ImageRecord[], id: string): Promise<void> {
    for (const r of records) {
      await this.#x.store.delete(r.name, false)
      this.#done.push({ untagged: familiar(r.name), id })
    }
  }

  /** `soft`: those that force overcomes count too. `named`: names are none (the only one goes as well). */
  async #conflict(id: string, soft: boolean, named: boolean): Promise<{ error: EngineError; used: boolean } | undefined> {
    const refuse = (forcible: boolean, used: boolean, why: string) => ({
      used, error: new EngineError('conflict', `conflict: unable to delete ${short(id)} (${forcible ? 'must be' : 'cannot be'} forced) - ${why}`),
    })
    if (this.#x.parents.children(id).length > 0) return refuse(false, false, 'image has dependent child images')
    const users = this.#users(id)
    const running = users.find(u => u.running)
    if (running !== undefined) return refuse(false, true, `image is being used by running container ${short(running.id)}`)
    if (!soft) return undefined
    if (!named && (await this.#named(id)).length > 0) return refuse(true, false, 'image is referenced in multiple repositories')
    if (users.length > 0) return refuse(true, true, `image is being used by stopped container ${short(users[0]!.id)}`)
    return undefined
  }

  /**
   * Deletes an image and, unless told not to, its untagged parents. `untagging`: the user named a tag, which goes in any case, and
   * the image only if nothing stands against it.
   */
  async #delete(id: string, force: boolean, untagging: boolean): Promise<void> {
    const entry = (await this.#x.store.entries()).get(id)
    if (entry === undefined) return
    const named = await this.#named(id)
    const conflict = await this.#conflict(id, !force, untagging || isSingle(named))
    if (conflict !== undefined) {
      if (!untagging) throw conflict.error
      await withLease(this.#x.containerd, 'remove', async lease => {
        await this.#untag(named, id)
        await nameImage(this.#x, [], entry.resolved.target, lease)
      })
      return
    }
    for (let at: ImageEntry | undefined = entry; at !== undefined;) {
      const parent = this.#x.parents.get(at.resolved.id)
      await this.#drop(at)
      if (this.#options.noPrune === true || parent === undefined) return
      at = (await this.#x.store.entries()).get(parent)
      if (at !== undefined && ((await this.#named(parent)).length > 0 || await this.#conflict(parent, true, true) !== undefined)) return
    }
  }

  /** Lets go of one image, and says which of its layers went with it. */
  async #drop({ resolved, records }: ImageEntry): Promise<void> {
    const x = this.#x
    const { id } = resolved
    await withLease(x.containerd, 'remove', async lease => {
      for (const r of records.filter(isNamed).sort((a, b) => (a.name < b.name ? -1 : 1))) this.#done.push({ untagged: familiar(r.name), id })
      // Containers made from it must be able to start again: a hidden record stays for them.
      if (x.users().some(u => u.imageId === id)) await x.store.put(`${KEPT}${resolved.target.digest}`, resolved.target, { taggedAtMs: Date.now(), origin: 'local' }, lease)
      else await releaseCache(x, resolved)
    })
    const gone = records.filter(r => !r.name.startsWith(KEPT))
    for (const [i, r] of gone.entries()) await x.store.delete(r.name, i === gone.length - 1)
    await x.parents.delete([id])
    this.#done.push({ deletedImage: id })
    const used = new Set([...(await x.store.entries()).values()].flatMap(e => chainIds(e.resolved.config.rootfs.diff_ids)))
    for (const chain of chainIds(resolved.config.rootfs.diff_ids).reverse()) if (!used.has(chain)) this.#done.push({ deletedLayer: chain })
  }
}

/** One tag, with or without digests of the same repository; or digests of one repository; or nothing. */
function isSingle(named: ImageRecord[]): boolean {
  return named.filter(r => !isDigestName(r)).length <= 1 && new Set(named.map(r => repositoryOf(r.name))).size <= 1
}

/** The layers of a deleted image need not stay for the build cache. */
async function releaseCache(x: ImageContext, resolved: Resolved): Promise<void> {
  await Promise.all(resolved.manifest.layers.map(async l => {
    const info = await orAbsent(x.containerd.content.info(l.digest))
    if (info?.labels[CACHE_ROOT_LABEL] !== undefined) await x.containerd.content.label(l.digest, { [CACHE_ROOT_LABEL]: '' })
  }))
}
