/** Makes what `RUN --mount` asks for: stages, images and the context as folders, caches, secrets. */
import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { chmod, chown, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { EngineError } from '../engine.ts'
import type { Mount } from '../engine.ts'
import type { ImageContext } from '../images/assemble.ts'
import type { CacheMounts } from './cache-mounts.ts'
import { parseError } from './dockerfile.ts'
import { planDigest } from './layer.ts'
import { mountRootfs } from './rootfs.ts'
import type { RunMount } from './run-flags.ts'
import { cleanSource, resolvePath } from './tree.ts'
import type { Tree } from './tree.ts'

export interface MountSources {
  x: ImageContext
  lease: string
  signal: AbortSignal
  /** Where stages are mounted; where the context is written out. */
  mountDir: string
  runDir: string
  context: Tree
  caches: CacheMounts
  secrets: Record<string, Buffer>
  /** chainID of a stage or image that `from` names. */
  chainOf(from: string): Promise<string>
}

export interface PreparedMounts { mounts: Mount[]; env: string[]; close(): Promise<void> }

/** What of the mounts decides the step's outcome: their words, and the content of what is bound. Caches and secrets by name only. */
export async function mountsIdentity(mounts: RunMount[], s: MountSources): Promise<string> {
  return JSON.stringify(await Promise.all(mounts.map(async m => {
    if (m.type !== 'bind') return m
    if (m.from !== undefined) return [m, await s.chainOf(m.from)]
    const path = await resolvePath(s.context, cleanSource(m.source))
    return [m, await planDigest({ items: [{ tree: s.context, path, contents: false, name: '' }] })]
  })))
}

/** All of them, or none: what was made is taken away again when one fails. */
export async function prepareMounts(wanted: RunMount[], s: MountSources, line: number): Promise<PreparedMounts> {
  const closers: (() => Promise<void> | void)[] = []
  const out: PreparedMounts = {
    mounts: [], env: [],
    async close() { for (const c of closers.splice(0).reverse()) await c() },
  }
  try {
    for (const m of wanted) await prepare(m, s, line, out, closers)
    return out
  } catch (e) {
    await out.close()
    throw e
  }
}

async function prepare(m: RunMount, s: MountSources, line: number, out: PreparedMounts, closers: (() => Promise<void> | void)[]): Promise<void> {
  switch (m.type) {
    case 'tmpfs':
      out.mounts.push({ type: 'tmpfs', target: m.target, ...(m.sizeBytes === undefined ? {} : { sizeBytes: m.sizeBytes }), options: ['exec'] })
      return
    case 'secret': {
      const data = Object.hasOwn(s.secrets, m.id) ? s.secrets[m.id] : undefined
      if (data === undefined) {
        if (m.required) throw parseError(line, `secret ${m.id}: not found: give it to the build`)
        return
      }
      if (m.env !== undefined) out.env.push(`${m.env}=${data.toString('utf8')}`)
      if (m.target === undefined) return
      const file = join(s.runDir, `secret-${randomBytes(8).toString('hex')}`)
      closers.push(() => rm(file, { force: true }))
      await writeFile(file, data, { mode: 0o600 })
      await chown(file, m.uid, m.gid)
      await chmod(file, m.mode)
      out.mounts.push({ type: 'bind', source: file, target: m.target, readOnly: true })
      return
    }
    case 'cache': {
      const fill = m.from === undefined ? undefined : async (dir: string) => {
        const rootfs = await mountRootfs(s.x, s.mountDir, await s.chainOf(m.from!), s.lease)
        try {
          await writeTree(rootfs, await resolvePath(rootfs, m.source), dir)
        } finally {
          await rootfs.close()
        }
      }
      const cache = await s.caches.open({ id: m.id, sharing: m.sharing, mode: m.mode, uid: m.uid, gid: m.gid, ...(fill && { fill }) }, s.signal)
      closers.push(() => cache.release())
      out.mounts.push({ type: 'bind', source: cache.path, target: m.target, readOnly: m.readOnly })
      return
    }
    case 'bind': {
      let root: string, tree: Tree
      if (m.from === undefined) {
        root = join(s.runDir, `context-${randomBytes(8).toString('hex')}`)
        closers.push(() => rm(root, { recursive: true, force: true }))
        await mkdir(root, { mode: 0o755 })
        tree = s.context
        const path = await resolvePath(tree, cleanSource(m.source))
        if (await tree.lstat(path) === undefined) throw new EngineError('invalid', `RUN --mount: "${m.source}" is not in the build context`)
        const single = (await tree.lstat(path))!.type !== 'directory'
        await writeTree(tree, path, single ? join(root, 'file') : root)
        if (single) root = join(root, 'file')
      } else {
        const rootfs = await mountRootfs(s.x, s.mountDir, await s.chainOf(m.from), s.lease, { writable: !m.readOnly })
        closers.push(() => rootfs.close())
        const path = await resolvePath(rootfs, m.source)
        if (await rootfs.lstat(path) === undefined) throw new EngineError('invalid', `RUN --mount: "${m.source}" is not in "${m.from}"`)
        if (rootfs.root === '') throw new EngineError('invalid', `RUN --mount: "${m.from}" holds no files`)
        root = join(rootfs.root, path)
      }
      out.mounts.push({ type: 'bind', source: root, target: m.target, readOnly: m.readOnly })
    }
  }
}

/** Writes a tree's entry and what is below it as `to`, which may exist if it is a directory. */
async function writeTree(tree: Tree, path: string, to: string): Promise<void> {
  const node = await tree.lstat(path)
  if (node === undefined || node.type === 'other') return
  if (node.type === 'symlink') {
    await symlink(node.target!, to)
    return
  }
  if (node.type === 'file') {
    await pipeline(tree.read(node), createWriteStream(to, { flags: 'wx', mode: 0o600 }))
  } else {
    await mkdir(to, { recursive: true })
    for (const name of await tree.list(path)) await writeTree(tree, path === '' ? name : `${path}/${name}`, join(to, name))
  }
  await chown(to, node.uid, node.gid)
  await chmod(to, node.mode)
}
