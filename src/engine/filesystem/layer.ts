/** A container's changes as a layer of an image (image-spec, layer.md): what is new or changed, and whiteouts for what is gone. */
import { posix } from 'node:path'
import { Readable } from 'node:stream'
import type { Change } from './changes.ts'
import { packTree } from './pack.ts'
import { encodeHeader } from './tar-header.ts'

/** `merged`: descriptor of the container's whole root. */
export function layerOf(changes: Change[], merged: number): Readable {
  return Readable.from(parts(changes, merged), { objectMode: false, highWaterMark: 1 << 20 })
}

async function* parts(changes: Change[], merged: number): AsyncGenerator<Buffer> {
  const gone = changes.filter((c) => c.kind === 2)
  for (const { path } of gone) yield encodeHeader({ name: whiteout(path), type: 'file', mode: 0, uid: 0, gid: 0, sizeBytes: 0, mtimeMs: 0 })
  const kept = changes.filter((c) => c.kind !== 2).map((c) => c.path.slice(1))
  if (kept.length > 0) yield* packTree({ directory: merged, names: kept, recurse: false }) as AsyncIterable<Buffer>
  else yield Buffer.alloc(1024)
}

function whiteout(path: string): string { return posix.join(posix.dirname(path), `.wh.${posix.basename(path)}`).slice(1) }
