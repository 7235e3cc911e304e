/** The image service: what this machine has, and how it gets and gives images. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerdClient } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageConfig, ImageDetails, ImageInfo, ImageService } from '../engine.ts'
import { Registries } from '../registry/registries.ts'
import type { RegistryOptions } from '../registry/registries.ts'
import { nameImage, sweepKept } from './assemble.ts'
import type { ImageContext, ImageUser } from './assemble.ts'
import { inBulk } from './bulk.ts'
import { removeStaleLeases, withLease } from './content.ts'
import { importRootfs } from './import.ts'
import { loadArchive } from './load.ts'
import type { ConfigFile } from './media-types.ts'
import { Parents } from './parents.ts'
import { hostPlatform } from './platform.ts'
import { Puller } from './pull.ts'
import { pushImage } from './push.ts'
import { familiar, formatReference, parseReference } from './reference.ts'
import { removeImage } from './remove.ts'
import { saveArchive } from './save.ts'
import { PeerServer } from './serve.ts'
import { LayerSizes } from './sizes.ts'
import { ImageStore, isDigestName, isNamed, KEPT, toInfo } from './store.ts'
import type { ImageEntry } from './store.ts'
import { chainIds, clearExtractions, Unpacker } from './unpack.ts'

export interface ImageDeps {
  containerd: ContainerdClient
  /** Default `overlayfs`. */
  snapshotter?: string
  /** A directory of the image service's own; made if absent. */
  dataDir: string
  /** The containers that exist, for refusing to delete what they use. */
  users(): ImageUser[]
  registries?: RegistryOptions
}

/** What a container is made from. */
export interface ImageForContainer {
  /** Docker's image id: the configuration's digest. */
  id: string
  /** Full name it was found by. */
  name: string
  config: ConfigFile
  /** Parent of the container's snapshot; '' for an image without layers. */
  chainId: string
}

export interface EngineImages extends ImageService {
  /** `not-found` if absent. Its snapshots are there when this resolves (unpacked now if they were not). */
  resolve(reference: string): Promise<ImageForContainer>
  /** For the builder. */
  readonly context: ImageContext
  close(): void
}

