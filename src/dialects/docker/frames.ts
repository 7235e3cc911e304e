/** Docker's multiplexed stream: each piece of output behind a header of 8 bytes. */

/** `system` carries the daemon's own error text into a stream that has begun. */
export const StreamNumber = { stdin: 0, stdout: 1, stderr: 2, system: 3 } as const
export const FRAME_HEADER_BYTES = 8

/** Header and payload as one buffer. */
export function frame(stream: number, payload: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length)
  writeFrameHeader(out, 0, stream, payload.length)
  out.set(payload, FRAME_HEADER_BYTES)
  return out
}

export function writeFrameHeader(target: Buffer, offset: number, stream: number, length: number): void {
  target.writeUInt32BE(stream << 24 >>> 0, offset)
  target.writeUInt32BE(length, offset + 4)
}
