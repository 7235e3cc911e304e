/** A committed snapshot mounted read-only, as a tree: the target that COPY looks at, and the source of COPY --from. */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { lstat, mkdir, open, readdir, readlink, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Stats } from 'node:fs'
import { promisify } from 'node:util'
import { mountsBelow } from '../../files/mounts.ts'
import type { Mount } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ImageContext } from '../images/assemble.ts'
import type { Node, Tree } from './tree.ts'

const run = promisify(execFile)

export interface MountedRootfs extends Tree {
  /** Where it is mounted; empty for a tree without files. */
  root: string
  /** Text of a regular file of at most `maxBytes`; undefined if there is none. The path must be free of links. */
  text(path: string, maxBytes: number): Promise<string | undefined>
  close(): Promise<void>
}

/** The tree of an image without layers. */
export const EMPTY_ROOTFS: MountedRootfs = {
  root: '',
  lstat: path => Promise.resolve(path === '' ? { path: '', type: 'directory', mode: 0o755, uid: 0, gid: 0, sizeBytes: 0, mtimeMs: 0 } : undefined),
  list: () => Promise.resolve([]),
  read: () => { throw new EngineError('failed', 'an empty file system has no files') },
  digest: () => Promise.reject(new EngineError('failed', 'an empty file system has no files')),
  text: () => Promise.resolve(undefined),
  close: () => Promise.resolve(),
}

/** Mounts the snapshot below `dir`; `writable`: what is written is thrown away. Close it: the mount and its view go. */
export async function mountRootfs(
  x: ImageContext, dir: string, chainId: string, lease: string, { writable = false }: { writable?: boolean } = {},
): Promise<MountedRootfs> {
  if (chainId === '') return EMPTY_ROOTFS
  const id = randomBytes(6).toString('hex')
  const key = `gantry-view-${id}`
  const root = join(dir, id)
  const mounts = await x.containerd.snapshots[writable ? 'prepare' : 'view']({ snapshotter: x.snapshotter, key, parent: chainId }, { lease })
  const dropView = (): Promise<void> => x.containerd.snapshots.remove(x.snapshotter, key)
  try {
    await mkdir(root, { recursive: true, mode: 0o700 })
    await mountSnapshot(mounts, root, writable)
  } catch (e) {
    await rmdir(root).catch(() => undefined)
    await dropView().catch(() => undefined)
    throw e
  }
  return {
    ...directoryTree(root),
    root,
    async text(path, maxBytes) {
      const handle = await open(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => undefined)
      if (handle === undefined) return undefined
      try {
        const stat = await handle.stat()
        return stat.isFile() && stat.size <= maxBytes ? await handle.readFile('utf8') : undefined
      } finally {
        await handle.close()
      }
    },
    async close() {
      await run('umount', ['-l', root])
      await rmdir(root)
      await dropView()
    },
  }
}

async function mountSnapshot(mounts: Mount[], root: string, writable: boolean): Promise<void> {
  const m = mounts[0]
  if (m === undefined || mounts.length !== 1) throw new EngineError('failed', 'the snapshotter gives no single mount for a layer')
  let options = [...m.options.filter(o => o !== 'rw' && o !== 'ro' && o !== 'rbind'), writable ? 'rw' : 'ro']
  let cwd = '/'
  const lower = options.find(o => o.startsWith('lowerdir='))
  if (lower !== undefined) {
    // The options must fit one page: with many layers only relative paths do.
    const paths = lower.slice('lowerdir='.length).split(':')
    const base = dirname(dirname(paths[0]!))
    if (paths.every(p => p.startsWith(`${base}/`))) {
      cwd = base
      options = options.map(o => (o === lower ? `lowerdir=${paths.map(p => p.slice(base.length + 1)).join(':')}` : o))
    }
  }
  const bind = m.type === 'bind'
  try {
    // A bind mount takes its source's flags; the view is nobody's to write anyway, and this process only reads.
    await run('mount', bind ? ['--bind', '-o', writable ? 'rw' : 'ro', m.source, root] : ['-t', m.type, '-o', options.join(','), m.source, root], { cwd })
  } catch (e) {
    throw new EngineError('failed', `a layer cannot be mounted: ${(e as { stderr?: string }).stderr?.trim() || (e as Error).message}`)
  }
}

function toNode(path: string, s: Stats, target?: string): Node {
  const type = s.isFile() ? 'file' : s.isDirectory() ? 'directory' : s.isSymbolicLink() ? 'symlink' : 'other'
  return {
    path, type, mode: s.mode & 0o7777, uid: s.uid, gid: s.gid, sizeBytes: type === 'file' ? s.size : 0, mtimeMs: s.mtimeMs,
    ...(target === undefined ? {} : { target }),
  }
}

/** Paths given to it must be free of links (see resolvePath): the last component is never followed. */
function directoryTree(root: string): Tree {
  const read = (node: Node) => createReadStream(join(root, node.path), { flags: 'r', highWaterMark: 256 * 1024 })
  return {
    async lstat(path) {
      const host = join(root, path)
      try {
        const s = await lstat(host)
        return toNode(path, s, s.isSymbolicLink() ? await readlink(host) : undefined)
      } catch (e) {
        const code = (e as NodeJS.ErrnoException).code
        if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
        throw e
      }
    },
    list: async path => (await readdir(join(root, path))).sort(),
    read,
    async digest(node) {
      const hash = createHash('sha256')
      for await (const chunk of read(node) as AsyncIterable<Buffer>) hash.update(chunk)
      return hash.digest('hex')
    },
  }
}

/** Unmounts what a killed engine left below `dir` and empties it. For the start only. */
export async function clearMounts(dir: string): Promise<void> {
  for (const p of mountsBelow(dir)) if (p !== dir) await run('umount', ['-l', p])
  for (const name of await readdir(dir).catch(() => [])) await rm(join(dir, name), { recursive: true, force: true })
}
