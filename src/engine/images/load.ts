/** Images from archives: `docker save` of every age, and OCI layouts. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { decompress, detect, peek } from '../archive/compression.ts'
import { entryName } from '../archive/entry-name.ts'
import { indexTar } from '../archive/tar-index.ts'
import type { TarIndex, TarMember } from '../archive/tar-index.ts'
import { EngineError } from '../engine.ts'
import type { OnProgress } from '../engine.ts'
import { checkConfig, checkIndex, checkManifest, configLabels, indexLabels, manifestLabels, nameImage, writeImage } from './assemble.ts'
import type { ImageContext } from './assemble.ts'
import { ingest, MAX_DOCUMENT_BYTES, parseDocument, putDocument, sha256, withLease } from './content.ts'
import { LayerExtractor, MIN_EXTRACT_BYTES } from './extract.ts'
import { readLegacy } from './load-legacy.ts'
import { DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, isIndexType, isManifestType, OCI_LAYER_ZSTD } from './media-types.ts'
import type { ConfigFile, Descriptor, Index, Manifest, Platform } from './media-types.ts'
import { choosePlatform, formatPlatform, parsePlatform } from './platform.ts'
import { familiar, formatReference, parseReference } from './reference.ts'
import { checkSpace } from './space.ts'
import { chainIds } from './unpack.ts'

/** Archives beyond this are refused before they fill the disk. */
const LIMITS = { maxBytes: 64 * 2 ** 30, maxMembers: 200_000, special: 'skip' as const }

export interface LoadOptions { platform?: string; keepReplaced?: boolean }

/** One archive being loaded. */
export interface Load { x: ImageContext; archive: TarIndex; lease: string; report: OnProgress; platform: Platform | undefined; keepReplaced: boolean }

/** Loads all images of an archive; resolves with their full names (or ids, for nameless ones). */
export async function loadArchive(
  x: ImageContext, tar: Readable, report: OnProgress = () => undefined, options: LoadOptions = {},
): Promise<string[]> {
  await checkSpace(x.spoolDir, 'load')
  const { stream } = await decompress(tar)
  const archive = await indexTar(stream, join(x.spoolDir, `load-${randomBytes(8).toString('hex')}`), LIMITS)
  const platform = options.platform === undefined ? undefined : parsePlatform(options.platform)
  try {
    return await withLease(x.containerd, 'load', async lease => {
      const load: Load = { x, archive, lease, report, platform, keepReplaced: options.keepReplaced === true }
      const layout = archive.members.has('oci-layout') ? archive.members.get('index.json') : undefined
      const list = archive.members.get('manifest.json')
      if (layout !== undefined) return await loadLayout(load, layout, list)
      if (list !== undefined) return await loadDocker(load, list)
      const repositories = archive.members.get('repositories')
      if (repositories !== undefined) return await loadLegacy(load, repositories)
      throw new EngineError('invalid', 'the archive holds no image: neither an OCI layout (oci-layout, index.json) nor manifest.json of docker save')
    })
  } finally {
    await archive.close()
  }
}

export async function documentOf(archive: TarIndex, member: TarMember | undefined, what: string): Promise<Buffer> {
  if (member === undefined || member.type !== 'file') throw new EngineError('invalid', `the archive lacks ${what}`)
  if (member.sizeBytes > MAX_DOCUMENT_BYTES) throw new EngineError('invalid', `${what} in the archive is too large`)
  return buffer(archive.read(member))
}

interface DockerItem { Config: string; RepoTags?: string[] | null; Layers: string[] }

function parseDockerList(data: Buffer): DockerItem[] {
  const items = parseDocument<DockerItem[]>(data, 'manifest.json')
  const ok = Array.isArray(items) && items.every(i => typeof i?.Config === 'string' && Array.isArray(i.Layers) && i.Layers.every(l => typeof l === 'string'))
  if (!ok) throw new EngineError('invalid', 'manifest.json of the archive is not that of docker save')
  return items
}

/** Member of a name, through the symbolic links that old archives use for equal layers. */
export function memberAt(archive: TarIndex, name: string): TarMember | undefined {
  let path = entryName(name)
  for (let hops = 0; hops < 10; hops++) {
    const m = archive.members.get(path)
    if (m?.type !== 'symlink') return m
    const parts = path.split('/').slice(0, -1)
    for (const part of m.target!.split('/')) {
      if (part === '..') parts.pop()
      else if (part !== '' && part !== '.') parts.push(part)
    }
    path = parts.join('/')
  }
  return undefined
}

