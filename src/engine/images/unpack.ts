/** Layers into snapshots. The names of committed snapshots are the chain ids of the image specification. */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, hasCode, orAbsent } from '../containerd/index.ts'
import type { ContainerdClient } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import { OCI_LAYER } from './media-types.ts'
import type { Descriptor } from './media-types.ts'
import type { LayerExtractor } from './extract.ts'
import { LAYER_BYTES_LABEL, layerDir, measureTree } from './sizes.ts'
import type { LayerSizes } from './sizes.ts'
import { checkSpace } from './space.ts'

/** Label of a compressed layer's blob: bytes of the plain one, whose digest containerd's own label has. */
export const PLAIN_BYTES_LABEL = 'gantry/plain-bytes'

/** chainID(L0) = diffID(L0); chainID(L0…Ln) = sha256(chainID(L0…Ln-1) + ' ' + diffID(Ln)). '' for no layer. */
export function chainId(parent: string, diffId: string): string {
  return parent === '' ? diffId : `sha256:${createHash('sha256').update(`${parent} ${diffId}`).digest('hex')}`
}

export function chainIds(diffIds: string[]): string[] {
  const out: string[] = []
  for (const d of diffIds) out.push(chainId(out.at(-1) ?? '', d))
  return out
}

const SPACE_CHECK_MS = 250
/** Begins the keys of snapshots that layers are unpacked into. */
const EXTRACTION = 'extract-'

/** Removes what an engine killed in the middle of unpacking left: the lease of a pull, which resumes, would hold it. For the start only. */
export async function clearExtractions(c: ContainerdClient, snapshotter: string): Promise<void> {
  const left = (await c.snapshots.list(snapshotter, ['kind==active'])).filter(s => s.name.startsWith(EXTRACTION))
  await Promise.all(left.map(s => c.snapshots.remove(snapshotter, s.name).catch((e: unknown) => { if (!hasCode(e, Code.notFound)) throw e })))
}

export class Unpacker {
  readonly #containerd: ContainerdClient
  readonly #snapshotter: string
  readonly #running = new Map<string, Promise<void>>()

  readonly #sizes: LayerSizes
  readonly #spoolDir: string

  /** `spoolDir`: any folder on the disk of the images. */
  constructor(containerd: ContainerdClient, snapshotter: string, sizes: LayerSizes, spoolDir: string) {
    this.#containerd = containerd
    this.#snapshotter = snapshotter
    this.#sizes = sizes
    this.#spoolDir = spoolDir
  }

  /**
   * Makes the snapshot of `parent` plus one layer; resolves with its name. The blob is only needed if the snapshot is not there:
   * `blob` is awaited then, and gives the layer unpacked if that was done on its way. Rejects with `failed` if the layer is not what
   * its diff id says.
   */
  async layer(parent: string, diffId: string, descriptor: Descriptor, blob: Promise<LayerExtractor | void>, lease: string): Promise<string> {
    const name = chainId(parent, diffId)
    for (;;) {
      const running = this.#running.get(name)
      if (running === undefined) break
      await running.catch(() => undefined)
    }
    if (await this.hold(name, lease)) return name
    const work = blob.then(extractor => this.#apply(parent, name, diffId, descriptor, extractor ?? undefined, lease))
      .finally(() => { this.#running.delete(name) })
    this.#running.set(name, work)
    await work
    return name
  }

  /** Puts an existing snapshot under the lease; false if there is none. */
  async hold(name: string, lease: string): Promise<boolean> {
    if (await orAbsent(this.#containerd.snapshots.stat(this.#snapshotter, name)) === undefined) return false
    await this.#containerd.leases.addResource(lease, { id: name, type: `snapshots/${this.#snapshotter}` })
    // It could have been collected before the lease held it.
    return await orAbsent(this.#containerd.snapshots.stat(this.#snapshotter, name)) !== undefined
  }

  async exists(name: string): Promise<boolean> {
    return name === '' || await orAbsent(this.#containerd.snapshots.stat(this.#snapshotter, name)) !== undefined
  }

  /** Stops an unpacking that is about to fill the disk: a bomb of some KB could. */
  async #guarded<T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const stop = new AbortController()
    let full: Error | undefined
    // The kernel tells nobody that a disk fills up, so it is asked.
    const timer = setInterval(() => {
      checkSpace(this.#spoolDir, what).catch((e: unknown) => {
        full = e as Error
        stop.abort()
      })
    }, SPACE_CHECK_MS)
    try {
      return await work(stop.signal)
    } catch (e) {
      throw full ?? e
    } finally {
      clearInterval(timer)
    }
  }

  async #apply(parent: string, name: string, diffId: string, descriptor: Descriptor, extractor: LayerExtractor | undefined, lease: string): Promise<void> {
    const c = this.#containerd
    const snapshotter = this.#snapshotter
    const extracted = await extractor?.layer
    // The form is said exactly: containerd would otherwise look for a compression that nobody announced.
    const form = /[.+](gzip|zstd)$/.exec(descriptor.mediaType)?.[1] ?? ''
    const tar = { mediaType: form === '' ? OCI_LAYER : `${OCI_LAYER}+${form}`, digest: descriptor.digest, size: descriptor.size }
    const wrong = (digest: string): EngineError => new EngineError('failed', `layer ${descriptor.digest} unpacks to ${digest}, but its image says ${diffId}`)
    if (extracted !== undefined && extracted.diffId !== diffId) throw wrong(extracted.diffId)
    const labels: Record<string, string> = { 'containerd.io/snapshot.ref': name }
    for (const [k, v] of Object.entries(descriptor.annotations ?? {})) if (k.startsWith('containerd.io/snapshot/')) labels[k] = v
    for (let attempt = 1; ; attempt++) {
      const key = `${EXTRACTION}${randomBytes(6).toString('hex')} ${name}`
      let mounts
      try {
        mounts = await c.snapshots.prepare({ snapshotter, key, parent, labels }, { lease })
      } catch (e) {
        // A remote snapshotter's way to say that it has it, or another client at the same work.
        if (hasCode(e, Code.alreadyExists) && (await this.exists(name))) return
        if (!hasCode(e, Code.alreadyExists) || attempt === 3) throw e
        await sleep(50 * attempt)
        continue
      }
      try {
        const dir = layerDir(mounts)
        let plainBytes, bytes: number | undefined
        if (extracted !== undefined && dir !== undefined) {
          await extractor!.moveTo(dir, extracted)
          plainBytes = extracted.plainBytes
          bytes = extracted.fileBytes
        } else {
          const applied = await this.#guarded(`layer ${descriptor.digest}`, signal => c.diff.apply(tar, mounts, { lease, signal }))
          if (applied.digest !== diffId) throw wrong(applied.digest)
          plainBytes = applied.size
          bytes = dir === undefined ? undefined : await measureTree(dir)
        }
        if (bytes !== undefined) {
          labels[LAYER_BYTES_LABEL] = String(bytes)
          this.#sizes.remember(name, bytes)
        }
        await Promise.all([
          c.content.label(descriptor.digest, { 'containerd.io/uncompressed': diffId, ...(form === '' ? {} : { [PLAIN_BYTES_LABEL]: String(plainBytes) }) }, { lease }),
          c.snapshots.commit({ snapshotter, key, name, labels }, { lease }),
        ])
      } catch (e) {
        await c.snapshots.remove(snapshotter, key).catch(() => undefined)
        if (hasCode(e, Code.alreadyExists)) return
        if (e instanceof EngineError) throw e
        throw new EngineError('failed', `layer ${descriptor.digest} cannot be unpacked: ${(e as Error).message}`)
      }
      return
    }
  }
}
