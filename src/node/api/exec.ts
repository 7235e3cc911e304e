/** `POST /exec` and `POST /attach`: a process's streams as frames both ways (core/frames.ts). */
import type { ServerHttp2Stream } from 'node:http2'
import type { Readable, Writable } from 'node:stream'
import { badRequest } from '../../core/errors.ts'
import { FrameDecoder, encodeFrame } from '../../core/frames.ts'
import { Channel } from '../../core/node-api.ts'
import type { ContainerService, ProcessStreams } from '../../engine/engine.ts'
import { errorText } from '../error-text.ts'
import type { Pods } from '../pods.ts'
import { flag } from './query.ts'
import { containerOf, podOf, runningId } from './target.ts'

export async function serveExec(stream: ServerHttp2Stream, q: URLSearchParams, all: Pick<Pods, 'byName'>, containers: ContainerService): Promise<void> {
  const worker = podOf(all, q)
  const c = containerOf(worker, q)
  const command = q.getAll('command')
  if (command.length === 0) throw badRequest('you must specify at least 1 command for the container')
  const tty = flag(q, 'tty')
  const process = await containers.exec(runningId(worker, c), { command, tty, stdin: flag(q, 'stdin') })
  await framed(stream, process, { stdin: flag(q, 'stdin'), stdout: flag(q, 'stdout'), stderr: flag(q, 'stderr') && !tty, exits: true })
}

export async function serveAttach(stream: ServerHttp2Stream, q: URLSearchParams, all: Pick<Pods, 'byName'>, containers: ContainerService): Promise<void> {
  const worker = podOf(all, q)
  const c = containerOf(worker, q)
  const process = await containers.attach(runningId(worker, c))
  await framed(stream, process, {
    stdin: flag(q, 'stdin') && c.spec.stdin === true, stdout: flag(q, 'stdout'), stderr: flag(q, 'stderr'), exits: false,
  })
}

interface Wanted { stdin: boolean; stdout: boolean; stderr: boolean; exits: boolean }

/** Resolves when the process has ended and all is said, or the other side has gone. */
export async function framed(stream: ServerHttp2Stream, process: ProcessStreams, wanted: Wanted): Promise<void> {
  process.exit.catch(() => {})
  stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' })
  const gone = new Promise<'gone'>(resolve => stream.once('close', () => resolve('gone')))
  const outputs = [
    output(stream, process.stdout, wanted.stdout ? Channel.stdout : undefined),
    ...(process.stderr === undefined ? [] : [output(stream, process.stderr, wanted.stderr ? Channel.stderr : undefined)]),
  ]
  input(stream, process, wanted.stdin)
  try {
    const finished = (async () => {
      const code = await process.exit
      await Promise.all(outputs)
      return code
    })()
    const code = await Promise.race([finished, gone])
    if (code === 'gone') return
    stream.end(encodeFrame(Channel.error, JSON.stringify(exitStatus(wanted.exits ? code : 0))))
  } catch (e) {
    if (!stream.destroyed) {
      const status = { metadata: {}, status: 'Failure', reason: 'InternalError', message: errorText(e) }
      stream.end(encodeFrame(Channel.error, JSON.stringify(status)))
    }
  } finally {
    process.close()
  }
}

/** Kubernetes' word for how a command ended. */
export function exitStatus(code: number): object {
  if (code === 0) return { metadata: {}, status: 'Success' }
  return {
    metadata: {}, status: 'Failure', reason: 'NonZeroExitCode', message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  }
}

/** Resolves at the output's end. Output nobody asked for is read and dropped, so that the process does not wait. */
function output(stream: ServerHttp2Stream, from: Readable, channel: number | undefined): Promise<void> {
  return new Promise(resolve => {
    // A process that said nothing may have closed its output before anybody listened.
    if (from.readableEnded || from.destroyed) return resolve()
    from.on('error', () => resolve())
    from.on('end', () => resolve())
    from.on('close', () => resolve())
    if (channel === undefined) {
      from.resume()
      return
    }
    from.on('data', (b: Buffer) => {
      if (stream.destroyed || stream.writableEnded || stream.write(encodeFrame(channel, b))) return
      from.pause()
      stream.once('drain', () => from.resume())
    })
  })
}

function input(stream: ServerHttp2Stream, process: ProcessStreams, wanted: boolean): void {
  const stdin = wanted ? process.stdin as Writable | undefined : undefined
  stdin?.on('error', () => {})
  const decoder = new FrameDecoder((channel, payload) => {
    if (channel === Channel.stdin && stdin !== undefined) {
      if (stdin.writableEnded) return
      // The payload may be a view of a chunk that is used again.
      if (!stdin.write(Buffer.from(payload))) {
        stream.pause()
        stdin.once('drain', () => stream.resume())
      }
    } else if (channel === Channel.close && payload[0] === Channel.stdin) stdin?.end()
    else if (channel === Channel.resize) resize(process, payload)
  })
  stream.on('data', (chunk: Buffer) => {
    try {
      decoder.push(chunk)
    } catch (e) {
      stream.destroy(e as Error)
    }
  })
  // The end of the request is the end of what may be typed.
  stream.on('end', () => stdin?.end())
  stream.on('close', () => stdin?.end())
}

function resize(process: ProcessStreams, payload: Buffer): void {
  try {
    const { Width, Height } = JSON.parse(payload.toString('utf8')) as { Width?: unknown; Height?: unknown }
    if (typeof Width === 'number' && typeof Height === 'number') process.resize(Width, Height).catch(() => {})
  } catch {
    // A size that cannot be read changes nothing.
  }
}
