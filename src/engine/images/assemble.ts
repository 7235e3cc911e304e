/** The last steps that pull, load, import and build share: documents with their references, snapshots, names. */
import type { ContainerdClient } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageInfo } from '../engine.ts'
import { putDocument, sha256 } from './content.ts'
import { isDigest } from './reference.ts'
import type { Parents } from './parents.ts'
import type { LayerSizes } from './sizes.ts'
import type { Registries } from '../registry/registries.ts'
import { KEPT, toInfo, UNTAGGED } from './store.ts'
import type { ImageStore, Tagging } from './store.ts'
import type { Unpacker } from './unpack.ts'
import type { ConfigFile, Descriptor, Index, Manifest, Platform } from './media-types.ts'

/** A container that uses an image, as far as removing images must know. */
export interface ImageUser { id: string; imageId: string; running: boolean }

/** What all of the image service's parts work with. */
export interface ImageContext {
  containerd: ContainerdClient
  snapshotter: string
  platform: Platform
  store: ImageStore
  unpacker: Unpacker
  /** Shared with the builder. */
  parents: Parents
  sizes: LayerSizes
  registries: Registries
  /** For spooled archives; private to the engine. */
  spoolDir: string
  users(): ImageUser[]
}

const MAX_LAYERS = 512

/** Refuses documents that would lead further work astray. */
export function checkManifest(m: Manifest, digest: string): void {
  const ok = (d: Descriptor | undefined): boolean =>
    typeof d === 'object' && d !== null && isDigest(String(d.digest)) && Number.isSafeInteger(d.size) && d.size >= 0 && typeof d.mediaType === 'string'
  if (!ok(m.config) || !Array.isArray(m.layers) || m.layers.length > MAX_LAYERS || !m.layers.every(ok)) {
    throw new EngineError('failed', `${digest} is no valid image manifest`)
  }
}

export function checkIndex(i: Index, digest: string): void {
  const ok = Array.isArray(i.manifests) && i.manifests.every(d =>
    typeof d === 'object' && d !== null && isDigest(String(d.digest)) && Number.isSafeInteger(d.size) && typeof d.mediaType === 'string')
  if (!ok) throw new EngineError('failed', `${digest} is no valid image index`)
}

export function checkConfig(config: ConfigFile, manifest: Manifest): void {
  const ids = config.rootfs?.diff_ids
  if (!Array.isArray(ids) || !ids.every(d => isDigest(String(d)))) throw new EngineError('failed', `${manifest.config.digest} is no image configuration`)
  if (ids.length !== manifest.layers.length) {
    throw new EngineError('failed', `the configuration ${manifest.config.digest} has ${ids.length} layers, its manifest ${manifest.layers.length}`)
  }
}

/** Labels by which containerd's garbage collector finds what a manifest needs. */
export function manifestLabels(m: Manifest): Record<string, string> {
  const labels: Record<string, string> = { 'containerd.io/gc.ref.content.config': m.config.digest }
  m.layers.forEach((l, i) => { labels[`containerd.io/gc.ref.content.l.${i}`] = l.digest })
  return labels
}

export function indexLabels(i: Index): Record<string, string> {
  return Object.fromEntries(i.manifests.map((m, n) => [`containerd.io/gc.ref.content.m.${n}`, m.digest]))
}

export function configLabels(snapshotter: string, chainId: string): Record<string, string> {
  return chainId === '' ? {} : { [`containerd.io/gc.ref.snapshot.${snapshotter}`]: chainId }
}

/** Writes configuration and manifest of an image made here, whose layers and snapshots are there under the lease. */
export async function writeImage(
  x: ImageContext, configBytes: Buffer, types: { config: string; manifest: string }, layers: Descriptor[], chainId: string, lease: string,
): Promise<Descriptor> {
  const { manifest, bytes } = imageDocuments(configBytes, types, layers)
  await putDocument(x.containerd, types.config, configBytes, configLabels(x.snapshotter, chainId), lease)
  return putDocument(x.containerd, types.manifest, bytes, manifestLabels(manifest), lease)
}

/** What `writeImage` would write: its manifest, and the descriptor that it would resolve with. */
export function imageDocuments(
  configBytes: Buffer, types: { config: string; manifest: string }, layers: Descriptor[],
): { manifest: Manifest; bytes: Buffer; target: Descriptor } {
  const config: Descriptor = { mediaType: types.config, digest: sha256(configBytes), size: configBytes.length }
  const manifest: Manifest = { schemaVersion: 2, mediaType: types.manifest, config, layers }
  const bytes = Buffer.from(JSON.stringify(manifest))
  return { manifest, bytes, target: { mediaType: types.manifest, digest: sha256(bytes), size: bytes.length } }
}

export interface Naming extends Partial<Tagging> {
  /** As Docker does: an image that loses its last name thereby stays, untagged. Otherwise only while containers use it. */
  keepReplaced?: boolean
}

/** Gives names to a target; with none it is kept untagged. Resolves with the image. */
export async function nameImage(x: ImageContext, names: string[], target: Descriptor, lease: string, naming: Naming = {}): Promise<ImageInfo> {
  const tagging: Tagging = { taggedAtMs: naming.taggedAtMs ?? Date.now(), origin: naming.origin ?? 'local' }
  const resolved = await x.store.resolve(target)
  for (const name of names) {
    const before = x.store.record(name)
    if (before !== undefined && before.targetDigest !== target.digest) {
      await (naming.keepReplaced === true ? keepUntagged : keepIfUsed)(x, before.target, name, lease)
    }
    await x.store.put(name, target, tagging, lease)
  }
  if (names.length > 0) await x.store.delete(`${UNTAGGED}${resolved.id}`, false)
  else if (!(await x.store.recordsOf(resolved.id)).some(r => !r.name.startsWith(KEPT))) await x.store.put(`${UNTAGGED}${resolved.id}`, target, tagging, lease)
  return toInfo(resolved, await x.store.recordsOf(resolved.id))
}

/** Keeps what a target means as an untagged image, if it has no other name than `losing`. */
async function keepUntagged(x: ImageContext, target: Descriptor, losing: string, lease: string): Promise<void> {
  const resolved = await x.store.resolve(target).catch(() => undefined)
  if (resolved === undefined) return
  const others = (await x.store.recordsOf(resolved.id)).some(r => r.name !== losing && !r.name.startsWith(KEPT))
  if (!others) await x.store.put(`${UNTAGGED}${resolved.id}`, target, { taggedAtMs: Date.now(), origin: 'local' }, lease)
}

/** Makes a hidden record for a target about to lose the name `losing`, if a container uses it and no other name does. */
export async function keepIfUsed(x: ImageContext, target: Descriptor, losing: string, lease: string): Promise<boolean> {
  const resolved = await x.store.resolve(target).catch(() => undefined)
  if (resolved === undefined || !x.users().some(u => u.imageId === resolved.id)) return false
  for (const r of await x.store.recordsOf(resolved.id)) if (r.name !== losing) return true
  await x.store.put(`${KEPT}${target.digest}`, target, { taggedAtMs: Date.now(), origin: 'local' }, lease)
  return true
}

/** Drops hidden records that no container uses any more. */
export async function sweepKept(x: ImageContext): Promise<void> {
  for (const r of [...x.store.records()]) {
    if (!r.name.startsWith(KEPT)) continue
    const resolved = await x.store.resolve(r.target).catch(() => undefined)
    if (resolved === undefined || !x.users().some(u => u.imageId === resolved.id)) await x.store.delete(r.name, false)
  }
}
