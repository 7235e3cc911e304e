/** A container's log as lines, for those who look at each: see `log-stream.ts` for Docker's bytes. */
import type { LogLine, LogOptions } from '../engine.ts'
import { isLine, isPartial, isStderr, Prefix } from '../logger/line.ts'
import { blocksFrom, findStart, NEWLINE } from './log-blocks.ts'
import type { Follow } from './log-blocks.ts'

/** Lines of the log in `dir` in order. With `follow` it goes on until the output has ended. */
export async function* readLogs(dir: string, options: LogOptions, follow?: Follow): AsyncGenerator<LogLine> {
  const { sinceMs = -Infinity, untilMs = Infinity } = options
  try {
    const start = await findStart(dir, options.tail)
    const timed = sinceMs > -Infinity || untilMs < Infinity
    for await (const block of blocksFrom(dir, start, follow)) {
      let at = 0
      for (let end = block.indexOf(NEWLINE); end >= 0; end = block.indexOf(NEWLINE, at)) {
        const parsed = parseLine(block, at, end)
        at = end + 1
        if (parsed === undefined) continue
        if (timed) {
          const atMs = Date.parse(parsed.time)
          if (atMs < sinceMs) continue
          if (atMs > untilMs) return
        }
        yield parsed
      }
    }
  } finally {
    follow?.stop()
  }
}

function parseLine(block: Buffer, start: number, end: number): LogLine | undefined {
  if (!isLine(block, start, end)) return undefined
  return {
    time: block.toString('latin1', start, start + Prefix.timeEnd), stream: isStderr(block, start) ? 'stderr' : 'stdout',
    text: block.subarray(start + Prefix.text, end), partial: isPartial(block, start),
  }
}
