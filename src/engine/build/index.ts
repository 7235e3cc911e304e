/** Builds images from Dockerfiles. */
import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { decompress } from '../archive/compression.ts'
import { indexTar } from '../archive/tar-index.ts'
import type { TarIndex } from '../archive/tar-index.ts'
import { EngineError } from '../engine.ts'
import type { BuildCacheEntry, Builder, BuildNetwork, BuildOptions, ImageInfo } from '../engine.ts'
import { imageDocuments, nameImage, writeImage } from '../images/assemble.ts'
import { sha256 } from '../images/content.ts'
import type { EngineImages } from '../images/index.ts'
import { OCI_CONFIG, OCI_MANIFEST } from '../images/media-types.ts'
import { familiar, formatReference, parseReference } from '../images/reference.ts'
import { KEPT, toInfo } from '../images/store.ts'
import { parsePlatform } from '../images/platform.ts'
import { BuildCache } from './cache.ts'
import { CacheMounts } from './cache-mounts.ts'
import { parseDockerfile } from './dockerfile.ts'
import { parseDockerignore } from './dockerignore.ts'
import { BuildLease } from './lease.ts'
import { clearMounts } from './rootfs.ts'
import type { Say } from './output.ts'
import type { RunStep } from './run.ts'
import type { ImportedImage } from './imported.ts'
import { archiveTree } from './tree.ts'

export type { RunStep } from './run.ts'

export interface BuilderDeps {
  images: EngineImages
  /** A directory of the builder's own; made if absent. */
  dataDir: string
  runStep: RunStep
  /** Asked at each RUN: it is set after the engine has started. */
  network(): BuildNetwork | undefined
}

/** A context is sources, not disks. */
const CONTEXT_LIMITS = { maxBytes: 8 * 2 ** 30, maxMembers: 500_000, special: 'refuse' as const }

