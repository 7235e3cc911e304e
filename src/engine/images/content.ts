/** Blobs in and out of containerd: leases, uploads that resume, small reads with a bound. */
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, hasCode } from '../containerd/index.ts'
import type { ContainerdClient, ContentWriter } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { Descriptor } from './media-types.ts'

/** Manifests and configurations larger than this are refused, as registries do. */
export const MAX_DOCUMENT_BYTES = 4 << 20
/** Pieces in which bytes go to containerd: each is acknowledged, so small ones would cost a round trip each. */
const WRITE_BYTES = 1 << 20
const END_LATER_MS = 5000
const LEASE_MS = 24 * 3600_000
/** Marks our leases; its value says what for. */
export const LEASE_LABEL = 'gantry/lease'

export const sha256 = (data: Uint8Array | string): string => `sha256:${createHash('sha256').update(data).digest('hex')}`

/**
 * Runs `work` with a lease that protects everything made under it. The lease goes when the work ends, and at the latest a
 * day later; those of `kind`s other than `pull` that a killed engine left are removed by `removeStaleLeases`.
 */
export async function withLease<T>(c: ContainerdClient, kind: string, work: (lease: string) => Promise<T>): Promise<T> {
  const id = `gantry-${kind}-${randomBytes(8).toString('hex')}`
  await createLease(c, id, kind)
  try {
    return await work(id)
  } finally {
    await endLease(c, id)
  }
}

/** For whom `withLease` does not fit: with an id of the caller's, who ends it. */
export async function createLease(c: ContainerdClient, id: string, kind: string): Promise<void> {
  await c.leases.create(id, lease(kind))
}

export async function endLease(c: ContainerdClient, id: string): Promise<void> {
  try {
    await c.leases.delete(id)
  } catch (e) {
    if (hasCode(e, Code.notFound)) return
    // containerd has been lost, and is back soon.
    setTimeout(() => { c.leases.delete(id).catch(() => undefined) }, END_LATER_MS).unref()
    throw e
  }
}

/**
 * As withLease, with a name that the same pull finds again: its half-done uploads outlive a failure that `keep` says may pass,
 * and a kill of the engine.
 */
export async function withPullLease<T>(
  c: ContainerdClient, subject: string, keep: (e: unknown) => boolean, work: (lease: string) => Promise<T>,
): Promise<T> {
  const id = `gantry-pull-${createHash('sha256').update(subject).digest('hex').slice(0, 32)}`
  const old = (await c.leases.list([`id==${id}`]))[0]
  if (old !== undefined) {
    // One about to expire could be collected under our feet.
    const left = Date.parse(old.labels['containerd.io/gc.expire'] ?? '') - Date.now()
    if (!(left > 3600_000)) await c.leases.delete(id)
  }
  await c.leases.create(id, lease('pull')).catch((e: unknown) => { if (!hasCode(e, Code.alreadyExists)) throw e })
  let kept = false
  try {
    return await work(id)
  } catch (e) {
    kept = keep(e)
    throw e
  } finally {
    if (!kept) await endLease(c, id)
  }
}

function lease(kind: string): { labels: Record<string, string>; expiresMs: number } {
  return { labels: { [LEASE_LABEL]: kind }, expiresMs: LEASE_MS }
}

/**
 * Resolves when what nothing holds any more is gone. containerd collects by itself only after many changes, or when an image goes;
 * a lease that is deleted and waited for makes it do so now.
 */
export async function collectGarbage(c: ContainerdClient): Promise<void> {
  const id = `gantry-collect-${randomBytes(8).toString('hex')}`
  await c.leases.create(id, lease('collect'))
  await c.leases.delete(id, true)
}

/** Removes what an engine killed in the middle of its work left behind, except pulls, which resume. For the start only. */
export async function removeStaleLeases(c: ContainerdClient): Promise<void> {
  const stale = (await c.leases.list()).filter(l => l.labels[LEASE_LABEL] !== undefined && l.labels[LEASE_LABEL] !== 'pull')
  await Promise.all(stale.map(l => c.leases.delete(l.id)))
  if (stale.length > 0) collectGarbage(c).catch(() => undefined)
}

