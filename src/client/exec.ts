/** exec and attach from a client's side: Kubernetes' remote-command protocol v5 over WebSocket. */
import { PassThrough, Writable } from 'node:stream'
import type { Readable } from 'node:stream'
import type { WebSocket as WebSocketType } from 'ws'
import { Channel } from '../core/node-api.ts'
import type { Status } from '../core/errors.ts'
import { errorOfAnswer } from './answers.ts'
import { ConnectionError } from './transport.ts'
import type { Transport } from './transport.ts'

export interface ExecOptions {
  namespace: string
  pod: string
  container?: string
  /** Without a command the stream attaches to the container's main process. */
  command?: string[]
  stdin?: boolean
  tty?: boolean
}

/** Both outputs must be read: one that nobody reads stops the other. */
export interface ExecStream {
  /** Ending it gives the process end of file. */
  stdin: Writable
  stdout: Readable
  /** Empty with `tty`: a terminal has one output. */
  stderr: Readable
  resize(width: number, height: number): void
  /** The exit code once the process is over and its output read; rejects with ApiError when the stream fails. */
  exitCode: Promise<number>
  close(): void
}

const PROTOCOL = 'v5.channel.k8s.io'
/** Unsent stdin beyond this makes the writer wait. */
const STDIN_HIGH_WATER_BYTES = 1 << 20

/** Resolves when the process runs (or, attached, the stream stands). Rejects with ApiError, e.g. NotFound. */
export async function openExec(transport: Transport, options: ExecOptions): Promise<ExecStream> {
  const { WebSocket } = await import('ws')
  const { servers, tls, token, userAgent, connectTimeoutMs = 5000 } = transport.options
  const query = new URLSearchParams()
  if (options.container !== undefined) query.set('container', options.container)
  for (const word of options.command ?? []) query.append('command', word)
  query.set('stdin', String(options.stdin ?? false))
  query.set('stdout', 'true')
  query.set('stderr', String(!options.tty))
  query.set('tty', String(options.tty ?? false))
  const path = `/api/v1/namespaces/${encodeURIComponent(options.namespace)}/pods/${encodeURIComponent(options.pod)}`
    + `/${options.command === undefined ? 'attach' : 'exec'}?${query}`
  const failures: string[] = []
  for (const server of [transport.server, ...servers.filter((s) => s !== transport.server)]) {
    const socket = new WebSocket(server.replace(/^http/, 'ws') + path, PROTOCOL, {
      ca: tls.ca, cert: tls.cert, key: tls.key, handshakeTimeout: connectTimeoutMs * 4, perMessageDeflate: false,
      headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...(userAgent !== undefined && { 'user-agent': userAgent }) },
    })
    const stream = wire(socket)
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('open', resolve)
        socket.once('error', reject)
        socket.once('unexpected-response', (_request, answer) => {
          let text = ''
          answer.setEncoding('utf8').on('data', (part: string) => { text += part })
          answer.once('close', () => {
            reject(errorOfAnswer(answer.statusCode ?? 500, text))
            socket.terminate()
          })
        })
      })
      return stream
    } catch (e) {
      socket.terminate()
      const code = (e as NodeJS.ErrnoException).code
      if (code === undefined || typeof code !== 'string') throw e
      failures.push(`${server}: ${(e as Error).message}`)
    }
  }
  throw new ConnectionError(`cannot reach the API server: ${failures.join('; ')}`, false)
}

/** Handlers are attached before the socket opens: output can follow the handshake in the same packet. */
function wire(socket: WebSocketType): ExecStream {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const outputs: Record<number, PassThrough> = { [Channel.stdout]: stdout, [Channel.stderr]: stderr }
  const send = (channel: number, payload: Uint8Array, done?: (e?: Error | null) => void) => {
    socket.send(Buffer.concat([Buffer.of(channel), payload]), done)
  }
  const stdin = new Writable({
    highWaterMark: STDIN_HIGH_WATER_BYTES,
    write(chunk: Buffer, _encoding, done) {
      if (socket.readyState === socket.OPEN) send(Channel.stdin, chunk, done)
      else done()
    },
    final(done) {
      if (socket.readyState === socket.OPEN) send(Channel.close, Buffer.of(Channel.stdin), done)
      else done()
    },
  })
  // A process that ends closes the socket under a writer that is not done: that is no error of the writer's.
  stdin.on('error', () => {})
  // 'close' follows every error and tells the caller.
  socket.on('error', () => {})
  let status: Status | undefined
  socket.on('message', (data: Buffer) => {
    const channel = data[0]!
    const payload = data.subarray(1)
    if (channel === Channel.error) {
      status = JSON.parse(payload.toString()) as Status
      return
    }
    const output = outputs[channel]
    if (output !== undefined && payload.length > 0 && !output.write(payload)) {
      socket.pause()
      output.once('drain', () => socket.resume())
    }
  })
  const exitCode = new Promise<number>((resolve, reject) => {
    socket.once('close', (code: number, reason: Buffer) => {
      stdout.end()
      stderr.end()
      stdin.destroy()
      if (status === undefined) {
        const why = reason.length > 0 ? reason.toString() : `code ${code}`
        reject(new ConnectionError(`the stream ended without the command's result (${why})`, true))
      } else if (status.status === 'Success') {
        resolve(0)
      } else {
        const exit = status.details?.causes?.find((c) => c.reason === 'ExitCode')?.message
        if (exit === undefined) reject(errorOfAnswer(status.code ?? 500, JSON.stringify({ ...status, kind: 'Status' })))
        else resolve(Number(exit))
      }
    })
  })
  // Whoever awaits it hears of a failure; one that only reads the output need not.
  exitCode.catch(() => {})
  return {
    stdin, stdout, stderr, exitCode,
    resize(width, height) {
      if (socket.readyState === socket.OPEN) send(Channel.resize, Buffer.from(`${JSON.stringify({ Width: width, Height: height })}\n`))
    },
    close() { socket.close() },
  }
}