/** Clears what a killed engine left (images/index.ts has removed its leases) and reads the cache. */
export async function createBuilder(deps: BuilderDeps): Promise<Builder> {
  const x = deps.images.context
  const mountDir = join(deps.dataDir, 'mounts')
  const runDir = join(deps.dataDir, 'run')
  for (const d of [deps.dataDir, mountDir, runDir]) await mkdir(d, { recursive: true, mode: 0o700 })
  await clearMounts(mountDir)
  await clearMounts(runDir)
  const cache = new BuildCache(x, join(deps.dataDir, 'cache.json'))
  const caches = new CacheMounts(join(deps.dataDir, 'cache-mounts'))
  await cache.load()

  async function build(options: BuildOptions): Promise<ImageInfo> {
    const tags = options.tags.map(t => {
      const r = parseReference(t)
      if (r.digest !== undefined) throw new EngineError('invalid', `"${t}" cannot be a tag: it has a digest`)
      return formatReference(r)
    })
    if (options.platform !== undefined && options.platform !== '') {
      const wanted = parsePlatform(options.platform)
      if (wanted.os !== x.platform.os || wanted.architecture !== x.platform.architecture) {
        throw new EngineError('invalid', `cannot build for ${options.platform}: this machine builds and runs ${x.platform.os}/${x.platform.architecture} only`)
      }
    }
    const signal = options.signal ?? new AbortController().signal
    signal.throwIfAborted()
    const lease = new BuildLease(x.containerd)
    const context = await openContext(options)
    try {
      return await buildIn(context, options, tags, lease, signal)
    } catch (e) {
      // Whatever broke because of the abort, the abort is the reason.
      if (signal.aborted) throw new EngineError('failed', 'the build was cancelled')
      throw e
    } finally {
      await Promise.all([context.close(), lease.end(), cache.save()])
    }
  }

  async function openContext(options: BuildOptions): Promise<TarIndex> {
    const { stream } = await decompress(options.context)
    return indexTar(stream, join(x.spoolDir, `context-${randomBytes(8).toString('hex')}`), CONTEXT_LIMITS)
  }

  async function buildIn(context: TarIndex, options: BuildOptions, tags: string[], lease: BuildLease, signal: AbortSignal): Promise<ImageInfo> {
    const stream: Say = (line, stderr) => { options.onProgress?.({ status: '', stream: line, ...(stderr === true && { stderr }) }) }
    const path = options.dockerfile ?? 'Dockerfile'
    const source = await contextText(context, path, options.dockerfile === undefined ? 'dockerfile' : undefined)
    const file = parseDockerfile(source, path)
    for (const w of file.warnings) stream(`${w}\n`)
    const ignoreFile = context.members.has(`${path}.dockerignore`) ? `${path}.dockerignore` : '.dockerignore'
    const ignored = context.members.has(ignoreFile) ? parseDockerignore(await contextText(context, ignoreFile)) : undefined
    // Most machines build nothing: what a build runs on is loaded with the first one.
    const { buildStages } = await import('./stages.ts')
    const result = await buildStages({
      x, images: deps.images, cache, caches, lease, signal, mountDir, runDir, runStep: deps.runStep, network: deps.network, file, options,
      imported: await importedImages(options.cacheFrom ?? []), context: archiveTree(context, { ignored, rootOwned: true }), stream,
    })
    const bytes = Buffer.from(JSON.stringify(result.config))
    signal.throwIfAborted()
    const types = { config: OCI_CONFIG, manifest: OCI_MANIFEST }
    const { target } = imageDocuments(bytes, types, result.layers)
    const stale = tags.filter(n => x.store.record(n)?.targetDigest !== target.digest)
    // A build without tags is kept untagged, unless the image has a name of another build's.
    const made = tags.length > 0 ? stale.length > 0 : !(await x.store.recordsOf(sha256(bytes))).some(r => !r.name.startsWith(KEPT))
    let info: ImageInfo
    if (made) {
      await lease.open()
      await writeImage(x, bytes, types, result.layers, result.chainId, lease.id)
      info = await nameImage(x, stale, target, lease.id, { keepReplaced: options.keepReplaced === true })
      if (result.baseImage !== undefined) await x.parents.set(info.id, result.baseImage)
    } else {
      const resolved = await x.store.resolve(target)
      info = toInfo(resolved, await x.store.recordsOf(resolved.id))
    }
    options.onProgress?.({ status: '', imageId: info.id })
    stream(`Successfully built ${info.id.slice(7, 19)}\n`)
    for (const t of tags) stream(`Successfully tagged ${familiar(t)}\n`)
    await cache.prune()
    return info
  }

  /** Those that are here; others are no help, and no error. */
  async function importedImages(references: string[]): Promise<ImportedImage[]> {
    const found = await Promise.all(references.map(r => x.store.lookup(r).catch(() => undefined)))
    return found.flatMap(f => (f === undefined ? [] : [{ config: f.resolved.config, layers: f.resolved.manifest.layers }]))
  }

  return {
    build,
    async cache() {
      const steps = cache.list().map(({ id, step, usedAtMs }): BuildCacheEntry => ({
        id, description: step.createdBy ?? '', sizeBytes: step.layer?.descriptor.size ?? 0, createdAtMs: Date.parse(step.created), usedAtMs, inUse: false,
      }))
      const mounts = (await caches.list()).map((m): BuildCacheEntry => ({ ...m, description: 'a folder of RUN --mount=type=cache' }))
      return [...steps, ...mounts]
    },
    async prune(options = {}) {
      const all = options.olderThanMs === undefined && options.keepBytes === undefined
      const out = await cache.prune(all ? { maxEntries: 0 } : options)
      // The oldest first, as far as what is kept allows.
      let kept = cache.list().reduce((sum, e) => sum + (e.step.layer?.descriptor.size ?? 0), 0)
      for (const m of (await caches.list()).sort((a, b) => b.usedAtMs - a.usedAtMs)) {
        kept += m.sizeBytes
        if (m.inUse || !(all || m.usedAtMs < (options.olderThanMs ?? -Infinity) || kept > (options.keepBytes ?? Infinity))) continue
        await caches.remove(m.id)
        out.ids.push(m.id)
        out.bytes += m.sizeBytes
      }
      return out
    },
  }
}

async function contextText(context: TarIndex, path: string, otherwise?: string): Promise<string> {
  const clean = path.replace(/^(\.?\/)+/, '')
  const member = context.members.get(clean) ?? (otherwise === undefined ? undefined : context.members.get(otherwise))
  if (member?.type !== 'file') throw new EngineError('invalid', `Cannot locate specified Dockerfile: ${path}`)
  if (member.sizeBytes > 1 << 20) throw new EngineError('invalid', `${path} is larger than 1 MiB`)
  return text(context.read(member))
}
