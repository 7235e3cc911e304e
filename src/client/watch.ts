/** Reading a watch: JSON lines, each `{"type", "object"}`. */
import type { Readable } from 'node:stream'
import type { Status } from '../core/errors.ts'
import type { ApiObject } from '../core/types/index.ts'

export type WatchLine<T extends ApiObject> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: T }
  | { type: 'ERROR'; object: Status }

const NEWLINE = 0x0a

/** Calls `onLine` for each event as it comes; resolves at the stream's end, rejects when it breaks off. A cut last line is dropped. */
export async function readWatch<T extends ApiObject>(body: Readable, onLine: (line: WatchLine<T>) => void): Promise<void> {
  let parts: Buffer[] = []
  for await (const data of body) {
    let chunk = data as Buffer
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE)) {
      const head = chunk.subarray(0, end)
      const line = parts.length === 0 ? head : Buffer.concat([...parts, head])
      parts = []
      chunk = chunk.subarray(end + 1)
      if (line.length > 0) onLine(JSON.parse(line.toString()) as WatchLine<T>)
    }
    if (chunk.length > 0) parts.push(chunk)
  }
}
