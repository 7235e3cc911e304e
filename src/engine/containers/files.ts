/** A container's files, whether it runs or not: copied in and out, compared with its image, exported, committed. */
import { closeSync, constants, openSync, readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { decompress } from '../archive/compression.ts'
import { orAbsent } from '../containerd/index.ts'
import type { ContainerdClient, Mount as SnapshotMount } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { CommitOptions, ContainerSpec, Mount, PathInfo, WriteArchiveOptions } from '../engine.ts'
import { findChanges } from '../filesystem/changes.ts'
import type { Change } from '../filesystem/changes.ts'
import { extractTar } from '../filesystem/extract.ts'
import { layerOf } from '../filesystem/layer.ts'
import { packTree } from '../filesystem/pack.ts'
import { entryPath, Root } from '../../files/root.ts'
import type { Located } from '../../files/root.ts'
import { openView, readOnlyMount } from '../filesystem/view.ts'
import type { View } from '../filesystem/view.ts'
import type { Entry } from './model.ts'
import { ociMounts } from './oci-mounts.ts'
import { layerDirectories } from './rootfs.ts'
import { isAlive } from './table.ts'
import type { ContainerTable } from './table.ts'
import type { Tasks } from './tasks.ts'

export interface FilesOptions {
  client: ContainerdClient
  snapshotter: string
  /** Of the engine's own, for mounting. */
  dir: string
  table: ContainerTable
  tasks: Tasks
  /** Makes an image from a container's layer on top of its image; resolves with its id. */
  commit(imageId: string, containerId: string, layer: Readable | undefined, options: CommitOptions): Promise<string>
}

/** File systems that show the kernel's state: their contents are no part of a copy of what lies above them. */
const KERNEL_FILE_SYSTEMS = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'mqueue', 'debugfs', 'tracefs', 'securityfs', 'bpf'])

/** A container's root to work on; closed when the work is over. */
interface OpenRoot { root: Root; close(): Promise<void> }

export class ContainerFiles {
  readonly #o: FilesOptions
  /** Bytes of committed snapshots, which never change. */
  readonly #layerBytes = new Map<string, { bytes: number; parent: string }>()

