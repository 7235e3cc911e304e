/** `docker logs`: what the engine's log files hold, in Docker's frames. */
import { Readable } from 'node:stream'
import type { LogLine } from '../../../../engine/engine.ts'
import type { LogsOptions } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import { frame, StreamNumber } from '../../frames.ts'
import type { Container } from './container.ts'
import { dockerError } from './context.ts'
import type { Context } from './context.ts'

const NEWLINE = Buffer.from('\n')

export function containerLogs(x: Context, c: Container, options: LogsOptions): { tty: boolean; output: Readable } {
  if (!options.stdout && !options.stderr) throw new DockerError('invalid', 'Bad parameters: you must choose at least one stream')
  if (c.record.hostConfig.LogConfig?.Type === 'none') throw new DockerError('not-implemented', 'configured logging driver does not support reading')
  if (c.dead || c.removing) throw new DockerError('conflict', 'can not get logs from container which is dead or marked for removal')
  // Following what does not run is reading it once.
  const follow = options.follow && c.running
  return { tty: c.record.config.Tty === true, output: Readable.from(logPieces(x, c, { ...options, follow }), { objectMode: false, highWaterMark: 1 << 16 }) }
}

/** One piece a line; an error in the middle becomes a frame of its own, as the header has gone. */
export async function* logPieces(x: Context, c: Container, options: LogsOptions): AsyncGenerator<Buffer> {
  const tty = c.record.config.Tty === true
  const details = options.details ? detailsOf(c) : ''
  try {
    const lines = x.engine.containers.logs(c.id, {
      follow: options.follow, ...(options.tail === undefined ? {} : { tail: options.tail }),
      ...(options.sinceNs === undefined ? {} : { sinceMs: Number(options.sinceNs) / 1e6 }),
      ...(options.untilNs === undefined ? {} : { untilMs: Number(options.untilNs) / 1e6 }),
    })
    for await (const line of lines) {
      if (!(line.stream === 'stdout' ? options.stdout : options.stderr)) continue
      const text = textOf(line, options.timestamps, details)
      yield tty ? text : frame(line.stream === 'stdout' ? StreamNumber.stdout : StreamNumber.stderr, text)
    }
  } catch (e) {
    const text = Buffer.from(`Error grabbing logs: ${dockerError(e).message}\n`)
    yield tty ? text : frame(StreamNumber.system, text)
  }
}

function textOf(line: LogLine, timestamps: boolean, details: string): Buffer {
  const head = timestamps ? `${nineDigits(line.time)} ${details}` : details
  const parts = [...(head === '' ? [] : [Buffer.from(head)]), line.text, ...(line.partial ? [] : [NEWLINE])]
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

/** `…:05.12Z` → `…:05.120000000Z`. */
function nineDigits(time: string): string {
  const match = /^([^.]+?)(?:\.(\d+))?Z$/.exec(time)
  return match === null ? time : `${match[1]}.${(match[2] ?? '').padEnd(9, '0').slice(0, 9)}Z`
}

/** Labels and variables that the log options name: `k=v,…` and a blank, sorted and escaped. */
export function detailsOf(c: Container): string {
  const { Config: options } = c.record.hostConfig.LogConfig ?? {}
  const picked = new Map<string, string>()
  const list = (key: string): string[] => (options?.[key] ?? '').split(',').filter((n) => n !== '')
  const pattern = (key: string): RegExp | undefined => {
    try {
      return options?.[key] === undefined ? undefined : new RegExp(options[key])
    } catch {
      return undefined
    }
  }
  const labels = new Set(list('labels'))
  const labelPattern = pattern('labels-regex')
  for (const [k, v] of Object.entries(c.record.config.Labels ?? {})) if (labels.has(k) || labelPattern?.test(k) === true) picked.set(k, v)
  const names = new Set(list('env'))
  const envPattern = pattern('env-regex')
  for (const entry of c.record.config.Env ?? []) {
    const eq = entry.indexOf('=')
    const name = entry.slice(0, eq)
    if (eq > 0 && (names.has(name) || envPattern?.test(name) === true)) picked.set(name, entry.slice(eq + 1))
  }
  const text = [...picked].sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `${encodeURIComponent(k)}=${encodeURIComponent(v)}`).join(',')
  return `${text} `
}
