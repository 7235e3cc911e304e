/** Attach: over the hijacked connection, and over a WebSocket. */
import { pipeline } from 'node:stream/promises'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { DockerError } from '../../errors.ts'
import type { AttachOptions, Streams } from '../../backend.ts'
import type { Call, Handler } from '../call.ts'
import { demux } from '../demux.ts'
import { parseDetachKeys } from '../detach-keys.ts'
import { carry, headerAlone, hijack, streamType } from '../hijack.ts'
import type { Query } from '../query.ts'
import type { Route } from '../router.ts'

export const streamRoutes: readonly Route<Handler>[] = [
  { method: 'GET', path: '/containers/{name}/attach/ws', handler: attachWebSocket },
  { method: 'POST', path: '/containers/{name}/attach', handler: attach },
]

const MAX_MESSAGE_BYTES = 16 << 20
const acceptor = new WebSocketServer({ noServer: true, clientTracking: false, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false })

function attachOptions(query: Query): AttachOptions {
  return {
    stream: query.flag('stream'), stdin: query.flag('stdin'), stdout: query.flag('stdout'), stderr: query.flag('stderr'), logs: query.flag('logs'),
  }
}

async function attach(c: Call): Promise<void> {
  const keys = parseDetachKeys(c.query.optional('detachKeys'))
  const streams = await c.backend.containers.attach(c.name, attachOptions(c.query))
  const socket = await hijack(c, streamType(c, streams.tty)).catch((e: unknown) => {
    streams.close()
    throw e
  })
  await headerAlone()
  await carry(socket, streams, keys)
}

async function attachWebSocket(c: Call): Promise<void> {
  if (c.upgrade === undefined) throw new DockerError('invalid', 'attach/ws needs a WebSocket: the request has no "Upgrade: websocket"')
  const keys = parseDetachKeys(c.query.optional('detachKeys'))
  const streams = await c.backend.containers.attach(c.name, attachOptions(c.query))
  const { socket, head } = c.upgrade
  c.hijacked = true
  c.res.detachSocket(c.res.socket!)
  socket.once('close', () => streams.close())
  acceptor.handleUpgrade(c.req, socket, head, ws => {
    void carry(createWebSocketStream(ws), unframed(streams), keys)
  })
}

/** A WebSocket's messages bear no frames. */
function unframed(streams: Streams): Streams {
  if (streams.tty) return streams
  const output = demux()
  pipeline(streams.output, output).catch(() => { /* the end of the output, however it came, ends the connection */ })
  return { ...streams, output, close: detached => streams.close(detached) }
}