/** A stream of the source's bytes from some offset on; it may begin earlier than asked for (at 0) when it cannot seek. */
export interface OpenedAt { stream: Readable; offset: number }

export interface Ingest {
  /** Name of the upload: the same one resumes. */
  ref: string
  digest: string
  size: number
  labels: Record<string, string>
  lease: string
  signal?: AbortSignal
  onBytes?(total: number): void
  /** Called once, before the first byte, if the blob comes whole from its beginning; it then gets every byte, in order. */
  openTap?(): Tap | undefined
}

/** Reads a blob on its way into the store. What goes wrong with it is its own business: the blob is stored all the same. */
export interface Tap {
  /** Resolves when more may come; the data may be used again then. */
  write(pieces: Buffer[]): Promise<void>
  /** `whole`: all bytes have come, and are those that were expected. */
  end(whole: boolean): void
}

/** How often a source may break off while it makes progress or not, before the upload is given up. */
const MAX_ATTEMPTS = 5

/**
 * Brings a blob of known digest and size into the content store; present already is success. Broken streams are opened
 * again where they ended. Rejects with `failed` for wrong content, or the source's own error.
 */
export async function ingest(c: ContainerdClient, i: Ingest, open: (offset: number) => Promise<OpenedAt>): Promise<void> {
  const writer = await openWriter(c, i)
  if (writer === undefined) {
    if (Object.keys(i.labels).length > 0) await c.content.label(i.digest, i.labels, { lease: i.lease })
    return
  }
  const tap = writer.offset === 0 ? i.openTap?.() : undefined
  try {
    for (let attempt = 1; writer.offset < i.size; attempt++) {
      const before = writer.offset
      try {
        await copyInto(writer, i, await open(writer.offset), tap)
      } catch (e) {
        if (e instanceof EngineError && e.code !== 'unavailable') throw e
        if (writer.offset > before) attempt = 0
        if (attempt >= MAX_ATTEMPTS || i.signal?.aborted === true) throw e
        await sleep(100 * 2 ** attempt, undefined, { signal: i.signal })
      }
    }
    await writer.commit(i.labels, i.digest, i.size)
    tap?.end(true)
  } catch (e) {
    writer.close()
    tap?.end(false)
    if (hasCode(e, Code.alreadyExists)) {
      await c.content.label(i.digest, i.labels, { lease: i.lease })
      return
    }
    if (hasCode(e, Code.failedPrecondition)) {
      await c.content.abort(i.ref).catch(() => undefined)
      throw new EngineError('failed', `content of ${i.digest} is wrong: ${(e as Error).message}`)
    }
    if (e instanceof EngineError && e.code === 'failed') await c.content.abort(i.ref).catch(() => undefined)
    throw e
  }
}

/** undefined: the blob is there. Waits for another writer of the same upload. */
async function openWriter(c: ContainerdClient, i: Ingest): Promise<ContentWriter | undefined> {
  for (let pause = 20; ; pause = Math.min(pause * 2, 1000)) {
    try {
      return await c.content.writer({ ref: i.ref, total: i.size, expected: i.digest }, { lease: i.lease, signal: i.signal })
    } catch (e) {
      if (hasCode(e, Code.alreadyExists)) return undefined
      if (!hasCode(e, Code.unavailable) || !/locked/.test((e as Error).message)) throw e
      await sleep(pause, undefined, { signal: i.signal })
    }
  }
}

