/**
 * The thread that unpacks one layer: decompresses, hashes and writes files at once, while the layer still arrives. It writes into a folder that
 * is empty at first, below directories that it made itself, so that no link leads it anywhere. What it is not sure to do as containerd does
 * (extended attributes, devices, entries that need what lies in the layers below) it gives up, and containerd unpacks the blob.
 */
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import type { Transform } from 'node:stream'
import { parentPort, workerData } from 'node:worker_threads'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { extract } from 'tar-stream'
import type { Header } from 'tar-stream'
import { detect } from '../archive/compression.ts'
import { entryName } from '../archive/entry-name.ts'
import type { FromExtractor, RootAttributes, ToExtractor } from './extract.ts'

/** `reserveBytes`: what must stay free of the disk. `whiteout`: a device to be linked where a file of a lower layer is gone. */
const { dir, memory, slotBytes, whiteout, reserveBytes } = workerData as {
  dir: string; memory: SharedArrayBuffer; slotBytes: number; whiteout: string | undefined; reserveBytes: number
}
const CHECK_EVERY_BYTES = 32 << 20
const WHITEOUT = '.wh.'
const O_NEW = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW

const port = parentPort!
const say = (message: FromExtractor): void => { port.postMessage(message) }
/** Ends the thread; what is in the folder is the parent's to remove. */
function giveUp(message: FromExtractor): void {
  say(message)
  port.close()
  input?.destroy()
  tar.destroy()
}

const hash = createHash('sha256')
const tar = extract()
/** What was made, by path. */
const made = new Map<string, 'directory' | 'file' | 'other'>([['', 'directory']])
/** Times of directories change with what is made in them: they are set last. */
const times: [path: string, seconds: number][] = []
let root: RootAttributes | undefined
let input: Transform | undefined
let plainBytes = 0
let fileBytes = 0
let checkAt = CHECK_EVERY_BYTES

class Unsure extends Error {}

tar.on('entry', (header, content, next) => {
  try {
    const fd = enter(header)
    if (fd === undefined) {
      content.on('end', next)
      content.resume()
      return
    }
    content.on('data', (data: unknown) => {
      if (over) return
      const chunk = data as Buffer
      try {
        for (let at = 0; at < chunk.length;) at += fs.writeSync(fd, chunk, at)
      } catch (e) {
        fs.closeSync(fd)
        failed(e)
      }
    })
    content.on('end', () => {
      try {
        // Always: a directory may hand on its group.
        fs.fchownSync(fd, header.uid!, header.gid!)
        fs.fchmodSync(fd, header.mode! & 0o7777)
        const at = secondsOf(header)
        fs.futimesSync(fd, at, at)
        fs.closeSync(fd)
        next()
      } catch (e) {
        failed(e)
      }
    })
  } catch (e) {
    failed(e)
  }
})
tar.on('error', failed)
tar.on('finish', () => {
  try {
    for (const [path, at] of times) fs.utimesSync(`${dir}/${path}`, at, at)
    say({ kind: 'done', diffId: `sha256:${hash.digest('hex')}`, plainBytes, fileBytes, ...(root === undefined ? {} : { root }) })
    port.close()
  } catch (e) {
    failed(e)
  }
})

let over = false
function failed(e: unknown): void {
  if (over) return
  over = true
  giveUp((e as NodeJS.ErrnoException).code === 'ENOSPC' ? { kind: 'full' } : { kind: 'unsure', why: (e as Error).message })
}

