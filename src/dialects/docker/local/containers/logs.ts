/** `docker logs`: what the engine's log files hold, in Docker's frames. */
import { PassThrough } from 'node:stream'
import type { Readable } from 'node:stream'
import type { LogsOptions } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import { frame, StreamNumber } from '../../frames.ts'
import type { Container } from './container.ts'
import { dockerError } from './context.ts'
import type { Context } from './context.ts'

export function containerLogs(x: Context, c: Container, options: LogsOptions): { tty: boolean; output: Readable } {
  if (!options.stdout && !options.stderr) throw new DockerError('invalid', 'Bad parameters: you must choose at least one stream')
  if (c.record.hostConfig.LogConfig?.Type === 'none') throw new DockerError('not-implemented', 'configured logging driver does not support reading')
  if (c.dead || c.removing) throw new DockerError('conflict', 'can not get logs from container which is dead or marked for removal')
  // Following what does not run is reading it once.
  return { tty: c.record.config.Tty === true, output: logBytes(x, c, { ...options, follow: options.follow && c.running }, options.follow) }
}

/** An error in the middle becomes a frame of its own, as the header has gone. */
export function logBytes(x: Context, c: Container, options: LogsOptions, frameLines = false): Readable {
  const { details, ...wanted } = options
  const output = new PassThrough({ highWaterMark: 256 << 10 })
  const fail = (e: unknown): void => {
    const text = Buffer.from(`Error grabbing logs: ${dockerError(e).message}\n`)
    output.end(c.record.config.Tty === true ? text : frame(StreamNumber.system, text))
  }
  try {
    const source = x.engine.containers.logStream(c.id, { ...wanted, frameLines, ...(details ? { details: detailsOf(c) } : {}) })
    source.once('error', fail)
    output.once('close', () => { source.destroy() })
    source.pipe(output)
  } catch (e) {
    fail(e)
  }
  return output
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
