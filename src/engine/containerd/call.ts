/** One gRPC call on an HTTP/2 stream (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md). */
import { constants } from 'node:http2'
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import type { MessageType } from './protobuf.ts'
import type { SessionKeeper } from './session.ts'
import { Code, ContainerdError } from './status.ts'
import type { CallOptions } from './types.ts'

/** Before each message: whether it is compressed (never, as we offer no compression), and its length. */
const HEAD_BYTES = 5
const MAX_MESSAGE_BYTES = 64 << 20
/** The longest time that `grpc-timeout` can say in milliseconds: eight digits. */
const MAX_TIMEOUT_MS = 99_999_999

export interface Method { path: string; name: string; request: MessageType; response: MessageType }
export interface CallHandlers {
  onMessage(message: object): void
  /** Called once, last: with nothing if the status was OK, else with a ContainerdError. */
  onEnd(error?: Error): void
}

const {
  NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_INADEQUATE_SECURITY, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR,
} = constants

export class Call {
  readonly #method: Method
  readonly #on: CallHandlers
  readonly #timer: NodeJS.Timeout | undefined
  readonly #signal: AbortSignal | undefined
  #stream: ClientHttp2Stream | undefined
  /** What was sent before there was a stream. */
  #waiting: Buffer[] = []
  #finished = false
  #ended = false
  #status: { code: number; text: string } | undefined
  #parts: Buffer[] = []
  #partBytes = 0
  /** Bytes that complete the message in `#parts`; its head first. */
  #wantedBytes = HEAD_BYTES