/** Makes the entry, if it is not a file: of that it answers the descriptor. Throws where containerd had better do it. */
function enter(h: Header): number | undefined {
  const pax = extended(h)
  for (const name of Object.keys(pax)) if (/xattr|sparse/i.test(name)) throw new Unsure(name)
  if (pax['uid'] !== undefined) h.uid = Number(pax['uid'])
  if (pax['gid'] !== undefined) h.gid = Number(pax['gid'])
  if (![h.uid, h.gid, h.mode].every(n => Number.isSafeInteger(n))) throw new Unsure('owner')
  // Bytes that are no UTF-8 were replaced on the way: the files would have other names.
  if (`${h.name}${h.linkname ?? ''}`.includes('\ufffd')) throw new Unsure('name')
  // What such entries bring along others take for nothing, and read the next header there.
  if (h.type !== 'file' && h.type !== 'contiguous-file' && (h.size ?? 0) > 0) throw new Unsure('size')
  const path = entryName(h.name)
  if (path === '') {
    if (h.type !== 'directory') throw new Unsure('root')
    root = { uid: h.uid!, gid: h.gid!, mode: h.mode! & 0o7777, seconds: secondsOf(h) }
    return undefined
  }
  const slash = path.lastIndexOf('/')
  // A parent that is not in this layer is one below, with attributes of its own, or a link.
  if (made.get(slash < 0 ? '' : path.slice(0, slash)) !== 'directory') throw new Unsure('parent')
  const host = `${dir}/${path}`
  const base = path.slice(slash + 1)
  if (base.startsWith(WHITEOUT)) {
    // Two dots more: marks of aufs, and whole directories made opaque by an extended attribute.
    if (base.startsWith(`${WHITEOUT}${WHITEOUT}`) || whiteout === undefined) throw new Unsure('whiteout')
    fs.linkSync(whiteout, `${dir}/${path.slice(0, slash + 1)}${base.slice(WHITEOUT.length)}`)
    return undefined
  }
  const before = made.get(path)
  if (before !== undefined && !(before === 'directory' && h.type === 'directory')) throw new Unsure('twice')
  switch (h.type) {
    case 'directory':
      if (before === undefined) fs.mkdirSync(host)
      made.set(path, 'directory')
      fs.chownSync(host, h.uid!, h.gid!)
      fs.chmodSync(host, h.mode! & 0o7777)
      times.push([path, secondsOf(h)])
      return undefined
    case 'file':
    case 'contiguous-file':
      made.set(path, 'file')
      fileBytes += h.size ?? 0
      return fs.openSync(host, O_NEW, 0o600)
    case 'symlink': {
      made.set(path, 'other')
      fs.symlinkSync(h.linkname!, host)
      fs.lchownSync(host, h.uid!, h.gid!)
      const at = secondsOf(h)
      fs.lutimesSync(host, at, at)
      fileBytes += Buffer.byteLength(h.linkname!)
      return undefined
    }
    case 'link': {
      const target = entryName(h.linkname!)
      if (made.get(target) !== 'file') throw new Unsure('link')
      made.set(path, 'file')
      fs.linkSync(`${dir}/${target}`, host)
      // As containerd: the last of its names says what the file is like.
      fs.chownSync(host, h.uid!, h.gid!)
      fs.chmodSync(host, h.mode! & 0o7777)
      const at = secondsOf(h)
      fs.utimesSync(host, at, at)
      return undefined
    }
    default:
      throw new Unsure(h.type ?? 'type')
  }
}

const extended = (h: Header): Record<string, string | undefined> => (h.pax ?? {}) as Record<string, string>

function secondsOf(h: Header): number {
  const exact = Number(extended(h)['mtime'] ?? NaN)
  return Number.isFinite(exact) ? exact : (h.mtime?.getTime() ?? 0) / 1000
}

/** Plain bytes, in order. False: wait for `drain`. */
function plain(chunk: Buffer): boolean {
  hash.update(chunk)
  plainBytes += chunk.length
  if (plainBytes >= checkAt) {
    checkAt = plainBytes + CHECK_EVERY_BYTES
    const { bavail, bsize } = fs.statfsSync(dir)
    if (bavail * bsize < reserveBytes) {
      failed(Object.assign(new Error('full'), { code: 'ENOSPC' }))
      return true
    }
  }
  return over || tar.write(chunk)
}

/** Small enough that the allocator does not map and unmap each. */
const options = { chunkSize: 64 << 10 }
let started = false
port.on('message', (m: ToExtractor) => {
  if (over) return
  if (m.kind === 'end') {
    if (input !== undefined) input.end()
    else tar.end(undefined)
    return
  }
  const { slot } = m
  const data = Buffer.from(memory, slot * slotBytes, m.bytes)
  if (!started) {
    started = true
    const compression = detect(data)
    if (compression === 'bzip2' || compression === 'xz') { failed(new Unsure(compression)); return }
    if (compression !== 'none') {
      input = compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options)
      input.on('data', (chunk: Buffer) => {
        if (plain(chunk)) return
        input!.pause()
        tar.once('drain', () => { input!.resume() })
      })
      input.on('end', () => { tar.end(undefined) })
      input.on('error', failed)
    }
  }
  const taken = (): void => { if (!over) say({ kind: 'taken', slot }) }
  if (input !== undefined) {
    input.write(data, taken)
    return
  }
  // The reader of the archive may keep pieces of it.
  if (plain(Buffer.from(data))) taken()
  else tar.once('drain', taken)
})
