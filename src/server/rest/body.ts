/** Reading request bodies, bounded in size and time. */
import { ApiError } from '../../core/errors.ts'
import type { Request } from '../host.ts'

export const MAX_BODY_BYTES = 3 * 1024 * 1024

function tooLarge(): ApiError {
  return new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY_BYTES}`)
}

/** The whole body; empty if there is none. Rejects with RequestEntityTooLarge (413) without reading on. */
export function readBody(req: Request): Promise<Buffer> {
  if (Number(req.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return Promise.reject(tooLarge())
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    req.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > MAX_BODY_BYTES) {
        req.pause()
        reject(tooLarge())
      } else chunks.push(chunk)
    })
    req.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)))
    req.on('error', reject)
    req.on('aborted', () => reject(new ApiError('BadRequest', 'the request was cut off')))
  })
}