/** Reads the list of images and clears what a killed engine left; resolves when ready. containerd must be reachable. */
export async function createImageService(deps: ImageDeps): Promise<EngineImages> {
  const { containerd } = deps
  const snapshotter = deps.snapshotter ?? 'overlayfs'
  const spoolDir = join(deps.dataDir, 'spool')
  await mkdir(spoolDir, { recursive: true, mode: 0o700 })
  for (const f of await readdir(spoolDir)) await rm(join(spoolDir, f), { recursive: true, force: true })
  await removeStaleLeases(containerd)
  await clearExtractions(containerd, snapshotter)
  const platform = hostPlatform()
  const store = new ImageStore(containerd, platform)
  await store.start()
  const parents = await Parents.open(join(deps.dataDir, 'parents.json'))
  const sizes = new LayerSizes(containerd, snapshotter)
  const registries = new Registries(deps.registries)
  const x: ImageContext = {
    containerd, snapshotter, platform, store, parents, sizes, registries, spoolDir, users: deps.users,
    unpacker: new Unpacker(containerd, snapshotter, sizes, spoolDir),
  }
  const puller = new Puller(x)
  const server = new PeerServer(x)
  await sweepKept(x)
  const present = await store.entries()
  await parents.sweep(id => present.has(id))

  const visible = (e: ImageEntry): boolean => !e.records.every(r => r.name.startsWith(KEPT))
  const detailsOf = async (entries: ImageEntry[]): Promise<ImageDetails[]> => {
    const chains = entries.map(e => chainIds(e.resolved.config.rootfs.diff_ids))
    const bytes = await sizes.of(chains.flat())
    return entries.map(({ resolved, records }, i) => {
      const named = records.filter(isNamed).sort((a, b) => (a.name < b.name ? -1 : 1))
      const parent = parents.get(resolved.id)
      return {
        id: resolved.id, tags: named.filter(r => !isDigestName(r)).map(r => r.name), repoDigests: named.filter(isDigestName).map(r => r.name),
        ...(parent === undefined ? {} : { parent }), children: parents.children(resolved.id), config: resolved.config,
        chainIds: chains[i]!, layerBytes: chains[i]!.map(c => bytes.get(c) ?? 0),
        taggedAtMs: Math.max(0, ...records.filter(r => !isDigestName(r)).map(r => r.taggedAtMs)),
      }
    })
  }

  const need = async (reference: string) => {
    const hit = await store.lookup(reference)
    if (hit === undefined) throw new EngineError('not-found', `No such image: ${familiar(reference)}`)
    return hit
  }
  return {
    context: x,
    normalize: reference => formatReference(parseReference(reference)),
    list: () => store.list(),
    async find(reference): Promise<ImageInfo | undefined> {
      const hit = await store.lookup(reference).catch((e: unknown) => {
        // A record whose content is gone is as good as absent: a pull brings it back.
        if (e instanceof EngineError && e.code === 'not-found') return undefined
        throw e
      })
      return hit && toInfo(hit.resolved, await store.recordsOf(hit.resolved.id))
    },
    config: async reference => toImageConfig((await need(reference)).resolved.config),
    async resolve(reference): Promise<ImageForContainer> {
      const { record, resolved } = await need(reference)
      if (!await x.unpacker.exists(resolved.chainId)) {
        await withLease(containerd, 'unpack', async lease => {
          let chain = ''
          for (const [i, layer] of resolved.manifest.layers.entries()) {
            chain = await x.unpacker.layer(chain, resolved.config.rootfs.diff_ids[i]!, layer, Promise.resolve(), lease)
          }
          await containerd.content.label(resolved.id, { [`containerd.io/gc.ref.snapshot.${snapshotter}`]: chain }, { lease })
        })
      }
      return { id: resolved.id, name: record.name, config: resolved.config, chainId: resolved.chainId }
    },
    pull: (reference, options) => inBulk(() => puller.pull(reference, options)),
    push: (reference, options) => inBulk(() => pushImage(x, reference, options)),
    load: (tar, onProgress, options) => inBulk(() => loadArchive(x, tar, onProgress, options)),
    save: references => saveArchive(x, references),
    import: (tar, reference, config, options) => importRootfs(x, tar, reference, config, options),
    async tag(source, target, options): Promise<void> {
      const name = parseReference(target)
      if (name.digest !== undefined) throw new EngineError('invalid', 'refusing to create a tag with a digest reference')
      const { record } = await need(source)
      await withLease(containerd, 'tag', async lease => {
        await containerd.leases.addResource(lease, { id: record.targetDigest, type: 'content' })
        await nameImage(x, [formatReference(name)], record.target, lease, options)
      })
    },
    async remove(reference, options) {
      const steps = await removeImage(x, reference, options)
      return { untagged: steps.flatMap(s => ('untagged' in s ? [s.untagged] : [])), deleted: steps.flatMap(s => ('deletedImage' in s ? [s.deletedImage] : [])), steps }
    },
    async details(reference): Promise<ImageDetails | undefined> {
      const hit = await store.lookup(reference)
      const entry = hit && (await store.entries()).get(hit.resolved.id)
      return entry === undefined || !visible(entry) ? undefined : (await detailsOf([entry]))[0]
    },
    async listDetails(): Promise<ImageDetails[]> {
      const created = (d: ImageDetails): number => Date.parse(d.config.created ?? '') || 0
      return (await detailsOf([...(await store.entries()).values()].filter(visible))).sort((a, b) => created(b) - created(a))
    },
    registries,
    serve: (method, path, headers) => server.serve(method, path, headers),
    onChange: handler => store.onChange(handler),
    setPeers: peers => { puller.peers = peers },
    close: () => { store.close() },
  }
}

function toImageConfig(file: ConfigFile): ImageConfig {
  const c = file.config ?? {}
  return {
    entrypoint: c.Entrypoint ?? [], cmd: c.Cmd ?? [], env: c.Env ?? [], workingDir: c.WorkingDir ?? '', user: c.User ?? '',
    exposedPorts: Object.keys(c.ExposedPorts ?? {}), labels: c.Labels ?? {}, volumes: Object.keys(c.Volumes ?? {}),
    ...(c.StopSignal === undefined || c.StopSignal === '' ? {} : { stopSignal: c.StopSignal }),
  }
}
