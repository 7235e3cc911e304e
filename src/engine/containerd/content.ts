/** Blobs: reading by stream, and resumable uploads with flow control. */
import type { Call } from './call.ts'
import type { Connection } from './grpc.ts'
import { Code, ContainerdError } from './status.ts'
import type { CallOptions, Labels } from './types.ts'

const SERVICE = 'containerd.services.content.v1.Content'
/** Below gRPC's usual 4 MiB, and small enough to keep memory flat with many layers in flight. */
const CHUNK_BYTES = 1 << 20

export async function* readContent(
  c: Connection, digest: string, range: { offset?: number; size?: number }, options?: CallOptions,
): AsyncGenerator<Buffer> {
  const request = { digest, offset: range.offset ?? 0, size: range.size ?? 0 }
  for await (const part of c.serverStream<{ data: Buffer }>(SERVICE, 'Read', request, options)) yield part.data
}

export interface WriterOptions {
  /** Names the upload: one writer at a time (`unavailable` while another holds it), resumed by the same name. */
  ref: string
  /** Bytes, when known. */
  total?: number
  /** `sha256:…`, when known. */
  expected?: string
}

interface Answer { action: string; offset: number; total: number; digest: string }

/** An open upload. Writes are checked by containerd in order; each resolves when containerd has taken the bytes. */
export class ContentWriter {
  readonly #call: Call
  readonly #options: WriterOptions
  #waiting: { resolve(a: Answer): void; reject(e: Error): void }[] = []
  #failure: Error | undefined
  /** Bytes containerd has: where to go on after a resume. */
  offset = 0

  constructor(c: Connection, w: WriterOptions, options: CallOptions) {
    this.#options = w
    this.#call = c.duplex(SERVICE, 'Write', options, {
      onMessage: (answer) => { this.#waiting.shift()?.resolve(answer as Answer) },
      onEnd: (error) => { this.#fail(error ?? new ContainerdError(Code.unavailable, 'containerd ended the upload', 'Write')) },
    })
  }

  #fail(e: Error): void {
    this.#failure ??= e
    const waiting = this.#waiting
    this.#waiting = []
    for (const w of waiting) w.reject(this.#failure)
  }

  #send(request: object): Promise<Answer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#call.send(request)
    })
  }

  async open(): Promise<this> {
    const { ref, total = 0, expected = '' } = this.#options
    try {
      this.offset = (await this.#send({ action: 'STAT', ref, total, expected })).offset
    } catch (e) {
      this.close()
      throw e
    }
    return this
  }

  /** About {@link CHUNK_BYTES} in pieces, which need no joining before. */
  async writePieces(pieces: Buffer[]): Promise<void> {
    this.offset = (await this.#send({ action: 'WRITE', ref: this.#options.ref, offset: this.offset, data: pieces })).offset
  }

  async write(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; at += CHUNK_BYTES) {
      const part = data.subarray(at, at + CHUNK_BYTES)
      const answer = await this.#send({ action: 'WRITE', ref: this.#options.ref, offset: this.offset, data: part })
      this.offset = answer.offset
    }
  }

  /**
   * Ends the upload as a blob; resolves with its digest. `alreadyExists` if the store has it already, `failedPrecondition`
   * if size or digest differ from what was expected.
   */
  async commit(labels: Labels = {}, expected = this.#options.expected ?? '', total = this.offset): Promise<string> {
    const answer = await this.#send({ action: 'COMMIT', ref: this.#options.ref, offset: this.offset, total, expected, labels })
    this.close()
    return answer.digest
  }

  /** Lets go of the upload; what was taken stays for a resume until it is collected or aborted. */
  close(): void {
    this.#failure ??= new Error('the upload is closed')
    this.#call.cancel()
  }
}

export function openWriter(c: Connection, w: WriterOptions, options: CallOptions = {}): Promise<ContentWriter> {
  return new ContentWriter(c, w, options).open()
}