  constructor(options: FilesOptions) { this.#o = options }

  statPath(id: string, path: string, mounts?: Mount[]): Promise<PathInfo> {
    return this.#withRoot(this.#o.table.get(id), mounts, (root) => {
      const found = locate(root, path, id)
      try {
        return Promise.resolve(pathInfo(root, found, path))
      } finally {
        found.close()
      }
    })
  }

  async readArchive(id: string, path: string, mounts?: Mount[]): Promise<{ info: PathInfo; tar: Readable }> {
    const entry = this.#o.table.get(id)
    const open = await this.#openRoot(entry, mounts)
    let found: Located | undefined
    try {
      found = locate(open.root, path, id)
      const info = pathInfo(open.root, found, path)
      const exclude = found.stats.isDirectory() ? await kernelDirectories(entry, found.path) : []
      const at = found
      // Its contents under `.`, or the thing itself in its directory; always by what is open.
      const directory = at.stats.isDirectory()
      const tar = packTree({ directory: directory ? at.fd : at.parent, names: [directory ? '.' : at.name], recurse: true, rename: info.name, exclude })
      tar.once('close', () => { at.close(); void open.close() })
      return { info, tar }
    } catch (e) {
      found?.close()
      await open.close()
      throw e
    }
  }

  async writeArchive(id: string, path: string, tar: Readable, options: WriteArchiveOptions): Promise<void> {
    const entry = this.#o.table.get(id)
    try {
      const owner = options.keepOwner ? undefined : await this.#userOf(entry)
      await this.#withRoot(entry, options.mounts, async (root) => {
        const found = root.find(path.endsWith('/') ? path : `${path}/`, { followLast: true })
        if (found === undefined) throw notFound(path, id)
        const target = found.path
        const isDirectory = found.stats.isDirectory()
        found.close()
        if (!isDirectory) throw new EngineError('invalid', 'extraction point is not a directory')
        refuseReadOnly(withMounts(entry.record.spec, options.mounts), target)
        const { stream } = await decompress(tar)
        await extractTar(root, target, stream, { noOverwriteDirNonDir: options.noOverwriteDirNonDir, ...(owner === undefined ? {} : { owner }) })
      })
    } finally {
      tar.destroy()
    }
  }

  async #userOf(entry: Entry): Promise<{ uid: number; gid: number } | undefined> {
    const { record } = entry
    if ((record.spec.user ?? record.image.user) === '') return undefined
    const { uid, gid } = this.#o.tasks.user(record, record.spec.user, await this.#o.tasks.mountsOf(entry))
    return { uid, gid }
  }

  async changes(id: string): Promise<Change[]> {
    return this.#withLayers(this.#o.table.get(id), (view, sources) => findChanges({ ...sources, merged: view.path('merged') }))
  }

  async commit(id: string, options: CommitOptions): Promise<string> {
    const entry = this.#o.table.get(id)
    return this.#withLayers(entry, async (view, sources) => {
      const changes = await findChanges({ ...sources, merged: view.path('merged') })
      const fd = openSync(view.path('merged'), constants.O_RDONLY | constants.O_DIRECTORY)
      try {
        return await this.#o.commit(entry.record.imageId, id, changes.length === 0 ? undefined : layerOf(changes, fd), options)
      } finally {
        closeSync(fd)
      }
    })
  }

  async export(id: string): Promise<Readable> {
    const entry = this.#o.table.get(id)
    const view = await this.#openMerged(entry)
    const fd = openSync(view.path('merged'), constants.O_RDONLY | constants.O_DIRECTORY)
    const tar = packTree({ directory: fd, names: readdirSync(`/proc/self/fd/${fd}`), recurse: true })
    tar.once('close', () => {
      closeSync(fd)
      void view.close()
    })
    return tar
  }

  async withFolder<T>(id: string, path: string, work: (hostPath: string | undefined) => Promise<T>): Promise<T> {
    const view = await this.#openMerged(this.#o.table.get(id))
    const root = view.root('merged')
    try {
      const found = root.find(path, { followLast: true })
      try {
        return await work(found?.stats.isDirectory() === true ? `/proc/${process.pid}/fd/${found.fd}` : undefined)
      } finally {
        found?.close()
      }
    } finally {
      root.close()
      await view.close()
    }
  }

  async sizes(id: string): Promise<{ writableBytes: number; rootBytes: number }> {
    const { client, snapshotter, table } = this.#o
    table.get(id)
    const [{ size }, info] = await Promise.all([client.snapshots.usage(snapshotter, id), client.snapshots.stat(snapshotter, id)])
    let rootBytes = size
    for (let name = info.parent; name !== '';) {
      let layer = this.#layerBytes.get(name)
      if (layer === undefined) {
        const [usage, stat] = await Promise.all([client.snapshots.usage(snapshotter, name), client.snapshots.stat(snapshotter, name)])
        layer = { bytes: usage.size, parent: stat.parent }
        this.#layerBytes.set(name, layer)
      }
      rootBytes += layer.bytes
      name = layer.parent
    }
    return { writableBytes: size, rootBytes }
  }

  /** The container's files without its mounts, read-only: beside what may run. */
  async #openMerged(entry: Entry): Promise<View> {
    const directories = layerDirectories(await this.#o.tasks.mountsOf(entry))
    if (directories === undefined) throw new EngineError('failed', 'the snapshotter gives no single mount for a container')
    return openView(this.#o.dir, { merged: readOnlyMount(directories) })
  }

  async #withLayers<T>(
    entry: Entry, work: (view: View, sources: { upper: string; lower: string; whole: boolean; mountPoints: Set<string> }) => Promise<T>,
  ): Promise<T> {
    const { id } = entry.record.spec
    const { client, snapshotter } = this.#o
    const mounts = await this.#o.tasks.mountsOf(entry)
    const [upper, ...lower] = layerDirectories(mounts) ?? []
    if (upper === undefined) throw new EngineError('failed', 'the snapshotter gives no single mount for a container')
    const whole = mounts[0]?.type !== 'overlay' && (await client.snapshots.stat(snapshotter, id)).parent !== ''
    const key = `gantry-compare-${id}-${process.pid}-${Date.now()}`
    try {
      const image = whole ? await this.#viewOfParent(id, key) : lower
      const view = await openView(this.#o.dir, { lower: readOnlyMount(image), merged: readOnlyMount([upper, ...lower]) })
      try {
        return await work(view, { upper, lower: view.path('lower'), whole, mountPoints: mountPoints(entry.record.spec) })
      } finally {
        await view.close()
      }
    } finally {
      if (whole) await orAbsent(client.snapshots.remove(snapshotter, key)).catch(() => undefined)
    }
  }

  /** Labelled as a container's: one that is left over is swept with those that have no record. */
  async #viewOfParent(id: string, key: string): Promise<string[]> {
    const { client, snapshotter } = this.#o
    const { parent, labels } = await client.snapshots.stat(snapshotter, id)
    return layerDirectories(await client.snapshots.view({ snapshotter, key, parent, labels })) ?? []
  }

  async #withRoot<T>(entry: Entry, mounts: Mount[] | undefined, work: (root: Root) => Promise<T>): Promise<T> {
    const open = await this.#openRoot(entry, mounts)
    try {
      return await work(open.root)
    } finally {
      await open.close()
    }
  }

  /** As the container sees it. One that does not run is mounted, and can neither start nor be removed until this is closed. */
  async #openRoot(entry: Entry, mounts: Mount[] | undefined): Promise<OpenRoot> {
    const running = runningRoot(entry)
    if (running !== undefined) return running
    const closed = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<OpenRoot>()
    this.#o.table.locked(entry, async () => {
      const now = runningRoot(entry)
      if (now !== undefined) { opened.resolve(now); return }
      await entry.cleanup
      opened.resolve(await this.#mount(entry, mounts, closed.resolve))
      await closed.promise
    }).catch(opened.reject)
    return opened.promise
  }

  async #mount(entry: Entry, mounts: Mount[] | undefined, onClose: () => void): Promise<OpenRoot> {
    const [mount, ...more] = await this.#o.tasks.mountsOf(entry)
    if (mount === undefined || more.length > 0) throw new EngineError('failed', 'the snapshotter gives no single mount for a container')
    const view = await openView(this.#o.dir, { root: writable(mount) })
    const root = view.root('root')
    const close = async (): Promise<void> => {
      entry.closeFiles = undefined
      root.close()
      await view.close()
      onClose()
    }
    try {
      for (const m of ociMounts({ ...withMounts(entry.record.spec, mounts), init: false }, { cgroupV2: false })) {
        if (m.type !== 'bind' || m.destination === '/sys' || m.destination === '/dev/shm') continue
        if (await bindInto(view, root, m.source, m.destination) && !m.options.includes('rw')) await protect(view, root, m.destination)
      }
    } catch (e) {
      await close()
      throw e
    }
    let closing: Promise<void> | undefined
    const once = (): Promise<void> => closing ??= close()
    entry.closeFiles = once
    return { root, close: once }
  }
}