async function loadDocker(load: Load, list: TarMember): Promise<string[]> {
  const { archive } = load
  const names: string[] = []
  for (const item of parseDockerList(await documentOf(archive, list, 'manifest.json'))) {
    const configBytes = await documentOf(archive, memberAt(archive, item.Config), `the configuration ${item.Config}`)
    const members = item.Layers.map(name => {
      const member = memberAt(archive, name)
      if (member?.type !== 'file') throw new EngineError('invalid', `the archive lacks the layer ${name}`)
      return member
    })
    names.push(...await bringDocker(load, configBytes, members, item.RepoTags ?? []))
  }
  return names
}

async function loadLegacy(load: Load, repositories: TarMember): Promise<string[]> {
  const names: string[] = []
  for (const image of await readLegacy(load.archive, await documentOf(load.archive, repositories, 'repositories'))) {
    names.push(...await bringDocker(load, Buffer.from(JSON.stringify(image.config)), image.layers, image.tags))
  }
  return names
}

/** An image of which the archive has configuration and layers, but no manifest. */
async function bringDocker(load: Load, configBytes: Buffer, members: TarMember[], tags: string[]): Promise<string[]> {
  const { x, archive, lease } = load
  const digest = sha256(configBytes)
  const config = parseDocument<ConfigFile>(configBytes, digest)
  const layers: Descriptor[] = []
  for (const member of members) {
    const { head, stream } = await peek(archive.read(member), 6)
    stream.destroy()
    const compression = detect(head)
    if (compression === 'bzip2' || compression === 'xz') throw new EngineError('invalid', `the layer ${member.path} is compressed with ${compression}, which images cannot be`)
    const mediaType = compression === 'zstd' ? OCI_LAYER_ZSTD : compression === 'gzip' ? DOCKER_LAYER_GZIP : DOCKER_LAYER_GZIP.replace('.gzip', '')
    layers.push({ mediaType, digest: `sha256:${member.sha256}`, size: member.sizeBytes })
  }
  const manifest: Manifest = { schemaVersion: 2, mediaType: DOCKER_MANIFEST, config: { mediaType: DOCKER_CONFIG, digest, size: configBytes.length }, layers }
  checkConfig(config, manifest)
  const chain = await bringLayers(load, manifest, config, members)
  const target = await writeImage(x, configBytes, { config: DOCKER_CONFIG, manifest: DOCKER_MANIFEST }, layers, chain, lease)
  return nameLoaded(load, target, tags)
}

async function bringLayers({ x, archive, lease, report }: Load, manifest: Manifest, config: ConfigFile, members: TarMember[]): Promise<string> {
  let chain = ''
  const chains = chainIds(config.rootfs.diff_ids)
  for (const [i, layer] of manifest.layers.entries()) {
    const id = config.rootfs.diff_ids[i]!.slice(7, 19)
    const there = await x.unpacker.exists(chains[i]!)
    const say = (currentBytes: number): void => { if (!there) report({ id, status: 'Loading layer', currentBytes, totalBytes: layer.size }) }
    say(Math.min(layer.size, 1 << 16))
    let extractor: LayerExtractor | undefined
    try {
      await ingest(x.containerd, {
        ref: `layer-${layer.digest}`, digest: layer.digest, size: layer.size, labels: {}, lease,
        openTap: () => (extractor = there || layer.size < MIN_EXTRACT_BYTES ? undefined : new LayerExtractor(x.spoolDir, `layer ${layer.digest}`)),
      }, () => Promise.resolve({ stream: archive.read(members[i]!), offset: 0 }))
      chain = await x.unpacker.layer(chain, config.rootfs.diff_ids[i]!, layer, Promise.resolve(extractor), lease)
    } finally {
      await extractor?.close()
    }
    say(layer.size)
  }
  return chain
}

async function nameLoaded({ x, lease, report, keepReplaced }: Load, target: Descriptor, tags: string[]): Promise<string[]> {
  const names = tags.map(t => formatReference(parseReference(t)))
  const { id } = await x.store.resolve(target)
  for (const n of keepReplaced ? names : []) {
    const before = x.store.record(n)
    const old = before && await x.store.resolve(before.target).catch(() => undefined)
    if (old !== undefined && old.id !== id) report({ status: '', stream: `The image ${familiar(n)} already exists, renaming the old one with ID ${old.id} to empty string\n` })
  }
  await nameImage(x, names, target, lease, { keepReplaced })
  if (names.length === 0) report({ status: '', stream: `Loaded image ID: ${id}\n` })
  for (const n of names) report({ status: '', stream: `Loaded image: ${familiar(n)}\n` })
  return names.length === 0 ? [id] : names
}

