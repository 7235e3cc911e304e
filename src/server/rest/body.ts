/** Reading request bodies, bounded in size and time. */
import { ApiError } from '../../core/errors.ts'
import type { Request } from '../host.ts'

export const MAX_BODY_BYTES = 3 * 1024 * 1024
/** Bodies being read, all together: what many clients at once may make the server hold. */
const MAX_TOTAL_BYTES = 256 * 1024 * 1024
let totalBytes = 0

function tooLarge(): ApiError {
  return new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY_BYTES}`)
}

/**
 * The whole body; empty if there is none. Rejects with RequestEntityTooLarge (413) without reading on, or with
 * TooManyRequests (429) while others' bodies take all the room.
 */
export function readBody(req: Request): Promise<Buffer> {
  if (Number(req.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return Promise.reject(tooLarge())
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const free = (): void => {
      totalBytes -= size
      size = 0
    }
    const refuse = (e: ApiError): void => {
      req.pause()
      chunks.length = 0
      free()
      reject(e)
    }
    req.on('data', (chunk: Buffer) => {
      size += chunk.length
      totalBytes += chunk.length
      if (size > MAX_BODY_BYTES) refuse(tooLarge())
      else if (totalBytes > MAX_TOTAL_BYTES) refuse(new ApiError('TooManyRequests', 'too many large requests at once, please try again later', { retryAfterSeconds: 1 }))
      else chunks.push(chunk)
    })
    req.on('end', () => {
      free()
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
    })
    req.on('error', e => {
      free()
      reject(e)
    })
    req.on('close', () => {
      if (req.complete) return
      free()
      reject(new ApiError('BadRequest', 'the request was cut off'))
    })
  })
}