function writable(m: SnapshotMount): SnapshotMount { return m.type === 'bind' ? { ...m, options: ['bind', 'rw'] } : m }

function withMounts(spec: ContainerSpec, mounts: Mount[] | undefined): ContainerSpec { return mounts === undefined ? spec : { ...spec, mounts } }

/** A volume or file over its place, which is made as a runtime would make it. What does not fit is left as it is: false. */
async function bindInto(view: View, root: Root, source: string, destination: string): Promise<boolean> {
  let directory: boolean
  try {
    const fd = openSync(source, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_DIRECTORY)
    closeSync(fd)
    directory = true
  } catch {
    directory = false
  }
  const found = root.find(directory ? destination : dirname(destination), { followLast: true, makeDirectories: true })
  if (found === undefined) return false
  try {
    if (directory) {
      if (found.stats.isDirectory()) await view.bind(source, found.fd)
      return found.stats.isDirectory()
    }
    let file = root.find(destination, { followLast: true })
    if (file === undefined && found.stats.isDirectory()) {
      try {
        closeSync(openSync(entryPath(found.fd, basename(destination)), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o644))
      } catch (e) {
        // A link that leads nowhere.
        if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e
      }
      file = root.find(destination, { followLast: true })
    }
    if (file === undefined || !file.stats.isFile()) { file?.close(); return false }
    try {
      await view.bind(source, file.fd)
      return true
    } finally {
      file.close()
    }
  } finally {
    found.close()
  }
}

