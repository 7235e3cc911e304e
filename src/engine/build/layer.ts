/**
 * COPY, ADD and WORKDIR as layers: the files become a tar directly, which containerd unpacks. Nothing is written into a
 * mounted file system, so no link in an image can lead a write anywhere.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { Pack } from 'tar-stream'
import { EngineError } from '../engine.ts'
import { resolvePath } from './tree.ts'
import type { Node, Tree } from './tree.ts'

export interface Owner { uid: number; gid: number }

/** One thing to bring to a place in the image. */
export interface CopyItem {
  tree: Tree
  /** Path in the tree, links resolved. */
  path: string
  /** Contents of the directory go into the destination, instead of the directory itself. */
  contents: boolean
  /** Name under a destination directory. */
  name: string
}

export interface CopyPlan {
  items: CopyItem[]
  /** Absolute path in the image. */
  destination: string
  /** The destination is a directory, by its text or because several things go there. */
  intoDirectory: boolean
  /** All files get it; left out: the source's. */
  owner?: Owner
  /** Permission bits for all files, from --chmod. */
  mode?: number
}

interface Entry { path: string; node: Node; tree?: Tree }

/** What of a plan makes a difference to the layer, as a hash: names, types, modes, owners, contents; not times. */
export async function planDigest(plan: Pick<CopyPlan, 'items' | 'owner' | 'mode'>): Promise<string> {
  const hash = createHash('sha256')
  const visit = async (tree: Tree, path: string, name: string): Promise<void> => {
    const n = await tree.lstat(path)
    if (n === undefined) return
    const owner = plan.owner ?? n
    hash.update(JSON.stringify([name, n.type, plan.mode ?? n.mode, owner.uid, owner.gid, n.target ?? '', n.type === 'file' ? await tree.digest(n) : '']))
    if (n.type === 'directory') for (const child of await tree.list(path)) await visit(tree, join(path, child), `${name}/${child}`)
  }
  for (const i of plan.items) {
    if (i.contents) {
      hash.update('contents')
      for (const child of await i.tree.list(i.path)) await visit(i.tree, join(i.path, child), child)
    } else {
      await visit(i.tree, i.path, i.name)
    }
  }
  return hash.digest('hex')
}

/**
 * The plan as a tar over `target` (the image as it is so far); undefined if it adds nothing. Throws `invalid` where the two
 * do not go together.
 */
export async function layerTar(plan: CopyPlan, target: Tree): Promise<Readable | undefined> {
  const entries = await planEntries(plan, target)
  if (entries.length === 0) return undefined
  const tar = pack()
  writeEntries(tar, entries, plan).catch((e: unknown) => { tar.destroy(e as Error) })
  return Readable.from(tar as unknown as AsyncIterable<Buffer>, { objectMode: false, highWaterMark: 256 * 1024 })
}

async function planEntries(plan: CopyPlan, target: Tree): Promise<Entry[]> {
  const entries: Entry[] = []
  const made = new Set<string>()
  const now = Date.now()
  /** Directories above a path that the image lacks. */
  const parents = async (path: string, owner: Owner): Promise<void> => {
    const parts = path.split('/').filter(p => p !== '')
    for (let n = 1; n <= parts.length; n++) {
      const p = parts.slice(0, n).join('/')
      if (made.has(p)) continue
      made.add(p)
      const there = await target.lstat(p)
      if (there?.type === 'directory') continue
      if (there !== undefined) throw new EngineError('invalid', `cannot copy to "${plan.destination}": /${p} is not a directory`)
      entries.push({ path: p, node: { path: p, type: 'directory', mode: 0o755, ...owner, sizeBytes: 0, mtimeMs: now } })
    }
  }
  const add = async (tree: Tree, from: string, to: string): Promise<void> => {
    const node = await tree.lstat(from)
    if (node === undefined || node.type === 'other') return
    const base = to.slice(to.lastIndexOf('/') + 1)
    if (base.startsWith('.wh.')) throw new EngineError('invalid', `"${from}": names beginning with .wh. cannot be part of an image`)
    if (node.type !== 'directory') {
      entries.push({ path: to, node, tree })
      return
    }
    // The image may have a link to a directory here (/lib → usr/lib): its target is meant, and the link stays.
    const there = await target.lstat(to)
    let real = to
    if (there?.type === 'symlink') {
      const resolved = await resolvePath(target, to)
      if ((await target.lstat(resolved))?.type === 'directory') real = resolved
    }
    if (real === to) {
      entries.push({ path: to, node })
      made.add(to)
    }
    for (const child of await tree.list(from)) await add(tree, join(from, child), join(real, child))
  }

  const owner = plan.owner ?? { uid: 0, gid: 0 }
  const destination = await resolvePath(target, plan.destination)
  const existing = await target.lstat(destination)
  const directory = plan.intoDirectory || existing?.type === 'directory' || destination === ''
  for (const item of plan.items) {
    if (item.contents) {
      await parents(destination, owner)
      for (const child of await item.tree.list(item.path)) await add(item.tree, join(item.path, child), join(destination, child))
    } else if (directory) {
      await parents(destination, owner)
      await add(item.tree, item.path, join(destination, item.name))
    } else {
      await parents(destination.split('/').slice(0, -1).join('/'), owner)
      await add(item.tree, item.path, destination)
    }
  }
  if (plan.items.length === 0) await parents(destination, owner)
  return entries
}

async function writeEntries(tar: Pack, entries: Entry[], plan: CopyPlan): Promise<void> {
  for (const { path, node, tree } of entries) {
    const owner = plan.owner ?? node
    const header = {
      name: node.type === 'directory' ? `${path}/` : path, uid: owner.uid, gid: owner.gid, mtime: new Date(Math.floor(node.mtimeMs / 1000) * 1000),
      // Directories made on the way have no source and keep their usual mode.
      mode: plan.mode !== undefined && tree !== undefined && node.type === 'file' ? plan.mode : node.mode,
    }
    if (node.type === 'directory') tar.entry({ ...header, type: 'directory' })
    else if (node.type === 'symlink') tar.entry({ ...header, type: 'symlink', linkname: node.target! })
    else {
      const entry = tar.entry({ ...header, type: 'file', size: node.sizeBytes })
      for await (const chunk of tree!.read(node) as AsyncIterable<Buffer>) {
        if (!entry.write(chunk)) await once(entry as unknown as NodeJS.EventEmitter, 'drain')
      }
      entry.end(undefined)
    }
  }
  tar.finalize()
}

const join = (a: string, b: string): string => (a === '' ? b : `${a}/${b}`)
