/** A node as far as streams go: it answers logs, exec, attach and port-forward over the tunnel with processes of this machine. */
import { spawn } from 'node:child_process'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { connect } from 'node:net'
import { FrameDecoder, encodeFrame } from '../../src/core/frames.ts'
import { Channel } from '../../src/core/node-api.ts'
import { connectTunnel } from '../../src/node/tunnel.ts'
import type { Tunnel } from '../../src/node/tunnel.ts'
import type { ServerProcess } from './server-process.ts'

export interface FakeNode {
  tunnel: Tunnel
  /** Path and query of every request. */
  requests: string[]
  /** Resolves when the tunnel stands. */
  connected: Promise<void>
  /** Sizes terminals were given. */
  sizes: string[]
  /** Ids of processes that exec started. */
  pids: number[]
}

/** `name` is the node's; a Pod's log is a line for each number, and grows by one each 50 ms when followed. */
export async function startFakeNode(server: ServerProcess, name: string): Promise<FakeNode> {
  const tls = await server.identity(`system:node:${name}`, 'system:nodes')
  const requests: string[] = []
  const sizes: string[] = []
  const pids: number[] = []
  let setConnected = () => {}
  const connected = new Promise<void>((resolve) => { setConnected = resolve })
  const onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const url = new URL(headers[':path']!, 'http://node')
    requests.push(`${headers[':method']} ${headers[':path']}`)
    const q = url.searchParams
    if (url.pathname === '/logs') logs(stream, q)
    else if (url.pathname === '/exec' || url.pathname === '/attach') exec(stream, q, sizes, pids)
    else if (url.pathname === '/portforward') portForward(stream, Number(q.get('port')))
    else if (url.pathname === '/echo') {
      stream.respond({ ':status': 200, 'content-type': 'application/x-echo' })
      stream.pipe(stream)
    } else refuse(stream, 404, 'NotFound', `no such path: ${url.pathname}`)
  }
  const tunnel = connectTunnel({ servers: [server.url], tls, name, onStream, onState: (up) => { if (up) setConnected() } })
  return { tunnel, requests, connected, sizes, pids }
}

function refuse(stream: ServerHttp2Stream, code: number, reason: string, message: string): void {
  stream.respond({ ':status': code, 'content-type': 'application/json' })
  stream.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, message, code }))
}

function logs(stream: ServerHttp2Stream, q: URLSearchParams): void {
  if (q.get('container') === 'waiting') return refuse(stream, 400, 'BadRequest', 'container "waiting" in pod "p" is waiting to start: ContainerCreating')
  stream.respond({ ':status': 200, 'content-type': 'text/plain' })
  const tail = Number(q.get('tailLines') ?? 10)
  for (let i = 10 - tail; i < 10; i++) stream.write(`line ${i}\n`)
  if (!q.has('follow')) return void stream.end()
  let next = 10
  const timer = setInterval(() => stream.write(`line ${next++}\n`), 50)
  stream.once('close', () => clearInterval(timer))
}

function exec(stream: ServerHttp2Stream, q: URLSearchParams, sizes: string[], pids: number[]): void {
  const command = q.getAll('command')
  const tty = q.get('tty') === 'true'
  const line = command.length === 0 ? 'echo attached; cat' : undefined
  const child = tty
    ? spawn('script', ['-qefc', line ?? command.map((w) => `'${w.replaceAll("'", "'\\''")}'`).join(' '), '/dev/null'])
    : line === undefined ? spawn(command[0]!, command.slice(1)) : spawn('sh', ['-c', line])
  if (child.pid !== undefined) pids.push(child.pid)
  child.once('error', (e) => refuse(stream, 500, 'InternalError', e.message))
  child.once('spawn', () => stream.respond({ ':status': 200 }))
  const output = (channel: number) => (data: Buffer) => {
    if (stream.writable && !stream.write(encodeFrame(channel, data))) {
      child.stdout.pause()
      stream.once('drain', () => child.stdout.resume())
    }
  }
  child.stdout.on('data', output(Channel.stdout))
  child.stderr.on('data', output(Channel.stderr))
  child.stdin.on('error', () => {})
  const decoder = new FrameDecoder((channel, payload) => {
    if (channel === Channel.stdin && !child.stdin.write(payload)) {
      stream.pause()
      child.stdin.once('drain', () => stream.resume())
    } else if (channel === Channel.close) child.stdin.end()
    else if (channel === Channel.resize) sizes.push(payload.toString().trim())
  })
  stream.on('data', (chunk: Buffer) => decoder.push(chunk))
  stream.once('close', () => child.kill('SIGKILL'))
  child.once('close', (code, signal) => {
    if (!stream.writable || !stream.headersSent) return
    const exit = code ?? (signal === null ? 0 : 137)
    const status = exit === 0
      ? { metadata: {}, status: 'Success' }
      : {
        metadata: {}, status: 'Failure', reason: 'NonZeroExitCode', message: `command terminated with non-zero exit code: exit status ${exit}`,
        details: { causes: [{ reason: 'ExitCode', message: String(exit) }] },
      }
    stream.end(encodeFrame(Channel.error, JSON.stringify(status)))
  })
}

function portForward(stream: ServerHttp2Stream, port: number): void {
  const socket = connect(port, '127.0.0.1')
  socket.once('connect', () => {
    stream.respond({ ':status': 200 })
    stream.pipe(socket)
    socket.pipe(stream)
  })
  socket.once('error', (e) => {
    if (stream.headersSent) stream.destroy()
    else refuse(stream, 500, 'InternalError', e.message)
  })
  stream.once('close', () => socket.destroy())
}
