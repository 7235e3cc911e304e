/** COPY and ADD: from the instruction to a plan of what goes where. */
import { createHash, randomBytes } from 'node:crypto'
import { open, unlink } from 'node:fs/promises'
import { basename, join, posix } from 'node:path'
import { Readable } from 'node:stream'
import { decompress } from '../archive/compression.ts'
import { indexTar, readRange } from '../archive/tar-index.ts'
import { EngineError } from '../engine.ts'
import { http } from '../registry/http.ts'
import { lookupUser } from '../containers/users.ts'
import { parseError } from './dockerfile.ts'
import type { Instruction } from './dockerfile.ts'
import type { CopyItem, Owner } from './layer.ts'
import type { MountedRootfs } from './rootfs.ts'
import { archiveTree, fileTree, matchSources, resolvePath } from './tree.ts'
import type { Tree } from './tree.ts'
import { expand, splitWords } from './words.ts'
import type { Lookup } from './words.ts'

export interface CopyRequest {
  sources: string[]
  /** The destination as it is written, variables put in. */
  written: string
  /** Absolute. */
  destination: string
  intoDirectory: boolean
  from?: string
  chown?: string
  mode?: number
  checksum?: string
}

const MAX_DOWNLOAD_BYTES = 16 * 2 ** 30
const MAX_ARCHIVE = { maxBytes: 32 * 2 ** 30, maxMembers: 1_000_000, special: 'skip' as const }

export function parseCopy(i: Instruction, lookup: Lookup, escape: string, workingDir: string): CopyRequest {
  const words = (i.json ?? splitWords(i.args, escape)).map(w => (w.startsWith('<<') ? w : expand(w, lookup, escape)))
  if (words.length < 2) throw parseError(i.line, `${i.name} requires at least two arguments: sources and a destination`)
  const to = words.at(-1)!
  const sources = words.slice(0, -1)
  const out: CopyRequest = {
    sources, written: to, destination: posix.resolve(workingDir === '' ? '/' : workingDir, to),
    intoDirectory: to.endsWith('/') || to === '.' || to === '..' || to.endsWith('/.') || to.endsWith('/..'),
  }
  for (const { name, value } of i.flags) {
    const v = expand(value, lookup, escape)
    if (name === 'from' && i.name === 'COPY') out.from = v
    else if (name === 'chown') out.chown = v
    else if (name === 'chmod') {
      if (!/^0?[0-7]{3,4}$/.test(v)) throw parseError(i.line, `--chmod wants an octal mode such as 755, not "${v}"`)
      out.mode = parseInt(v, 8)
    } else if (name === 'checksum' && i.name === 'ADD') out.checksum = v
    // Layers here never depend on the files below them, which is what --link asks for.
    else if (name !== 'link') throw parseError(i.line, `Unknown flag: ${name}`)
  }
  if (sources.length > 1 && !out.intoDirectory) {
    throw parseError(i.line, `When using ${i.name} with more than one source file, the destination must be a directory and end with a /`)
  }
  return out
}

/** `--chown` against the image's own passwd and group. */
export async function resolveOwner(chown: string, rootfs: MountedRootfs): Promise<Owner> {
  const read = async (path: string) => rootfs.text(await resolvePath(rootfs, path), 1 << 20)
  const [passwd, group] = await Promise.all([read('etc/passwd'), read('etc/group')])
  const { uid, gid } = lookupUser(chown, { passwd, group })
  // A number alone names the group as well.
  return /^\d+$/.test(chown) ? { uid, gid: Number(chown) } : { uid, gid }
}

export interface Resources { spoolDir: string; signal: AbortSignal; lookup: Lookup; escape: string; onClose(close: () => Promise<void>): void }

