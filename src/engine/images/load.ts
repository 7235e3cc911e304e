/** Images from archives: `docker save` (old and new) and OCI layouts; and root file systems as images. */
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { Transform, pipeline } from 'node:stream'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { constants, createZstdCompress } from 'node:zlib'
import { decompress, detect, peek } from '../archive/compression.ts'
import { entryName } from '../archive/entry-name.ts'
import { indexTar } from '../archive/tar-index.ts'
import type { TarIndex, TarMember } from '../archive/tar-index.ts'
import { EngineError } from '../engine.ts'
import type { ImageConfig, ImageInfo, OnProgress } from '../engine.ts'
import { checkConfig, checkIndex, checkManifest, configLabels, indexLabels, manifestLabels, nameImage, writeImage } from './assemble.ts'
import type { ImageContext } from './assemble.ts'
import { ingest, ingestStream, MAX_DOCUMENT_BYTES, parseDocument, putDocument, sha256, withLease } from './content.ts'
import { DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, isIndexType, isManifestType, OCI_CONFIG, OCI_LAYER_ZSTD, OCI_MANIFEST } from './media-types.ts'
import type { ConfigFile, Descriptor, Index, Manifest, RuntimeConfig } from './media-types.ts'
import { choosePlatform } from './platform.ts'
import { familiar, formatReference, parseReference } from './reference.ts'

/** Archives beyond this are refused before they fill the disk. */
const LIMITS = { maxBytes: 64 * 2 ** 30, maxMembers: 200_000, special: 'skip' as const }

/** Loads all images of an archive; resolves with their full names (or ids, for nameless ones). */
export async function loadArchive(x: ImageContext, tar: Readable, report: OnProgress = () => undefined): Promise<string[]> {
  const { stream } = await decompress(tar)
  const archive = await indexTar(stream, join(x.spoolDir, `load-${randomBytes(8).toString('hex')}`), LIMITS)
  try {
    return await withLease(x.containerd, 'load', async lease => {
      const layout = archive.members.has('oci-layout') ? archive.members.get('index.json') : undefined
      const list = archive.members.get('manifest.json')
      if (layout !== undefined) return await loadLayout(x, archive, layout, list, lease, report)
      if (list !== undefined) return await loadDocker(x, archive, list, lease, report)
      throw new EngineError('invalid', 'the archive holds no image: neither an OCI layout (oci-layout, index.json) nor manifest.json of docker save')
    })
  } finally {
    await archive.close()
  }
}

