/** Compresses rotated files one after another, in the background, in a stream: memory stays flat. */
import { createReadStream, createWriteStream, existsSync, renameSync, rmSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { constants, createZstdCompress } from 'node:zlib'

export class Compressor {
  readonly #queue: string[] = []
  #running: Promise<void> | undefined

  /** `path` becomes `path.zst`. Failures leave the plain file, which readers understand as well. */
  add(path: string): void {
    this.#queue.push(path)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    for (let path = this.#queue.shift(); path !== undefined; path = this.#queue.shift()) {
      // Rotated away again while waiting.
      if (!existsSync(path)) continue
      const temporary = `${path}.tmp`
      try {
        const compress = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 1 } })
        await pipeline(createReadStream(path, { highWaterMark: 1 << 18 }), compress, createWriteStream(temporary, { mode: 0o600 }))
        if (!existsSync(path)) { rmSync(temporary, { force: true }); continue }
        renameSync(temporary, `${path}.zst`)
        rmSync(path, { force: true })
      } catch {
        rmSync(temporary, { force: true })
      }
    }
    this.#running = undefined
  }
}
