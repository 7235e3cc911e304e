/** Layers into snapshots. The names of committed snapshots are the chain ids of the image specification. */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, hasCode, orAbsent } from '../containerd/index.ts'
import type { ContainerdClient } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { Descriptor } from './media-types.ts'

/** chainID(L0) = diffID(L0); chainID(L0…Ln) = sha256(chainID(L0…Ln-1) + ' ' + diffID(Ln)). '' for no layer. */
export function chainId(parent: string, diffId: string): string {
  return parent === '' ? diffId : `sha256:${createHash('sha256').update(`${parent} ${diffId}`).digest('hex')}`
}

export function chainIds(diffIds: string[]): string[] {
  const out: string[] = []
  for (const d of diffIds) out.push(chainId(out.at(-1) ?? '', d))
  return out
}

export class Unpacker {
  readonly #containerd: ContainerdClient
  readonly #snapshotter: string
  readonly #running = new Map<string, Promise<void>>()

  constructor(containerd: ContainerdClient, snapshotter: string) {
    this.#containerd = containerd
    this.#snapshotter = snapshotter
  }

  /**
   * Makes the snapshot of `parent` plus one layer; resolves with its name. The blob is only needed if the snapshot is not there:
   * `blob` is awaited then. Rejects with `failed` if the layer is not what its diff id says.
   */
  async layer(parent: string, diffId: string, descriptor: Descriptor, blob: Promise<unknown>, lease: string): Promise<string> {
    const name = chainId(parent, diffId)
    for (;;) {
      const running = this.#running.get(name)
      if (running === undefined) break
      await running.catch(() => undefined)
    }
    if (await this.hold(name, lease)) return name
    const work = blob.then(() => this.#apply(parent, name, diffId, descriptor, lease)).finally(() => { this.#running.delete(name) })
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

  async #apply(parent: string, name: string, diffId: string, descriptor: Descriptor, lease: string): Promise<void> {
    const c = this.#containerd
    const snapshotter = this.#snapshotter
    const labels: Record<string, string> = { 'containerd.io/snapshot.ref': name }
    for (const [k, v] of Object.entries(descriptor.annotations ?? {})) if (k.startsWith('containerd.io/snapshot/')) labels[k] = v
    for (let attempt = 1; ; attempt++) {
      const key = `extract-${randomBytes(6).toString('hex')} ${name}`
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
        const { annotations: _, platform: __, urls: ___, ...diff } = descriptor
        const applied = await c.diff.apply(diff, mounts, { lease })
        if (applied.digest !== diffId) {
          throw new EngineError('failed', `layer ${descriptor.digest} unpacks to ${applied.digest}, but its image says ${diffId}`)
        }
        await c.content.label(descriptor.digest, { 'containerd.io/uncompressed': diffId }, { lease })
        await c.snapshots.commit({ snapshotter, key, name, labels }, { lease })
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