  /** Begins at once. `metadata` are containerd's headers. */
  constructor(sessions: SessionKeeper, method: Method, metadata: Record<string, string>, options: CallOptions, on: CallHandlers) {
    this.#method = method
    this.#on = on
    const headers: Record<string, string> = {
      ':method': 'POST', ':path': method.path, 'content-type': 'application/grpc', te: 'trailers', 'user-agent': 'gantry', ...metadata,
    }
    if (options.timeoutMs !== undefined) {
      headers['grpc-timeout'] = `${Math.min(Math.max(Math.ceil(options.timeoutMs), 1), MAX_TIMEOUT_MS)}m`
      this.#timer = setTimeout(() => { this.#stop(Code.deadlineExceeded, `containerd did not answer within ${options.timeoutMs} ms`) }, options.timeoutMs)
    }
    this.#signal = options.signal
    this.#signal?.addEventListener('abort', this.#abort, { once: true })
    const session = sessions.get()
    if (!(session instanceof Promise)) this.#begin(session, headers)
    else session.then((s) => { this.#begin(s, headers) }, (e: unknown) => { this.#stop(Code.unavailable, (e as Error).message) })
  }

  readonly #abort = (): void => { this.cancel() }

  #begin(session: ClientHttp2Session, headers: Record<string, string>): void {
    if (this.#ended) return
    let stream
    try {
      stream = session.request(headers)
    } catch (e) {
      this.#stop(Code.unavailable, (e as Error).message)
      return
    }
    this.#stream = stream
    stream.on('response', (h) => { this.#headers(h) })
    stream.on('trailers', (h) => { this.#trailers(h) })
    stream.on('data', (chunk: Buffer) => { this.#receive(chunk) })
    stream.on('end', () => { if (this.#status !== undefined) this.#close() })
    stream.on('error', () => { /* 'close' follows, and tells more */ })
    stream.on('close', () => { this.#close() })
    for (const message of this.#waiting) stream.write(message)
    this.#waiting = []
    if (this.#finished) stream.end()
  }

  #headers(h: IncomingHttpHeaders): void {
    const status = Number(h[':status'])
    if (status !== 200) this.#stop(Code.unavailable, `containerd's socket answered with HTTP status ${status}`)
    else if (h['grpc-status'] !== undefined) this.#trailers(h)
  }

  #trailers(h: IncomingHttpHeaders): void {
    const code = Number(h['grpc-status'] ?? Code.unknown)
    this.#status = { code: Number.isInteger(code) ? code : Code.unknown, text: percentDecode(String(h['grpc-message'] ?? '')) }
  }

  #receive(chunk: Buffer): void {
    let rest = chunk
    while (this.#partBytes + rest.length >= this.#wantedBytes && !this.#ended) {
      const taken = this.#wantedBytes - this.#partBytes
      const whole = this.#partBytes === 0 ? rest.subarray(0, taken) : Buffer.concat([...this.#parts, rest.subarray(0, taken)], this.#wantedBytes)
      rest = rest.subarray(taken)
      const bytes = whole.readUInt32BE(1)
      if (whole.length === HEAD_BYTES && bytes > 0) {
        if (whole[0] !== 0) { this.#stop(Code.internal, 'containerd sent a compressed message'); return }
        if (bytes > MAX_MESSAGE_BYTES) { this.#stop(Code.resourceExhausted, `containerd sent a message of ${bytes} bytes`); return }
        this.#parts = [whole]
        this.#partBytes = HEAD_BYTES
        this.#wantedBytes = HEAD_BYTES + bytes
        continue
      }
      this.#parts = []
      this.#partBytes = 0
      this.#wantedBytes = HEAD_BYTES
      let message
      try {
        message = this.#method.response.decode(whole.subarray(HEAD_BYTES))
      } catch (e) {
        this.#stop(Code.internal, (e as Error).message)
        return
      }
      this.#on.onMessage(message)
    }
    if (rest.length === 0) return
    this.#parts.push(rest)
    this.#partBytes += rest.length
  }

  /** Sends one message. Does nothing once the call has ended. */
  send(message: object): void {
    if (this.#ended) return
    const framed = this.#method.request.encode(message, HEAD_BYTES)
    framed[0] = 0
    framed.writeUInt32BE(framed.length - HEAD_BYTES, 1)
    if (this.#stream === undefined) this.#waiting.push(framed)
    else this.#stream.write(framed)
  }

  /** No more messages will be sent. */
  finish(): void {
    this.#finished = true
    this.#stream?.end()
  }

  /** Ends the call at once, for containerd too. */
  cancel(): void { this.#stop(Code.canceled, 'the call was cancelled') }

  /** Stops taking messages, which makes containerd wait in turn; those already on the way still come. */
  pause(): void { this.#stream?.pause() }
  resume(): void { this.#stream?.resume() }

  #stop(code: number, text: string): void {
    if (this.#ended) return
    this.#status = { code, text }
    this.#close()
  }

  #close(): void {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#abort)
    const stream = this.#stream
    if (stream !== undefined && !stream.closed) stream.close(NGHTTP2_CANCEL)
    const { code, text } = this.#status ?? lost(stream?.rstCode ?? NGHTTP2_NO_ERROR)
    if (code === Code.ok) this.#on.onEnd()
    else this.#on.onEnd(new ContainerdError(code, text, this.#method.name))
  }
}

/** The status of a call that ended without one, by HTTP/2's error code. */
function lost(rstCode: number): { code: number; text: string } {
  switch (rstCode) {
    case NGHTTP2_REFUSED_STREAM: return { code: Code.unavailable, text: 'containerd refused the call' }
    case NGHTTP2_ENHANCE_YOUR_CALM: return { code: Code.resourceExhausted, text: 'containerd is overloaded' }
    case NGHTTP2_INADEQUATE_SECURITY: return { code: Code.permissionDenied, text: 'containerd demands another connection' }
    case NGHTTP2_NO_ERROR:
    // Node's word for a connection that broke.
    case NGHTTP2_INTERNAL_ERROR:
    case NGHTTP2_CANCEL: return { code: Code.unavailable, text: 'the connection to containerd was lost' }
    default: return { code: Code.internal, text: `containerd reset the call with HTTP/2 error ${rstCode}` }
  }
}

/** A status text, which travels percent-encoded; as it is where it was not. */
function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