async function copyInto(writer: ContentWriter, i: Ingest, source: OpenedAt, tap?: Tap): Promise<void> {
  let skip = writer.offset - source.offset
  if (skip < 0) throw new EngineError('failed', `the source answered from byte ${source.offset} where ${writer.offset} was asked for`)
  let pending: Buffer[] = []
  let size = 0
  const flush = async (): Promise<void> => {
    if (size === 0) return
    const pieces = pending
    pending = []
    size = 0
    await Promise.all([writer.writePieces(pieces), tap?.write(pieces)])
    i.onBytes?.(writer.offset)
  }
  try {
    for await (let chunk of source.stream as AsyncIterable<Buffer>) {
      i.signal?.throwIfAborted()
      if (skip > 0) {
        const dropped = Math.min(skip, chunk.length)
        skip -= dropped
        chunk = chunk.subarray(dropped)
      }
      if (chunk.length === 0) continue
      if (writer.offset + size + chunk.length > i.size) {
        throw new EngineError('failed', `content of ${i.digest} is wrong: more than the ${i.size} bytes it should have`)
      }
      pending.push(chunk)
      size += chunk.length
      if (size >= WRITE_BYTES) await flush()
    }
  } catch (e) {
    // What arrived is kept: the next attempt goes on behind it.
    if (!(e instanceof EngineError && e.code === 'failed')) await flush()
    throw e
  } finally {
    source.stream.destroy()
  }
  await flush()
  if (writer.offset < i.size) {
    throw new EngineError('unavailable', `the source ended after ${writer.offset} of ${i.size} bytes of ${i.digest}`)
  }
}

/** Writes a stream of unknown size; resolves with the blob's digest and size. */
export async function ingestStream(
  c: ContainerdClient, ref: string, stream: Readable, lease: string, onBytes?: (n: number) => void,
): Promise<{ digest: string; size: number }> {
  const writer = await c.content.writer({ ref }, { lease })
  try {
    const hash = createHash('sha256')
    let pending: Buffer[] = []
    let size = 0
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      hash.update(chunk)
      pending.push(chunk)
      size += chunk.length
      if (size >= WRITE_BYTES) {
        await writer.writePieces(pending)
        onBytes?.(writer.offset)
        pending = []
        size = 0
      }
    }
    if (size > 0) await writer.writePieces(pending)
    const digest = `sha256:${hash.digest('hex')}`
    const total = writer.offset
    try {
      await writer.commit({}, digest, total)
    } catch (e) {
      if (!hasCode(e, Code.alreadyExists)) throw e
    }
    return { digest, size: total }
  } catch (e) {
    writer.close()
    stream.destroy()
    await c.content.abort(ref).catch(() => undefined)
    throw e
  }
}

/** Stores a small document; resolves with its descriptor. */
export async function putDocument(
  c: ContainerdClient, mediaType: string, data: Buffer, labels: Record<string, string>, lease: string,
): Promise<Descriptor> {
  const digest = sha256(data)
  await ingest(c, { ref: `document-${digest}`, digest, size: data.length, labels, lease },
    offset => Promise.resolve({ stream: Readable.from([data.subarray(offset)], { objectMode: false }), offset }))
  return { mediaType, digest, size: data.length }
}

/** A small JSON document by digest. `not-found` if absent, `failed` if it is too large or no JSON. */
export async function readDocument<T>(c: ContainerdClient, digest: string): Promise<T> {
  const parts: Buffer[] = []
  let size = 0
  try {
    for await (const part of c.content.read(digest)) {
      parts.push(part)
      size += part.length
      if (size > MAX_DOCUMENT_BYTES) throw new EngineError('failed', `${digest} is too large for a manifest or configuration`)
    }
  } catch (e) {
    if (hasCode(e, Code.notFound)) throw new EngineError('not-found', `content ${digest} is not here`)
    throw e
  }
  return parseDocument<T>(Buffer.concat(parts), digest)
}

export function parseDocument<T>(data: Buffer, what: string): T {
  let value: unknown
  try {
    value = JSON.parse(data.toString('utf8'))
  } catch {
    throw new EngineError('failed', `${what} is not valid JSON`)
  }
  if (typeof value !== 'object' || value === null) throw new EngineError('failed', `${what} is no manifest or configuration`)
  return value as T
}

/** A blob as a stream, from `offset`, `size` bytes. */
export function blobStream(c: ContainerdClient, digest: string, range: { offset?: number; size?: number } = {}): Readable {
  return Readable.from(c.content.read(digest, range), { objectMode: false, highWaterMark: 256 * 1024 })
}