async function loadLayout(load: Load, layout: TarMember, list: TarMember | undefined): Promise<string[]> {
  const { archive } = load
  const root = parseDocument<Index>(await documentOf(archive, layout, 'index.json'), 'index.json')
  checkIndex(root, 'index.json')
  const tagsByConfig = new Map<string, string[]>()
  if (list !== undefined) {
    for (const i of parseDockerList(await documentOf(archive, list, 'manifest.json'))) {
      const member = memberAt(archive, i.Config)
      if (member?.sha256 !== undefined) tagsByConfig.set(`sha256:${member.sha256}`, i.RepoTags ?? [])
    }
  }
  // One image may stand in the index once for each of its names.
  const wanted = new Map<string, { descriptor: Descriptor; tags: Set<string> }>()
  for (const d of root.manifests) {
    const entry = wanted.get(d.digest) ?? { descriptor: d, tags: new Set<string>() }
    const name = d.annotations?.['io.containerd.image.name']
    const ref = d.annotations?.['org.opencontainers.image.ref.name']
    if (name !== undefined) entry.tags.add(name)
    else if (ref !== undefined && /[:/]/.test(ref)) entry.tags.add(ref)
    wanted.set(d.digest, entry)
  }
  const names: string[] = []
  for (const { descriptor, tags } of wanted.values()) {
    const { platform: _, annotations: __, ...target } = descriptor
    const { configDigest, named } = await bringTree(load, target)
    if (tags.size === 0) for (const t of tagsByConfig.get(configDigest) ?? []) tags.add(t)
    names.push(...await nameLoaded(load, named, [...tags]))
  }
  return names
}

const blobMember = (archive: TarIndex, digest: string): TarMember | undefined => archive.members.get(`blobs/sha256/${digest.slice(7)}`)

/** Brings one target of a layout; resolves with the configuration's digest, and with what names should point to. */
async function bringTree(load: Load, target: Descriptor): Promise<{ configDigest: string; named: Descriptor }> {
  const { x, archive, lease } = load
  const bytes = await documentOf(archive, blobMember(archive, target.digest), `blob ${target.digest}`)
  if (sha256(bytes) !== target.digest) throw new EngineError('invalid', `blob ${target.digest} of the archive is not what its name says`)
  if (isIndexType(target.mediaType)) {
    const index = parseDocument<Index>(bytes, target.digest)
    checkIndex(index, target.digest)
    const platform = load.platform ?? x.platform
    const chosen = choosePlatform(index.manifests.filter(m => blobMember(archive, m.digest) !== undefined), platform)
    if (chosen === undefined) throw new EngineError('invalid', `the archive holds no image for ${formatPlatform(platform)}`)
    await putDocument(x.containerd, target.mediaType, bytes, indexLabels(index), lease)
    const { configDigest } = await bringTree(load, chosen)
    // An index stands for this machine's platform; another's image is named by its own manifest.
    return { configDigest, named: load.platform === undefined ? target : chosen }
  }
  if (!isManifestType(target.mediaType)) throw new EngineError('invalid', `the archive holds a ${target.mediaType}, which is no image`)
  const manifest = parseDocument<Manifest>(bytes, target.digest)
  checkManifest(manifest, target.digest)
  const configBytes = await documentOf(archive, blobMember(archive, manifest.config.digest), `blob ${manifest.config.digest}`)
  const config = parseDocument<ConfigFile>(configBytes, manifest.config.digest)
  checkConfig(config, manifest)
  const members = manifest.layers.map(l => {
    const m = blobMember(archive, l.digest)
    if (m === undefined || m.type !== 'file') throw new EngineError('invalid', `the archive lacks the layer ${l.digest}`)
    return m
  })
  const chain = await bringLayers(load, manifest, config, members)
  await putDocument(x.containerd, manifest.config.mediaType, configBytes, configLabels(x.snapshotter, chain), lease)
  await putDocument(x.containerd, target.mediaType, bytes, manifestLabels(manifest), lease)
  return { configDigest: manifest.config.digest, named: target }
}