async function documentOf(archive: TarIndex, member: TarMember | undefined, what: string): Promise<Buffer> {
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
function memberAt(archive: TarIndex, name: string): TarMember | undefined {
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

async function loadDocker(x: ImageContext, archive: TarIndex, list: TarMember, lease: string, report: OnProgress): Promise<string[]> {
  const names: string[] = []
  for (const item of parseDockerList(await documentOf(archive, list, 'manifest.json'))) {
    const configBytes = await documentOf(archive, memberAt(archive, item.Config), `the configuration ${item.Config}`)
    const config = parseDocument<ConfigFile>(configBytes, item.Config)
    const layers: Descriptor[] = []
    const members: TarMember[] = []
    for (const name of item.Layers) {
      const member = memberAt(archive, name)
      if (member === undefined || member.type !== 'file') throw new EngineError('invalid', `the archive lacks the layer ${name}`)
      const { head, stream } = await peek(archive.read(member), 6)
      stream.destroy()
      const compression = detect(head)
      if (compression === 'bzip2' || compression === 'xz') throw new EngineError('invalid', `the layer ${name} is compressed with ${compression}, which images cannot be`)
      const mediaType = compression === 'zstd' ? OCI_LAYER_ZSTD : compression === 'gzip' ? DOCKER_LAYER_GZIP : DOCKER_LAYER_GZIP.replace('.gzip', '')
      layers.push({ mediaType, digest: `sha256:${member.sha256}`, size: member.sizeBytes })
      members.push(member)
    }
    const manifest: Manifest = {
      schemaVersion: 2, mediaType: DOCKER_MANIFEST, config: { mediaType: DOCKER_CONFIG, digest: sha256(configBytes), size: configBytes.length }, layers,
    }
    checkConfig(config, manifest)
    const chain = await bringLayers(x, archive, manifest, config, members, lease, report)
    const target = await writeImage(x, configBytes, { config: DOCKER_CONFIG, manifest: DOCKER_MANIFEST }, layers, chain, lease)
    names.push(...await nameLoaded(x, target, item.RepoTags ?? [], lease, report))
  }
  return names
}

async function bringLayers(
  x: ImageContext, archive: TarIndex, manifest: Manifest, config: ConfigFile, members: TarMember[], lease: string, report: OnProgress,
): Promise<string> {
  let chain = ''
  for (const [i, layer] of manifest.layers.entries()) {
    await putMember(x, archive, members[i]!, layer, lease)
    chain = await x.unpacker.layer(chain, config.rootfs.diff_ids[i]!, layer, Promise.resolve(), lease)
    report({ id: layer.digest.slice(7, 19), status: 'Loading layer', currentBytes: layer.size, totalBytes: layer.size })
  }
  return chain
}

async function putMember(x: ImageContext, archive: TarIndex, m: TarMember, d: Descriptor, lease: string): Promise<void> {
  await ingest(x.containerd, { ref: `layer-${d.digest}`, digest: d.digest, size: d.size, labels: {}, lease },
    () => Promise.resolve({ stream: archive.read(m), offset: 0 }))
}

async function nameLoaded(x: ImageContext, target: Descriptor, tags: string[], lease: string, report: OnProgress): Promise<string[]> {
  const names = tags.map(t => formatReference(parseReference(t)))
  if (names.length === 0) {
    // Nameless in the archive: it is kept under its digest, to be named by `tag`.
    const resolved = await x.store.resolve(target)
    const name = `localhost/loaded@${target.digest}`
    await nameImage(x, [name], target, lease)
    report({ status: '', stream: `Loaded image ID: ${resolved.id}\n` })
    return [name]
  }
  await nameImage(x, names, target, lease)
  for (const n of names) report({ status: '', stream: `Loaded image: ${familiar(n)}\n` })
  return names
}

async function loadLayout(
  x: ImageContext, archive: TarIndex, layout: TarMember, list: TarMember | undefined, lease: string, report: OnProgress,
): Promise<string[]> {
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
    const configDigest = await bringTree(x, archive, target, lease, report)
    if (tags.size === 0) for (const t of tagsByConfig.get(configDigest) ?? []) tags.add(t)
    names.push(...await nameLoaded(x, target, [...tags], lease, report))
  }
  return names
}

const blobMember = (archive: TarIndex, digest: string): TarMember | undefined => archive.members.get(`blobs/sha256/${digest.slice(7)}`)

/** Brings one target of a layout; resolves with the configuration's digest. */
async function bringTree(x: ImageContext, archive: TarIndex, target: Descriptor, lease: string, report: OnProgress): Promise<string> {
  const bytes = await documentOf(archive, blobMember(archive, target.digest), `blob ${target.digest}`)
  if (sha256(bytes) !== target.digest) throw new EngineError('invalid', `blob ${target.digest} of the archive is not what its name says`)
  if (isIndexType(target.mediaType)) {
    const index = parseDocument<Index>(bytes, target.digest)
    checkIndex(index, target.digest)
    const chosen = choosePlatform(index.manifests.filter(m => blobMember(archive, m.digest) !== undefined), x.platform)
    if (chosen === undefined) throw new EngineError('invalid', `the archive holds no image for ${x.platform.os}/${x.platform.architecture}`)
    await putDocument(x.containerd, target.mediaType, bytes, indexLabels(index), lease)
    return bringTree(x, archive, chosen, lease, report)
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
  const chain = await bringLayers(x, archive, manifest, config, members, lease, report)
  await putDocument(x.containerd, manifest.config.mediaType, configBytes, configLabels(x.snapshotter, chain), lease)
  await putDocument(x.containerd, target.mediaType, bytes, manifestLabels(manifest), lease)
  return manifest.config.digest
}

/** Docker's form of the engine's configuration fields. */
function runtimeConfig(c: Partial<ImageConfig>): RuntimeConfig {
  const set = (list: string[] | undefined): Record<string, object> | undefined => list && Object.fromEntries(list.map(k => [k, {}]))
  const out: RuntimeConfig = {
    User: c.user, ExposedPorts: set(c.exposedPorts), Env: c.env, Entrypoint: c.entrypoint, Cmd: c.cmd, Volumes: set(c.volumes),
    WorkingDir: c.workingDir, Labels: c.labels, StopSignal: c.stopSignal,
  }
  return Object.fromEntries(Object.entries(out).filter(([, v]) => v !== undefined && v !== ''))
}

/** A root file system (tar, plain or compressed) as an image of one layer. */
export async function importRootfs(x: ImageContext, tar: Readable, reference: string, c: Partial<ImageConfig> = {}): Promise<ImageInfo> {
  const name = formatReference(parseReference(reference))
  return withLease(x.containerd, 'import', async lease => {
    const { stream } = await decompress(tar)
    const hash = createHash('sha256')
    let plainBytes = 0
    const tap = new Transform({
      highWaterMark: 1 << 20,
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk)
        plainBytes += chunk.length
        done(null, chunk)
      },
    })
    // The lowest level is several times faster than the line to a peer, and most of the gain.
    const zstd = createZstdCompress({ chunkSize: 1 << 20, params: { [constants.ZSTD_c_compressionLevel]: 1 } })
    pipeline(stream, tap, zstd, () => {
      // pipeline destroys `zstd` with the cause, which the reader below sees.
    })
    const blob = await ingestStream(x.containerd, `import-${randomBytes(8).toString('hex')}`, zstd, lease)
    if (plainBytes === 0) throw new EngineError('invalid', 'nothing to import: the archive is empty')
    const diffId = `sha256:${hash.digest('hex')}`
    const layer: Descriptor = { mediaType: OCI_LAYER_ZSTD, ...blob }
    const chain = await x.unpacker.layer('', diffId, layer, Promise.resolve(), lease)
    const created = new Date().toISOString()
    const config: ConfigFile = {
      created, architecture: x.platform.architecture, os: x.platform.os, ...(x.platform.variant === undefined ? {} : { variant: x.platform.variant }),
      config: runtimeConfig(c), rootfs: { type: 'layers', diff_ids: [diffId] }, history: [{ created, comment: 'Imported from -' }],
    }
    const target = await writeImage(x, Buffer.from(JSON.stringify(config)), { config: OCI_CONFIG, manifest: OCI_MANIFEST }, [layer], chain, lease)
    return nameImage(x, [name], target, lease)
  })
}
