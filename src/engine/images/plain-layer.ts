/**
 * Layers decompressed on their way: zlib's and zstd's threads of this process work while the blob still arrives, and containerd, whose
 * decompression is several times slower, gets the plain tar to unpack. The plain blob lives only until its layer is unpacked.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { statfs } from 'node:fs/promises'
import type { Transform } from 'node:stream'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { detect } from '../archive/compression.ts'
import { Code, hasCode } from '../containerd/index.ts'
import type { ContainerdClient, ContentWriter } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import { PLAIN_REF } from './content.ts'
import type { Tap } from './content.ts'

export interface PlainBlob { digest: string; size: number }

/** A decompressed layer must leave this much of the disk free: a bomb of some KB could fill it otherwise. */
const RESERVE_BYTES = 256 << 20
const CHECK_EVERY_BYTES = 64 << 20
const WRITE_BYTES = 1 << 20

/** Refuses to go on when the disk that holds `dir` is almost full. */
export async function checkSpace(dir: string, what: string): Promise<void> {
  const { bavail, bsize } = await statfs(dir)
  if (bavail * bsize < RESERVE_BYTES) throw new EngineError('failed', `${what}: no space left on device`)
}

/** The plain form of one compressed layer, written under `lease`. Feed it as a Tap; then ask for `blob`. */
export class PlainLayer implements Tap {
  readonly #containerd: ContainerdClient
  readonly #lease: string
  readonly #ref = `${PLAIN_REF}${randomBytes(8).toString('hex')}`
  readonly #spoolDir: string
  readonly #what: string
  #inflate: Transform | undefined
  /** There is nothing to do with what comes. */
  #passive = false
  #ended = false
  readonly #done = Promise.withResolvers<PlainBlob | undefined>()

  /** `spoolDir`: any folder on the disk that the layer goes to. `what`: for messages. */
  constructor(containerd: ContainerdClient, lease: string, spoolDir: string, what: string) {
    this.#containerd = containerd
    this.#lease = lease
    this.#spoolDir = spoolDir
    this.#what = what
    this.#done.promise.catch(() => {
      // Whoever needs the layer asks for it and hears of it then.
    })
  }

  /**
   * Undefined if the layer is no compressed one: its own blob will do. Rejects with `failed` if the data is broken, does not end well,
   * or would fill the disk. The blob is held by the lease.
   */
  get blob(): Promise<PlainBlob | undefined> { return this.#done.promise }

  async write(data: Buffer): Promise<void> {
    if (this.#passive) return
    if (this.#inflate === undefined) {
      const compression = detect(data)
      const options = { chunkSize: 256 << 10 }
      if (compression === 'gzip') this.#inflate = createGunzip(options)
      else if (compression === 'zstd') this.#inflate = createZstdDecompress(options)
      else {
        this.#passive = true
        if (compression === 'none') this.#done.resolve(undefined)
        else this.#done.reject(new EngineError('failed', `${this.#what} is compressed with ${compression}, which layers cannot be`))
        return
      }
      // It may fail before anybody reads it; who reads it then hears of that.
      this.#inflate.on('error', () => undefined)
      this.#store(this.#inflate).then(b => { this.#done.resolve(b) }, (e: unknown) => { this.#done.reject(e as Error) })
    }
    const inflate = this.#inflate
    if (inflate.destroyed || inflate.write(data)) return
    // A destroyed stream never drains, but closes.
    const stop = new AbortController()
    await Promise.race([once(inflate, 'drain', { signal: stop.signal }), once(inflate, 'close', { signal: stop.signal })]).catch(() => undefined)
    stop.abort()
  }

  end(whole: boolean): void {
    if (this.#ended) return
    this.#ended = true
    if (this.#passive) return
    if (this.#inflate === undefined) this.#done.reject(new EngineError('failed', `${this.#what} is empty`))
    else if (whole) this.#inflate.end()
    else this.#inflate.destroy(new EngineError('failed', `${this.#what} did not arrive whole`))
  }

  async #store(plain: Transform): Promise<PlainBlob> {
    const content = this.#containerd.content
    let writer: ContentWriter | undefined
    try {
      writer = await content.writer({ ref: this.#ref }, { lease: this.#lease })
      let pending: Buffer[] = []
      let size = 0
      let checkAt = 0
      const flush = async (): Promise<void> => {
        const data = pending.length === 1 ? pending[0]! : Buffer.concat(pending, size)
        pending = []
        size = 0
        if (writer!.offset >= checkAt) {
          await checkSpace(this.#spoolDir, this.#what)
          checkAt = writer!.offset + CHECK_EVERY_BYTES
        }
        await writer!.write(data)
      }
      for await (const chunk of plain as AsyncIterable<Buffer>) {
        pending.push(chunk)
        size += chunk.length
        if (size >= WRITE_BYTES) await flush()
      }
      if (size > 0) await flush()
      const total = writer.offset
      try {
        return { digest: await writer.commit({}), size: total }
      } catch (e) {
        // The same bytes are here as a layer of another image, and belong to the lease now.
        const digest = /sha256:[0-9a-f]{64}/.exec((e as Error).message)?.[0]
        if (!hasCode(e, Code.alreadyExists) || digest === undefined) throw e
        await this.#containerd.leases.addResource(this.#lease, { id: digest, type: 'content' })
        return { digest, size: total }
      }
    } catch (e) {
      plain.destroy()
      writer?.close()
      await content.abort(this.#ref).catch(() => undefined)
      if (e instanceof EngineError) throw e
      throw new EngineError('failed', `${this.#what} cannot be decompressed: ${(e as Error).message}`)
    }
  }
}
