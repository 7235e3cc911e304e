/** The remote-command protocol over WebSocket: `v5.channel.k8s.io` down to the first version, binary and base64. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import type { WebSocket } from 'ws'
import { badRequest } from '../../core/errors.ts'
import { Channel } from '../../core/node-api.ts'
import type { Request } from '../host.ts'
import { plainResult } from './command-peer.ts'
import type { CommandPeer, CommandStreams } from './command-peer.ts'

/** Best first. A client that names no protocol speaks the first version. */
const PROTOCOLS = [
  'v5.channel.k8s.io', 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io',
  'channel.k8s.io', 'base64.channel.k8s.io',
]
const MAX_MESSAGE_BYTES = 4 << 20
/** Output that the caller has not taken beyond this stops the node. */
const HIGH_WATER_BYTES = 1 << 20
const NORMAL_CLOSURE = 1000

const acceptor = new WebSocketServer({
  noServer: true, perMessageDeflate: false, maxPayload: MAX_MESSAGE_BYTES, clientTracking: false,
  handleProtocols: (offered) => PROTOCOLS.find((p) => offered.has(p)) ?? false,
})

export function isWebSocket(req: Request): boolean {
  return req.headers['upgrade']?.toLowerCase() === 'websocket'
}

/** Throws BadRequest when the client offers protocols, but none that is known. */
export function checkWebSocketProtocol(req: Request): void {
  const offered = req.headers['sec-websocket-protocol']?.split(',').map((p) => p.trim()) ?? []
  if (offered.length > 0 && !offered.some((p) => PROTOCOLS.includes(p))) {
    throw badRequest(`none of the WebSocket protocols offered (${offered.join(', ')}) is known; these are: ${PROTOCOLS.join(', ')}`)
  }
}

/** Answers 101. Resolves with undefined when the handshake was bad (it is then answered). */
export function acceptWebSocketCommand(
  req: Request, socket: Duplex, head: Buffer, streams: CommandStreams,
): Promise<CommandPeer | undefined> {
  return new Promise((resolve) => {
    const fail = () => resolve(undefined)
    socket.once('close', fail)
    acceptor.handleUpgrade(req as IncomingMessage, socket, head, (ws) => {
      socket.off('close', fail)
      resolve(peerOf(ws, streams))
    })
  })
}

function peerOf(ws: WebSocket, streams: CommandStreams): CommandPeer {
  const base64 = ws.protocol.includes('base64')
  const version = Number(/^v(\d)/.exec(ws.protocol)?.[1] ?? 1)
  let full = false
  const send = (channel: number, payload: Buffer, done?: () => void) => {
    if (ws.readyState !== ws.OPEN) return
    if (base64) ws.send(`${channel}${payload.toString('base64')}`, done)
    else ws.send(Buffer.concat([Buffer.of(channel), payload]), done)
  }
  const peer: CommandPeer = {
    onDrain() {}, onInput: () => true, onClose() {},
    write(channel, payload) {
      send(channel, payload, () => {
        if (!full || ws.bufferedAmount > HIGH_WATER_BYTES / 2) return
        full = false
        peer.onDrain()
      })
      if (ws.bufferedAmount > HIGH_WATER_BYTES) full = true
      return !full
    },
    resume: () => ws.resume(),
    finish(status) {
      if (version >= 4) send(Channel.error, status)
      else if (plainResult(status) !== '') send(Channel.error, Buffer.from(plainResult(status)))
      ws.close(NORMAL_CLOSURE)
    },
  }
  ws.on('message', (data: Buffer, binary: boolean) => {
    if (data.length === 0) return
    // A base64 client writes the channel as a digit; so does a text message of a binary client, which Kubernetes refuses.
    if (!base64 && !binary) return ws.close(1003, 'binary messages are expected')
    const channel = base64 ? data[0]! - 0x30 : data[0]!
    const payload = base64 ? Buffer.from(data.subarray(1).toString('latin1'), 'base64') : data.subarray(1)
    const known = (channel === Channel.stdin && streams.stdin) || channel === Channel.resize || (channel === Channel.close && version >= 5)
    if (!known || (payload.length === 0 && channel !== Channel.close)) return
    if (!peer.onInput(channel, payload)) ws.pause()
  })
  // 'close' follows.
  ws.on('error', () => {})
  ws.once('close', () => peer.onClose())
  // Some clients take the first message, even an empty one, as the sign that the command runs.
  send(streams.stdout ? Channel.stdout : streams.stderr ? Channel.stderr : Channel.error, Buffer.alloc(0))
  return peer
}
