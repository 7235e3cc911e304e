/** The remote-command protocol over SPDY/3.1: one SPDY stream for each of error, stdin, stdout, stderr and resize. */
import type { Duplex } from 'node:stream'
import { Channel } from '../../core/node-api.ts'
import type { Request } from '../host.ts'
import { plainResult } from './command-peer.ts'
import type { CommandPeer, CommandStreams } from './command-peer.ts'
import { SpdyConnection } from './spdy.ts'
import type { SpdyStream } from './spdy.ts'

const PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io']
/** All streams must have come by then. */
const STREAMS_TIMEOUT_MS = 30_000
/** After the result the client closes; one that does not is cut off. */
const LINGER_MS = 5000

export function isSpdy(req: Request): boolean {
  return req.headers['upgrade']?.toLowerCase() === 'spdy/3.1'
}

/** The protocols offered; undefined when the header is missing. */
export function offeredSpdyProtocols(req: Request): string[] | undefined {
  const header = req.headers['x-stream-protocol-version']
  if (header === undefined) return undefined
  return [header].flat().join(',').split(',').map((p) => p.trim()).filter((p) => p !== '')
}

/** The best protocol that client and server have in common; without one answers 403, naming those that are known. */
export function agreeOnSpdy(req: Request, socket: Duplex, known: readonly string[] = PROTOCOLS): string | undefined {
  const offered = offeredSpdyProtocols(req) ?? []
  const protocol = known.find((p) => offered.includes(p))
  if (protocol !== undefined) return protocol
  const accepted = known.map((p) => `X-Accepted-Stream-Protocol-Versions: ${p}\r\n`).join('')
  const text = `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${known.join(' ')}]`
  socket.end(`HTTP/1.1 403 Forbidden\r\n${accepted}Content-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`)
  return undefined
}

/** Answers 101. */
export function switchToSpdy(protocol: string, socket: Duplex, head: Buffer): void {
  if (head.length > 0) socket.unshift(head)
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`)
}

/** Resolves when every stream the command needs is there; with undefined when they do not come, or the client has gone. */
export function acceptSpdyCommand(
  protocol: string, socket: Duplex, head: Buffer, streams: CommandStreams,
): Promise<CommandPeer | undefined> {
  switchToSpdy(protocol, socket, head)
  const version = Number(/^v(\d)/.exec(protocol)?.[1] ?? 1)
  const wanted = new Set(['error', ...(['stdin', 'stdout', 'stderr'] as const).filter((s) => streams[s])])
  // Terminals tell their size from v3 on.
  if (streams.tty && version >= 3) wanted.add('resize')
  return new Promise((resolve) => {
    const got = new Map<string, SpdyStream>()
    let peer: CommandPeer | undefined
    const timer = setTimeout(() => connection.destroy(), STREAMS_TIMEOUT_MS)
    const connection = new SpdyConnection(socket, (stream) => {
      const type = stream.headers['streamtype'] ?? ''
      if (!wanted.has(type) || got.has(type)) return stream.destroy()
      got.set(type, stream)
      if (got.size < wanted.size) return
      clearTimeout(timer)
      peer = peerOf(connection, got, version)
      resolve(peer)
    }, () => {
      clearTimeout(timer)
      peer?.onClose()
      resolve(undefined)
    })
  })
}

function peerOf(connection: SpdyConnection, streams: ReadonlyMap<string, SpdyStream>, version: number): CommandPeer {
  const outputs: Record<number, SpdyStream | undefined> = { [Channel.stdout]: streams.get('stdout'), [Channel.stderr]: streams.get('stderr') }
  const stdin = streams.get('stdin')
  const resize = streams.get('resize')
  const peer: CommandPeer = {
    onDrain() {}, onInput: () => true, onClose() {},
    write(channel, payload) {
      const output = outputs[channel]
      return output === undefined || output.destroyed || output.write(payload)
    },
    resume() { stdin?.resume() },
    finish(status) {
      for (const output of Object.values(outputs)) output?.end()
      const result = version >= 4 ? status : plainResult(status)
      streams.get('error')!.end(result)
      setTimeout(() => connection.end(), LINGER_MS).unref()
    },
  }
  for (const output of Object.values(outputs)) output?.on('drain', () => peer.onDrain())
  stdin?.on('data', (data: Buffer) => { if (!peer.onInput(Channel.stdin, data)) stdin.pause() })
  stdin?.once('end', () => peer.onInput(Channel.close, Buffer.of(Channel.stdin)))
  resize?.on('data', (data: Buffer) => peer.onInput(Channel.resize, data))
  // Nothing comes on these, but only a stream that is read ends.
  for (const name of ['error', 'stdout', 'stderr']) streams.get(name)?.resume()
  return peer
}
