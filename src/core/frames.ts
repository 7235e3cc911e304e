/**
 * Framed streams of exec and attach: several channels (see `Channel` in node-api.ts) over one byte stream. A frame is one
 * byte of channel, four bytes of payload length (big-endian), and the payload.
 *
 * stdin, stdout, stderr: raw bytes. error: one JSON `Status`, the last frame a node sends. resize: JSON
 * `{"Width":80,"Height":24}`. close: one byte, the channel that got its end (only stdin is ever half-closed).
 */

/** A longer payload is split by {@link encodeFrame} and refused by {@link FrameDecoder}. */
export const MAX_PAYLOAD_BYTES = 64 * 1024
const HEADER_BYTES = 5

/** The payload as one or (when it is longer than {@link MAX_PAYLOAD_BYTES}) several frames in one buffer. */
export function encodeFrame(channel: number, payload: Uint8Array | string): Buffer {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
  const count = Math.max(1, Math.ceil(bytes.length / MAX_PAYLOAD_BYTES))
  const out = Buffer.allocUnsafe(bytes.length + count * HEADER_BYTES)
  let to = 0
  for (let i = 0; i < count; i++) {
    const part = bytes.subarray(i * MAX_PAYLOAD_BYTES, (i + 1) * MAX_PAYLOAD_BYTES)
    out[to] = channel
    out.writeUInt32BE(part.length, to + 1)
    out.set(part, to + HEADER_BYTES)
    to += HEADER_BYTES + part.length
  }
  return out
}

/** Cuts a byte stream into frames. Payloads are views of the chunks where a frame lies in one chunk: use or copy them at once. */
export class FrameDecoder {
  readonly #onFrame: (channel: number, payload: Buffer) => void
  #rest: Buffer = Buffer.alloc(0)

  constructor(onFrame: (channel: number, payload: Buffer) => void) { this.#onFrame = onFrame }

  /** Throws RangeError for a frame longer than {@link MAX_PAYLOAD_BYTES}: the stream is then not to be read further. */
  push(chunk: Buffer): void {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    while (data.length >= HEADER_BYTES) {
      const length = data.readUInt32BE(1)
      if (length > MAX_PAYLOAD_BYTES) throw new RangeError(`frame of ${length} bytes exceeds the limit of ${MAX_PAYLOAD_BYTES}`)
      const end = HEADER_BYTES + length
      if (data.length < end) break
      const channel = data[0]!
      const payload = data.subarray(HEADER_BYTES, end)
      data = data.subarray(end)
      this.#onFrame(channel, payload)
    }
    this.#rest = data
  }

  /** True when the stream ended inside a frame. */
  get truncated(): boolean { return this.#rest.length > 0 }
}
