/**
 * Sends lines to a log server beside the local file. The container never waits for the server: what does not fit into a bounded queue is
 * dropped, counted, and told in the local log.
 */
import { isLine, isPartial, isStderr, Prefix } from '../line.ts'
import type { OpenRequest } from '../protocol.ts'
import { fluentd } from './fluentd.ts'
import type { Outlet } from './outlet.ts'
import { syslog } from './syslog.ts'

const NEWLINE = 10
/** How long the end of a container waits for the queue to get away. */
const CLOSE_MS = 1000

export interface Line {
  stderr: boolean
  /** Of the sender's own: not part of a buffer that is used again. */
  text: Buffer
  partial: boolean
  atMs: number
  /** Below the millisecond. */
  ns: number
}

export interface Format {
  outlet: Outlet
  encode(line: Line): Buffer
}

export interface Sender {
  /** Whole lines as they stand in the log. */
  take(lines: Buffer): void
  close(): Promise<void>
}

/** Undefined for drivers that send nothing. Throws where options are wrong: `syslog-address`, … */
export function openSender(request: OpenRequest, onNote: (text: string) => void): Sender | undefined {
  const { driver, options = {}, id } = request
  if (driver !== 'syslog' && driver !== 'fluentd') return undefined
  const { outlet, encode } = driver === 'syslog' ? syslog(options, id, onNote) : fluentd(options, id, onNote)
  let stamp = ''
  let atMs = 0
  return {
    take(lines) {
      let at = 0
      for (let end = lines.indexOf(NEWLINE); end >= 0; end = lines.indexOf(NEWLINE, at)) {
        const start = at
        at = end + 1
        if (!isLine(lines, start, end)) continue
        const time = lines.toString('latin1', start, start + Prefix.timeEnd)
        if (time !== stamp) {
          stamp = time
          atMs = Date.parse(time)
        }
        outlet.push(encode({
          stderr: isStderr(lines, start), partial: isPartial(lines, start), text: Buffer.from(lines.subarray(start + Prefix.text, end)),
          atMs, ns: Number(time.slice(23, 29)),
        }))
      }
    },
    close: () => outlet.close(CLOSE_MS),
  }
}