/** What the sources stand for. Throws `invalid` for what is not there. */
export async function copyItems(i: Instruction, r: CopyRequest, tree: Tree, res: Resources): Promise<CopyItem[]> {
  const items: CopyItem[] = []
  let docs = 0
  for (const source of r.sources) {
    if (source.startsWith('<<') && i.heredocs[docs] !== undefined) items.push(heredocItem(i, docs++, res))
    else if (i.name === 'ADD' && /^https?:\/\//i.test(source)) items.push(await download(source, r, i.line, res))
    else if (i.name === 'ADD' && /^(git@|git:\/\/|ssh:\/\/)/.test(source)) throw parseError(i.line, `ADD from git ("${source}") is not supported: RUN git clone does it`)
    else {
      const found = await matchSources(tree, source)
      if (found.length === 0) {
        const where = r.from === undefined ? 'build context or excluded by .dockerignore' : `"${r.from}"`
        throw new EngineError('invalid', `${i.name} failed: file not found in ${where}: stat ${source}: file does not exist`)
      }
      for (const path of found) items.push(await pathItem(i, path, tree, res))
    }
  }
  if (items.length > 1 && !r.intoDirectory) {
    throw parseError(i.line, `When using ${i.name} with more than one source file, the destination must be a directory and end with a /`)
  }
  return items
}

function heredocItem(i: Instruction, n: number, res: Resources): CopyItem {
  const doc = i.heredocs[n]!
  // Quotes are text in a document; only variables are put in.
  const content = doc.literal ? doc.content : expandDocument(doc.content, res)
  const data = Buffer.from(content)
  const name = basename(doc.name)
  const tree = fileTree([{
    name, sizeBytes: data.length, sha256: createHash('sha256').update(data).digest('hex'), mode: 0o644, mtimeMs: 0,
    read: () => Readable.from([data], { objectMode: false }),
  }])
  return { tree, path: name, contents: false, name }
}

function expandDocument(content: string, res: Resources): string {
  const protectedText = content.replace(/["']/g, q => `${res.escape}${q}`)
  return expand(protectedText, res.lookup, res.escape)
}

async function pathItem(i: Instruction, path: string, tree: Tree, res: Resources): Promise<CopyItem> {
  const real = await resolvePath(tree, path)
  const node = (await tree.lstat(real))!
  if (node.type === 'other') throw parseError(i.line, `${i.name}: "${path}" is neither file, directory nor link`)
  const name = basename(path)
  if (node.type === 'directory') return { tree, path: real, contents: true, name }
  if (i.name === 'ADD') {
    const unpacked = await tryArchive(tree, real, res)
    if (unpacked !== undefined) return { tree: unpacked, path: '', contents: true, name }
  }
  return { tree, path: real, contents: false, name }
}

/** A local archive's tree, or undefined if the file is none. Only the content decides. */
async function tryArchive(tree: Tree, path: string, res: Resources): Promise<Tree | undefined> {
  const node = (await tree.lstat(path))!
  if (node.sizeBytes < 10) return undefined
  const probe = await decompress(tree.read(node))
  try {
    if (!await looksLikeTar(probe.stream)) return undefined
  } finally {
    probe.stream.destroy()
  }
  const { stream } = await decompress(tree.read(node))
  const index = await indexTar(stream, join(res.spoolDir, `add-${randomBytes(8).toString('hex')}`), MAX_ARCHIVE)
  res.onClose(() => index.close())
  return archiveTree(index)
}

/** The header's own checksum must fit. */
async function looksLikeTar(stream: Readable): Promise<boolean> {
  const parts: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      parts.push(chunk)
      size += chunk.length
      if (size >= 512) break
    }
  } catch {
    // Compressed, but broken: then it is only a file.
    return false
  }
  if (size < 512) return false
  const header = Buffer.concat(parts).subarray(0, 512)
  const stored = parseInt(header.toString('latin1', 148, 156).replace(/[\0 ]+$/, '').trim(), 8)
  let sum = 8 * 32
  for (const [n, b] of header.entries()) if (n < 148 || n >= 156) sum += b
  return stored === sum
}

async function download(source: string, r: CopyRequest, line: number, res: Resources): Promise<CopyItem> {
  const url = new URL(source)
  const name = decodeURIComponent(posix.basename(url.pathname))
  if (name === '' && r.intoDirectory) throw parseError(line, `cannot determine a file name from ${source}`)
  const answer = await http({ method: 'GET', url, signal: res.signal })
  if (answer.status !== 200) {
    answer.body.destroy()
    throw new EngineError('failed', `ADD failed: ${source} answered ${answer.status}`)
  }
  const path = join(res.spoolDir, `download-${randomBytes(8).toString('hex')}`)
  const file = await open(path, 'wx+', 0o600)
  res.onClose(() => file.close())
  await unlink(path)
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    if (size + chunk.length > MAX_DOWNLOAD_BYTES) throw new EngineError('failed', `ADD failed: ${source} is larger than ${MAX_DOWNLOAD_BYTES} bytes`)
    hash.update(chunk)
    for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done, chunk.length - done, size + done)).bytesWritten
    size += chunk.length
  }
  const sha256 = hash.digest('hex')
  if (r.checksum !== undefined && r.checksum !== `sha256:${sha256}`) {
    throw new EngineError('failed', `ADD failed: ${source} has the digest sha256:${sha256}, not ${r.checksum}`)
  }
  const modified = Date.parse(answer.headers['last-modified'] ?? '')
  const label = name === '' ? 'download' : name
  const tree = fileTree([{
    name: label, sizeBytes: size, sha256, mode: 0o600, mtimeMs: Number.isNaN(modified) ? 0 : modified,
    read: () => Readable.from(readRange(file, 0, size), { objectMode: false, highWaterMark: 512 * 1024 }),
  }])
  return { tree, path: label, contents: false, name: label }
}
