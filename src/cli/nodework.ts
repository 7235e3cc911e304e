/** Work that a node's engine does for a command: images and builds, with their progress. */
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { RemoteClient } from '../client/client.ts'
import { nodes as nodeKind } from '../core/kinds.ts'
import { size, StatusLine, UserError, write } from './output.ts'

/** One line of a progress stream, as engine's Progress. */
export interface ProgressLine { id?: string; status: string; currentBytes?: number; totalBytes?: number; error?: string; stream?: string; names?: string[] }

/** A node that is Ready: the named one, or the first by name. */
export async function readyNode(client: RemoteClient, name?: string): Promise<string> {
  const { items } = await client.list(nodeKind)
  const ready = items.filter(n => n.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True')).map(n => n.metadata.name).sort()
  if (name !== undefined) {
    if (!items.some(n => n.metadata.name === name)) throw new UserError(`there is no node "${name}"; there are: ${items.map(n => n.metadata.name).join(', ')}`)
    if (!ready.includes(name)) throw new UserError(`node "${name}" is not ready`)
    return name
  }
  if (ready[0] === undefined) throw new UserError('no node is ready')
  return ready[0]
}

export function nodePath(node: string, path: string, query: Record<string, string | string[] | undefined> = {}): string {
  const q = new URLSearchParams()
  for (const [k, v] of Object.entries(query)) for (const each of [v].flat()) if (each !== undefined) q.append(k, each)
  return `/gantry/v1/nodes/${encodeURIComponent(node)}/${path}${q.size === 0 ? '' : `?${q}`}`
}

/**
 * Reads a progress stream to its end: build output goes to stdout, the rest to a status line. Rejects with the stream's
 * error. Resolves with the last line.
 */
export async function follow(body: Readable, options: { quiet?: boolean } = {}): Promise<ProgressLine> {
  const status = new StatusLine()
  let last: ProgressLine = { status: '' }
  let count = 0
  for await (const text of createInterface({ input: body, crlfDelay: Infinity })) {
    if (text === '') continue
    last = JSON.parse(text) as ProgressLine
    count++
    if (last.error !== undefined) {
      status.done()
      throw new UserError(last.error)
    }
    if (options.quiet === true) continue
    if (last.stream !== undefined) {
      status.done()
      await write(last.stream)
    } else {
      const amount = last.currentBytes === undefined ? '' : ` ${size(last.currentBytes)}${last.totalBytes === undefined ? '' : ` of ${size(last.totalBytes)}`}`
      status.set(`${last.id === undefined ? '' : `${last.id.slice(0, 19)}: `}${last.status}${amount}`)
    }
  }
  status.done()
  if (count === 0) throw new UserError('the node broke off without an answer; see "gantry nodes"')
  return last
}
