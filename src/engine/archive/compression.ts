/** Finds out how a stream is compressed and undoes it. */
import { spawn } from 'node:child_process'
import { PassThrough, pipeline, Readable } from 'node:stream'
import type { Transform } from 'node:stream'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { EngineError } from '../engine.ts'

export type Compression = 'none' | 'gzip' | 'zstd' | 'bzip2' | 'xz'

/** By the first bytes; six are enough. */
export function detect(head: Uint8Array): Compression {
  const starts = (...bytes: number[]) => bytes.every((b, i) => head[i] === b)
  if (starts(0x1f, 0x8b, 0x08)) return 'gzip'
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd'
  if (starts(0x42, 0x5a, 0x68)) return 'bzip2'
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return 'xz'
  return 'none'
}

/** Reads at least `count` bytes (fewer at the end of the stream) and gives them back with the whole stream. */
export async function peek(input: Readable, count: number): Promise<{ head: Buffer; stream: Readable }> {
  const chunks: Buffer[] = []
  let size = 0
  const iterator = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let ended = false
  while (size < count) {
    const next = await iterator.next()
    if (next.done === true) {
      ended = true
      break
    }
    chunks.push(Buffer.from(next.value))
    size += next.value.length
  }
  const head = Buffer.concat(chunks)
  async function* whole() {
    try {
      if (head.length > 0) yield head
      while (!ended) {
        const next = await iterator.next()
        if (next.done === true) return
        yield next.value
      }
    } finally {
      input.destroy()
    }
  }
  return { head, stream: Readable.from(whole(), { objectMode: false, highWaterMark: 256 * 1024 }) }
}

/** A decompressor made of a program of the machine, for formats that zlib lacks. */
function programStream(input: Readable, program: string): Readable {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'pipe'] })
  const out = new PassThrough()
  let stderr = ''
  child.stderr.on('data', (d: Buffer) => { if (stderr.length < 1000) stderr += String(d) })
  const fail = (text: string) => out.destroy(new EngineError('invalid', text))
  child.on('error', () => fail(`the archive is compressed with ${program}, which is not installed here`))
  child.on('close', code => { if (code === 0) out.end(); else fail(`${program}: ${stderr.trim() || `exit code ${code}`}`) })
  pipeline(input, child.stdin, e => { if (e !== null && e !== undefined && (e as NodeJS.ErrnoException).code !== 'EPIPE') child.kill() })
  child.stdout.pipe(out, { end: false })
  out.on('close', () => child.kill())
  return out
}

/** The plain stream, and what it was. Errors of the compressed data surface on the returned stream as `invalid`. */
export async function decompress(input: Readable): Promise<{ compression: Compression; stream: Readable }> {
  const { head, stream } = await peek(input, 6)
  const compression = detect(head)
  if (compression === 'none') return { compression, stream }
  if (compression === 'bzip2' || compression === 'xz') return { compression, stream: programStream(stream, compression) }
  const inflate: Transform = compression === 'gzip' ? createGunzip({ chunkSize: 256 * 1024 }) : createZstdDecompress({ chunkSize: 256 * 1024 })
  const out = new PassThrough()
  pipeline(stream, inflate, out, () => {
    // pipeline destroys `out` with the cause; nothing to add.
  })
  return { compression, stream: out }
}