/** What is mounted there may lie below a directory that is written to: the kernel refuses it as in the container. */
async function protect(view: View, root: Root, destination: string): Promise<void> {
  const mounted = root.find(destination, { followLast: true })
  if (mounted === undefined) return
  try {
    await view.protect(mounted.fd)
  } finally {
    mounted.close()
  }
}

function runningRoot(entry: Entry): OpenRoot | undefined {
  const r = entry.record
  if (!isAlive(r) || r.pid === undefined) return undefined
  let root: Root
  try {
    root = new Root(`/proc/${r.pid}/root`)
  } catch {
    // It exited just now.
    return undefined
  }
  return { root, close: () => { root.close(); return Promise.resolve() } }
}

function notFound(path: string, id: string): EngineError { return new EngineError('not-found', `Could not find the file ${path} in container ${id}`) }

/** A link at the end is meant itself, unless a slash or `/.` follows it. */
function locate(root: Root, path: string, id: string): Located {
  const found = root.find(path, { followLast: /(?:^|\/)\.?$/.test(path) })
  if (found === undefined) throw notFound(path, id)
  if (/\/\.?$/.test(path) && !found.stats.isDirectory()) {
    found.close()
    throw notFound(path, id)
  }
  return found
}

function pathInfo(root: Root, found: Located, path: string): PathInfo {
  const { mode, size, mtimeMs } = found.stats
  const clean = path.replace(/\/+$/, '')
  const name = clean === '' ? '/' : basename(clean)
  return { name, sizeBytes: size, mode, mtimeMs, linkTarget: found.target === undefined ? '' : root.follow(join('/', clean)) }
}

/** Where the container has mounts, as its spec names them: what a runtime made for them is no change. */
function mountPoints(spec: ContainerSpec): Set<string> {
  return new Set(ociMounts({ ...spec, init: false }, { cgroupV2: true }).map((m) => m.destination).concat(spec.init === true ? ['/sbin/docker-init'] : []))
}

function refuseReadOnly(spec: ContainerSpec, target: string): void {
  const over = (spec.mounts ?? []).filter((m) => target === m.target.replace(/\/+$/, '') || target.startsWith(`${m.target.replace(/\/+$/, '')}/`))
  const innermost = over.sort((a, b) => b.target.length - a.target.length)[0]
  if (innermost === undefined ? spec.readOnlyRootfs === true : innermost.readOnly === true) {
    throw new EngineError('invalid', innermost === undefined ? 'container rootfs is marked read-only' : 'mounted volume is marked read-only')
  }
}

/** Paths below `path`, relative to it, where a running container has the kernel's file systems or its own /dev. */
async function kernelDirectories(entry: Entry, path: string): Promise<string[]> {
  const { pid } = entry.record
  if (pid === undefined) return []
  const prefix = path === '/' ? '/' : `${path}/`
  const table = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')
  const out: string[] = []
  for (const line of table.split('\n')) {
    const [front, back] = line.split(' - ')
    const point = (front?.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, o: string) => String.fromCharCode(parseInt(o, 8)))
    const type = back?.split(' ')[0] ?? ''
    if (point.startsWith(prefix) && (KERNEL_FILE_SYSTEMS.has(type) || point === '/dev')) out.push(point.slice(prefix.length))
  }
  return out
}
