/**
 * What engine and log daemon say to each other on the daemon's socket: one JSON object a line. A request carries `n`, its
 * answer the same `n`; events carry `event`. An attach takes a connection of its own: `{op: 'attach', id}`, the answer line,
 * then frames to the engine: one byte (1 stdout, 2 stderr), the length (uint32, big-endian), the bytes.
 */
import type { LogFileOptions } from './log-file.ts'

export interface OpenRequest extends LogFileOptions {
  id: string
  /** FIFO paths. */
  stdout: string
  /** Left out with a terminal, whose output is all stdout. */
  stderr?: string
  /** Left out: `local`. */
  driver?: 'local' | 'none' | 'syslog' | 'fluentd'
  /** Of syslog and fluentd, in Docker's words. */
  options?: Record<string, string>
}

export type Request =
  /** Drains a container's output from now on. Repeating it is harmless. */
  | { op: 'open' } & OpenRequest
  /** Takes what is in the FIFOs, ends the log and lets go; resolves also for an unknown id. */
  | { op: 'close'; id: string }
  /** Resolves when the output of `id` has ended, at once if it is not open; after `timeoutMs` it is closed. */
  | { op: 'wait'; id: string; timeoutMs: number }
  /** `data` and `end` events of this id on this connection; resolves with whether it is open. */
  | { op: 'follow'; id: string }
  | { op: 'unfollow'; id: string }
  | { op: 'list' }
  | { op: 'attach'; id: string }

export type Answer = { n: number; error?: string; open?: boolean; ids?: string[] }
/** `data`: the log has grown; `end`: it will not. */
export type DaemonEvent = { event: 'data' | 'end'; id: string }

/** Splits a byte stream into lines and hands each on, parsed. */
export function onJsonLines(socket: { on(event: 'data', f: (b: Buffer) => void): unknown }, handle: (value: unknown) => void): void {
  let rest: Buffer[] = []
  socket.on('data', (chunk) => {
    let at = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, at)) {
      const line = rest.length === 0 ? chunk.subarray(at, end) : Buffer.concat([...rest, chunk.subarray(at, end)])
      rest = []
      at = end + 1
      handle(JSON.parse(line.toString('utf8')))
    }
    if (at < chunk.length) rest.push(chunk.subarray(at))
  })
}
