/** Takes Docker's frames apart: only the payloads, in order. */
import { Transform } from 'node:stream'
import { FRAME_HEADER_BYTES } from '../frames.ts'

export function demux(): Transform {
  const header = Buffer.alloc(FRAME_HEADER_BYTES)
  let inHeader = 0
  let left = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      for (let at = 0; at < chunk.length;) {
        if (left > 0) {
          const part = chunk.subarray(at, at + left)
          this.push(part)
          at += part.length
          left -= part.length
          continue
        }
        const taken = chunk.copy(header, inHeader, at, at + FRAME_HEADER_BYTES - inHeader)
        at += taken
        inHeader += taken
        if (inHeader < FRAME_HEADER_BYTES) continue
        inHeader = 0
        left = header.readUInt32BE(4)
      }
      done()
    },
  })
}
