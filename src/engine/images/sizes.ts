/**
 * How large layers are, as Docker counts: the bytes of their files and the texts of their links, each hard-linked file once. It is
 * measured once a layer, after unpacking, and kept in a label of its snapshot.
 */
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerdClient } from '../containerd/index.ts'
import type { Mount } from '../containerd/types.ts'
import { withLease } from './content.ts'

/** Label of a committed snapshot. */
export const LAYER_BYTES_LABEL = 'gantry/layer-bytes'

export class LayerSizes {
  readonly #containerd: ContainerdClient
  readonly #snapshotter: string
  readonly #known = new Map<string, number>()

  constructor(containerd: ContainerdClient, snapshotter: string) {
    this.#containerd = containerd
    this.#snapshotter = snapshotter
  }

  remember(chainId: string, bytes: number): void { this.#known.set(chainId, bytes) }

  /** Bytes of each layer by chain id; 0 for one that is not unpacked here. */
  async of(chains: Iterable<string>): Promise<Map<string, number>> {
    const wanted = new Set(chains)
    wanted.delete('')
    if ([...wanted].some(c => !this.#known.has(c))) await this.#read(wanted)
    return new Map([...wanted].map(c => [c, this.#known.get(c) ?? 0]))
  }

  async #read(wanted: Set<string>): Promise<void> {
    const unmeasured: string[] = []
    for (const s of await this.#containerd.snapshots.list(this.#snapshotter, ['kind==committed'])) {
      if (!wanted.has(s.name) || this.#known.has(s.name)) continue
      const label = s.labels[LAYER_BYTES_LABEL]
      if (label === undefined) unmeasured.push(s.name)
      else this.#known.set(s.name, Number(label))
    }
    for (const name of unmeasured) {
      const bytes = await this.#measure(name)
      this.#known.set(name, bytes)
      await this.#containerd.snapshots.label(this.#snapshotter, name, { [LAYER_BYTES_LABEL]: String(bytes) })
    }
  }

  /** For layers that containerd or the builder made: a view shows where the top layer's own files are. */
  async #measure(name: string): Promise<number> {
    return withLease(this.#containerd, 'measure', async lease => {
      const key = `measure-${lease}`
      const mounts = await this.#containerd.snapshots.view({ snapshotter: this.#snapshotter, key, parent: name }, { lease })
      try {
        const dir = layerDir(mounts)
        return dir === undefined
          ? (await this.#containerd.snapshots.usage(this.#snapshotter, name)).size
          : await measureTree(dir)
      } finally {
        await this.#containerd.snapshots.remove(this.#snapshotter, key)
      }
    })
  }
}

/** Where the top layer of a snapshot's mounts lies alone; undefined where the snapshotter does not keep layers apart. */
export function layerDir(mounts: Mount[]): string | undefined {
  const [m] = mounts
  if (mounts.length !== 1 || m === undefined) return undefined
  const option = (name: string): string | undefined => m.options.find(o => o.startsWith(`${name}=`))?.slice(name.length + 1)
  if (m.type === 'overlay') return option('upperdir') ?? option('lowerdir')?.split(':')[0]
  // overlayfs gives a bind for a lone layer; the native snapshotter for whole copies of all.
  return m.type === 'bind' && m.source.includes('snapshotter.v1.overlayfs') ? m.source : undefined
}

/** Bytes of all that is not a directory below `dir`; links are not followed. */
export async function measureTree(dir: string): Promise<number> {
  let total = 0
  const linked = new Set<number>()
  const waiting = [dir]
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    const files: string[] = []
    for (const e of await readdir(at, { withFileTypes: true })) {
      const path = join(at, e.name)
      if (e.isDirectory()) waiting.push(path)
      else if (e.isFile() || e.isSymbolicLink()) files.push(path)
    }
    for (const s of await Promise.all(files.map(f => lstat(f)))) {
      if (s.nlink > 1) {
        if (linked.has(s.ino)) continue
        linked.add(s.ino)
      }
      total += s.size
    }
  }
  return total
}
