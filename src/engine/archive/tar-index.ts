/**
 * Reads a tar stream into one spool file and an index of its members in memory. Nothing is unpacked, so links, devices and
 * odd names cannot reach the machine's own files: a member is only a range of bytes in the spool.
 */
import { createHash } from 'node:crypto'
import { open, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { Readable, Transform } from 'node:stream'
import { extract } from 'tar-stream'
import type { Header } from 'tar-stream'
import { EngineError } from '../engine.ts'
import { entryName } from './entry-name.ts'

const BLOCK_BYTES = 512

export interface TarMember {
  /** Relative to the root; '' is the root. */
  path: string
  type: 'file' | 'directory' | 'symlink' | 'other'
  /** Permission bits with set-id and sticky. */
  mode: number
  uid: number
  gid: number
  sizeBytes: number
  mtimeMs: number
  /** Target of a symbolic link. */
  target?: string
  /** sha256 of a file's content, hex. */
  sha256?: string
  /** Where a file's content begins in the spool. */
  offset: number
}

export interface TarLimits {
  maxBytes: number
  maxMembers: number
  /** Which files and links to keep; all when left out. Directories are always kept. */
  keep?: (path: string) => boolean
  /** Devices and FIFOs: `refuse` (the default) or `skip`. Hard links are resolved inside the archive. */
  special?: 'refuse' | 'skip'
}

/** Names and targets of links stay in memory, and one may have megabytes: no real archive has so many bytes of them. */
const MAX_NAME_BYTES = 64 << 20

export interface TarIndex {
  members: Map<string, TarMember>
  read(member: TarMember): Readable
  close(): Promise<void>
}

/**
 * Spools `stream` (plain tar) to `path`, which is unlinked at once: it lives as long as the handle. Rejects with `invalid`
 * for a broken archive, a name outside of the root, or a limit passed.
 */
export async function indexTar(stream: Readable, path: string, limits: TarLimits): Promise<TarIndex> {
  const spool = await open(path, 'wx+', 0o600)
  await unlink(path)
  try {
    const members = await spoolMembers(stream, spool, limits)
    return {
      members,
      read: m => m.sizeBytes === 0
        ? Readable.from([], { objectMode: false })
        : Readable.from(readRange(spool, m.offset, m.sizeBytes), { objectMode: false, highWaterMark: 512 * 1024 }),
      close: () => spool.close(),
    }
  } catch (e) {
    stream.destroy()
    await spool.close()
    throw e
  }
}

/** Yields `size` bytes of the file from `offset`; a fresh buffer for each piece, as readers may keep them. */
export async function* readRange(file: FileHandle, offset: number, size: number): AsyncGenerator<Buffer> {
  let at = offset
  const end = offset + size
  while (at < end) {
    const buffer = Buffer.allocUnsafe(Math.min(256 * 1024, end - at))
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
    if (bytesRead === 0) throw new EngineError('failed', 'the spooled archive is shorter than its index says')
    at += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

async function spoolMembers(stream: Readable, spool: FileHandle, limits: TarLimits): Promise<Map<string, TarMember>> {
  const members = new Map<string, TarMember>()
  const hardLinks: { path: string; target: string }[] = []
  let written = 0
  let seen = 0
  let nameBytes = 0
  let contentEnd = 0
  const tar = extract()
  const padded = new Padded()
  stream.on('error', e => tar.destroy(e))
  stream.pipe(padded).pipe(tar)
  try {
    for await (const entry of tar) {
      const h: Header & { byteOffset?: number } = entry.header
      contentEnd = (h.byteOffset ?? 0) + (h.type === 'directory' ? 0 : h.size ?? 0)
      const path = entryName(h.name)
      if (++seen > limits.maxMembers) throw new EngineError('invalid', `the archive has more than ${limits.maxMembers} members`)
      nameBytes += path.length + (h.linkname?.length ?? 0)
      if (nameBytes > MAX_NAME_BYTES) throw new EngineError('invalid', `the archive's names are longer than ${MAX_NAME_BYTES} bytes together`)
      const directory = h.type === 'directory'
      if (!directory && limits.keep?.(path) === false) {
        entry.resume()
        await drained(entry as unknown as Readable)
        continue
      }
      const base = {
        path, mode: (h.mode ?? 0o644) & 0o7777, uid: h.uid ?? 0, gid: h.gid ?? 0, mtimeMs: h.mtime?.getTime() ?? 0, offset: written, sizeBytes: 0,
      }
      if (h.type === 'file' || h.type === 'contiguous-file') {
        if (path === '') throw new EngineError('invalid', 'the archive has a file without a name')
        const hash = createHash('sha256')
        let size = 0
        for await (const chunk of entry as unknown as AsyncIterable<Buffer>) {
          if (written + size + chunk.length > limits.maxBytes) {
            throw new EngineError('invalid', `the archive holds more than ${limits.maxBytes} bytes`)
          }
          hash.update(chunk)
          await writeAll(spool, chunk, written + size)
          size += chunk.length
        }
        members.set(path, { ...base, type: 'file', sizeBytes: size, sha256: hash.digest('hex') })
        written += size
        continue
      }
      if (directory) members.set(path, { ...base, type: 'directory' })
      else if (h.type === 'symlink') members.set(path, { ...base, type: 'symlink', target: h.linkname ?? '' })
      else if (h.type === 'link') hardLinks.push({ path, target: entryName(h.linkname ?? '') })
      else if (limits.special !== 'skip') throw new EngineError('invalid', `the archive holds a ${h.type} ("${h.name}"): only files, directories and links are allowed`)
      entry.resume()
      await drained(entry as unknown as Readable)
    }
    if (contentEnd > padded.readBytes) throw new Error('it ends within a file')
  } catch (e) {
    if (e instanceof EngineError) throw e
    throw new EngineError('invalid', `the archive cannot be read: ${e instanceof Error ? e.message : String(e)}`)
  }
  for (const link of hardLinks) {
    const to = members.get(link.target)
    if (to === undefined || to.type !== 'file') throw new EngineError('invalid', `hard link "${link.path}" points to "${link.target}", which is no file of the archive`)
    members.set(link.path, { ...to, path: link.path })
  }
  return members
}

/** Fills the last block: the docker command leaves its padding out where it puts a Dockerfile from standard input into the context. */
class Padded extends Transform {
  readBytes = 0

  override _transform(chunk: Buffer, _: BufferEncoding, done: (error: Error | null, data: Buffer) => void): void {
    this.readBytes += chunk.length
    done(null, chunk)
  }

  override _flush(done: (error: Error | null, data?: Buffer) => void): void {
    const rest = this.readBytes % BLOCK_BYTES
    if (rest === 0) done(null)
    else done(null, Buffer.alloc(BLOCK_BYTES - rest))
  }
}

async function writeAll(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length;) done += (await file.write(data, done, data.length - done, position + done)).bytesWritten
}

/** tar-stream moves on when an entry's stream has been read to its end. */
async function drained(entry: Readable): Promise<void> {
  if (entry.readableEnded || entry.destroyed) return
  for await (const _ of entry) { /* dropped */ }
}
