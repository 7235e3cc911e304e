/**
 * `pods/NAME/portforward`: SPDY/3.1 frames, either on the upgraded connection itself or (kubectl from 1.31) inside a
 * WebSocket. Each forwarded connection is a pair of streams, `error` and `data`, with one `requestid`, and one byte stream
 * over the node's tunnel.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream'
import { WebSocketServer, createWebSocketStream } from 'ws'
import { badRequest } from '../../core/errors.ts'
import { pods } from '../../core/kinds.ts'
import type { Context, ServerHost } from '../host.ts'
import type { Tunnels } from '../tunnel/tunnels.ts'
import { podTarget } from './pod-target.ts'
import { throwIfError } from './relay.ts'
import { agreeOnSpdy, isSpdy, offeredSpdyProtocols, switchToSpdy } from './spdy-command.ts'
import { SpdyConnection } from './spdy.ts'
import type { SpdyStream } from './spdy.ts'
import { isWebSocket } from './websocket-command.ts'

const SPDY_PROTOCOL = 'portforward.k8s.io'
const WEBSOCKET_PROTOCOL = `SPDY/3.1+${SPDY_PROTOCOL}`
const MAX_MESSAGE_BYTES = 4 << 20
/** A lone half of a pair is given up after this time. */
const PAIR_TIMEOUT_MS = 30_000

const acceptor = new WebSocketServer({
  noServer: true, perMessageDeflate: false, maxPayload: MAX_MESSAGE_BYTES, clientTracking: false,
  handleProtocols: (offered) => offered.has(WEBSOCKET_PROTOCOL) && WEBSOCKET_PROTOCOL,
})

export function mountPortForward(host: ServerHost, tunnels: Tunnels): void {
  host.onSubresourceUpgrade(pods, 'portforward', async (context, socket, head) => {
    socket.on('error', () => {})
    try {
      await serve(host, tunnels, context, socket, head)
    } catch (e) {
      host.refuse(socket, e)
    }
  })
  host.handleSubresource(pods, 'portforward', () => {
    throw badRequest('Upgrade request required: pods/portforward needs WebSocket or SPDY/3.1')
  })
}

async function serve(host: ServerHost, tunnels: Tunnels, context: Context, socket: Duplex, head: Buffer): Promise<void> {
  const { req, info, query } = context
  const webSocket = isWebSocket(req)
  if (webSocket) {
    const offered = req.headers['sec-websocket-protocol']?.split(',').map((p) => p.trim()) ?? []
    if (!offered.includes(WEBSOCKET_PROTOCOL)) throw badRequest(`port-forward over WebSocket needs the protocol ${WEBSOCKET_PROTOCOL}`)
  } else if (!isSpdy(req) || offeredSpdyProtocols(req) === undefined) {
    throw badRequest('port-forward needs "Upgrade: SPDY/3.1" with X-Stream-Protocol-Version, or WebSocket')
  }
  // A container is of no interest here: all of a Pod's share its ports.
  query.set('container', (await host.client.get(pods, { namespace: info.namespace, name: info.name })).spec.containers[0]!.name)
  const { node } = await podTarget(host, context)
  const open = (port: number) => tunnels.request(
    node, 'POST', `/portforward?${new URLSearchParams({ namespace: info.namespace, pod: info.name, port: String(port) })}`, { duplex: true },
  )
  if (webSocket) {
    acceptor.handleUpgrade(req as IncomingMessage, socket, head, (ws) => forward(createWebSocketStream(ws), open))
  } else {
    const protocol = agreeOnSpdy(req, socket, [SPDY_PROTOCOL])
    if (protocol === undefined) return
    switchToSpdy(protocol, socket, head)
    forward(socket, open)
  }
}

type Open = (port: number) => ReturnType<Tunnels['request']>
interface Pair { error?: SpdyStream; data?: SpdyStream; timer: NodeJS.Timeout }

/** Serves forwarded connections until the client closes `transport`. */
export function forward(transport: Duplex, open: Open): void {
  const pairs = new Map<string, Pair>()
  new SpdyConnection(transport, (stream) => {
    const { streamtype, requestid = '' } = stream.headers
    if (streamtype !== 'error' && streamtype !== 'data') return void stream.destroy()
    let pair = pairs.get(requestid)
    if (pair === undefined) {
      const timer = setTimeout(() => {
        pairs.delete(requestid)
        stream.destroy()
      }, PAIR_TIMEOUT_MS)
      pairs.set(requestid, pair = { timer })
    }
    pair[streamtype] = stream
    if (pair.error === undefined || pair.data === undefined) return
    clearTimeout(pair.timer)
    pairs.delete(requestid)
    void forwardOne(pair.error, pair.data, open)
  }, () => {
    for (const { timer } of pairs.values()) clearTimeout(timer)
  })
}

async function forwardOne(error: SpdyStream, data: SpdyStream, open: Open): Promise<void> {
  error.resume()
  const port = Number(data.headers['port'])
  try {
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw badRequest(`invalid port ${JSON.stringify(data.headers['port'] ?? '')}`)
    const answer = await open(port)
    await throwIfError(answer)
    if (data.destroyed) return answer.body.close()
    // Each direction ends by itself: a client may close its half and still read.
    pipeline(data, answer.body, () => {})
    await new Promise<void>((resolve, reject) => pipeline(answer.body, data, (e) => e ? reject(e) : resolve()))
    error.end()
  } catch (e) {
    if (!error.destroyed) error.end(`an error occurred forwarding port ${data.headers['port']}: ${(e as Error).message}`)
    data.end()
  }
}
