/**
 * `pods/NAME/exec` and `attach`: the caller speaks Kubernetes' remote-command protocol over WebSocket or SPDY, the node
 * frames over its tunnel (core/frames.ts). The channels are the same, so this is a relay with back-pressure both ways.
 */
import { constants } from 'node:http2'
import type { ClientHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { ApiError, badRequest } from '../../core/errors.ts'
import { FrameDecoder, encodeFrame } from '../../core/frames.ts'
import { pods } from '../../core/kinds.ts'
import { Channel } from '../../core/node-api.ts'
import type { Context, ServerHost } from '../host.ts'
import type { Tunnels } from '../tunnel/tunnels.ts'
import type { CommandPeer, CommandStreams } from './command-peer.ts'
import { flag, podTarget } from './pod-target.ts'
import { throwIfError } from './relay.ts'
import { acceptSpdyCommand, agreeOnSpdy, isSpdy, offeredSpdyProtocols } from './spdy-command.ts'
import { acceptWebSocketCommand, checkWebSocketProtocol, isWebSocket } from './websocket-command.ts'

export function mountRemoteCommands(host: ServerHost, tunnels: Tunnels): void {
  for (const subresource of ['exec', 'attach'] as const) {
    host.onSubresourceUpgrade(pods, subresource, async (context, socket, head) => {
      socket.on('error', () => {})
      try {
        await serve(host, tunnels, subresource, context, socket, head)
      } catch (e) {
        host.refuse(socket, e)
      }
    })
    host.handleSubresource(pods, subresource, () => {
      throw badRequest(`Upgrade request required: pods/${subresource} needs WebSocket or SPDY/3.1`)
    })
  }
}

async function serve(
  host: ServerHost, tunnels: Tunnels, what: 'exec' | 'attach', context: Context, socket: Duplex, head: Buffer,
): Promise<void> {
  const { req, info, query } = context
  const tty = flag(query, 'tty')
  const streams: CommandStreams = { stdin: flag(query, 'stdin'), stdout: flag(query, 'stdout'), stderr: flag(query, 'stderr') && !tty, tty }
  if (!streams.stdin && !streams.stdout && !streams.stderr) throw badRequest('you must specify at least 1 of stdin, stdout, stderr')
  const command = query.getAll('command')
  if (what === 'exec' && command.length === 0) throw badRequest('you must specify at least one command for the container')
  let spdyProtocol: string | undefined
  if (isWebSocket(req)) {
    checkWebSocketProtocol(req)
  } else {
    if (!isSpdy(req)) throw badRequest(`Upgrade request required: "${req.headers['upgrade']}" is neither websocket nor SPDY/3.1`)
    if (offeredSpdyProtocols(req) === undefined) throw badRequest('the header X-Stream-Protocol-Version is missing')
    spdyProtocol = agreeOnSpdy(req, socket)
    if (spdyProtocol === undefined) return
  }
  const { node, container } = await podTarget(host, context)
  const asked = new URLSearchParams({ namespace: info.namespace, pod: info.name, container })
  for (const [name, on] of Object.entries(streams)) if (on) asked.set(name, 'true')
  for (const word of command) asked.append('command', word)
  const gone = new AbortController()
  const leave = () => gone.abort()
  socket.once('close', leave)
  // Before the upgrade, so that a node's refusal is a plain HTTP error, which clients can show.
  const answer = await tunnels.request(node, 'POST', `/${what}?${asked}`, { duplex: true, signal: gone.signal })
  await throwIfError(answer)
  socket.off('close', leave)
  if (socket.destroyed) return answer.body.close(constants.NGHTTP2_CANCEL)
  const peer = spdyProtocol === undefined
    ? await acceptWebSocketCommand(req, socket, head, streams)
    : await acceptSpdyCommand(spdyProtocol, socket, head, streams)
  if (peer === undefined) return answer.body.close(constants.NGHTTP2_CANCEL)
  connect(answer.body, peer, node)
}

/** Joins the node's stream with the caller until the command is over or one of them has gone. */
export function connect(stream: ClientHttp2Stream, peer: CommandPeer, node: string): void {
  let finished = false
  const finish = (status: Buffer) => {
    if (finished) return
    finished = true
    peer.finish(status)
    stream.end()
  }
  const decoder = new FrameDecoder((channel, payload) => {
    if (finished) return
    if (channel === Channel.error) finish(payload)
    else if (!peer.write(channel, payload)) stream.pause()
  })
  stream.on('data', (chunk: Buffer) => {
    try {
      decoder.push(chunk)
    } catch (e) {
      finish(failure(`node "${node}" sent a broken stream: ${(e as Error).message}`))
      stream.close(constants.NGHTTP2_PROTOCOL_ERROR)
    }
  })
  stream.once('close', () => finish(failure(`node "${node}" was lost before the command's result was known`)))
  stream.once('end', () => finish(failure(`node "${node}" ended the stream without the command's result`)))
  peer.onDrain = () => { stream.resume() }
  peer.onInput = (channel, payload) => stream.destroyed || stream.writableEnded || stream.write(encodeFrame(channel, payload))
  stream.on('drain', () => peer.resume())
  peer.onClose = () => {
    if (finished) return
    finished = true
    stream.close(constants.NGHTTP2_CANCEL)
  }
}

function failure(message: string): Buffer {
  return Buffer.from(JSON.stringify(new ApiError('InternalError', message).toStatus()))
}
