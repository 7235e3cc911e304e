/** What COPY and ADD read from: the context (or an unpacked archive) in memory, behind the same face as a mounted stage. */
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import type { TarIndex, TarMember } from '../archive/tar-index.ts'
import { componentMatcher, hasWildcard } from './glob.ts'

/** An entry of a tree; `path` is relative to the tree's root. */
export type Node = Omit<TarMember, 'sha256' | 'offset'>

export interface Tree {
  /** The entry itself, links not followed; undefined if absent. */
  lstat(path: string): Promise<Node | undefined>
  /** Names in a directory, sorted. */
  list(path: string): Promise<string[]>
  read(node: Node): Readable
  /** sha256 of a file's content, hex. */
  digest(node: Node): Promise<string>
}

const MAX_LINKS = 40
/** Entries and the directories that their names imply, of which one name may have thousands. */
const MAX_NODES = 2_000_000

/**
 * Follows symbolic links inside the tree: `..` stops at the root and absolute targets begin there, so nothing outside of it
 * can be named. Resolves with the path without links; parts that do not exist are taken as they stand.
 */
export async function resolvePath(tree: Pick<Tree, 'lstat'>, path: string): Promise<string> {
  let todo = path.split('/')
  let done: string[] = []
  for (let links = 0; todo.length > 0;) {
    const part = todo.shift()!
    if (part === '' || part === '.') continue
    if (part === '..') {
      done.pop()
      continue
    }
    const node = await tree.lstat([...done, part].join('/'))
    if (node?.type !== 'symlink') {
      done.push(part)
      continue
    }
    if (++links > MAX_LINKS) throw new EngineError('invalid', `too many symbolic links in "${path}"`)
    if (node.target!.startsWith('/')) done = []
    todo = [...node.target!.split('/'), ...todo]
  }
  return done.join('/')
}

/** A source path may not climb out, as a matter of its text. */
export function cleanSource(path: string): string {
  const out: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') out.push(part)
    else if (out.pop() === undefined) throw new EngineError('invalid', `forbidden path outside the build context: ${path}`)
  }
  return out.join('/')
}

/** Paths that a source names: itself, or those its wildcards fit, sorted. Empty if there is none. */
export async function matchSources(tree: Tree, source: string): Promise<string[]> {
  const path = cleanSource(source)
  if (!hasWildcard(path)) return await tree.lstat(await resolvePath(tree, path)) === undefined ? [] : [path]
  let found = ['']
  for (const part of path.split('/')) {
    const next: string[] = []
    const matches = hasWildcard(part) ? componentMatcher(part) : undefined
    for (const base of found) {
      const real = await resolvePath(tree, base)
      if ((await tree.lstat(real))?.type !== 'directory') continue
      if (matches === undefined) {
        const child = base === '' ? part : `${base}/${part}`
        if (await tree.lstat(await resolvePath(tree, child)) !== undefined) next.push(child)
      } else {
        for (const name of await tree.list(real)) if (matches(name)) next.push(base === '' ? name : `${base}/${name}`)
      }
    }
    found = next
  }
  return found.sort()
}

/** A tree of files that are not in an archive: here-documents and downloads, all in its root. */
export function fileTree(files: { name: string; sizeBytes: number; sha256: string; mode: number; mtimeMs: number; read(): Readable }[]): Tree {
  const root: Node = { path: '', type: 'directory', mode: 0o755, uid: 0, gid: 0, sizeBytes: 0, mtimeMs: 0 }
  const find = (name: string) => files.find(f => f.name === name)
  return {
    lstat: path => {
      const f = find(path)
      if (f === undefined) return Promise.resolve(path === '' ? root : undefined)
      return Promise.resolve({ path, type: 'file', mode: f.mode, uid: 0, gid: 0, sizeBytes: f.sizeBytes, mtimeMs: f.mtimeMs })
    },
    list: () => Promise.resolve(files.map(f => f.name).sort()),
    read: node => find(node.path)!.read(),
    digest: node => Promise.resolve(find(node.path)!.sha256),
  }
}

/** A tree over an archive's index; `ignored` leaves paths out, `rootOwned` makes everything root's. */
export function archiveTree(archive: TarIndex, options: { ignored?: (path: string) => boolean; rootOwned?: boolean } = {}): Tree {
  const ignored = options.ignored ?? (() => false)
  const children = new Map<string, Set<string>>([['', new Set()]])
  const nodes = new Map<string, Node>()
  const directory = (path: string): Node => ({ path, type: 'directory', mode: 0o755, uid: 0, gid: 0, sizeBytes: 0, mtimeMs: 0 })
  nodes.set('', archive.members.get('') ?? directory(''))
  const add = (node: Node): void => {
    if (nodes.size > MAX_NODES) throw new EngineError('invalid', `the archive has more than ${MAX_NODES} files and directories`)
    if (node.type === 'directory' && !children.has(node.path)) children.set(node.path, new Set())
    nodes.set(node.path, options.rootOwned === true ? { ...node, uid: 0, gid: 0 } : node)
    const slash = node.path.lastIndexOf('/')
    const parent = slash < 0 ? '' : node.path.slice(0, slash)
    if (nodes.get(parent)?.type !== 'directory') {
      const known = archive.members.get(parent)
      add(known?.type === 'directory' ? known : directory(parent))
    }
    children.get(parent)!.add(node.path.slice(slash + 1))
  }
  // A directory that is left out still exists for what is kept below it.
  for (const m of archive.members.values()) if (m.path !== '' && !ignored(m.path)) add(m)
  return {
    lstat: path => Promise.resolve(nodes.get(path)),
    list: path => Promise.resolve([...children.get(path) ?? []].sort()),
    read: node => archive.read(archive.members.get(node.path)!),
    digest: node => Promise.resolve(archive.members.get(node.path)!.sha256!),
  }
}
