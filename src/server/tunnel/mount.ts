/** Where agents dial in: `POST /gantry/v1/tunnel` with `Upgrade: gantry-tunnel`. */
import { ApiError } from '../../core/errors.ts'
import { nodeOf } from '../auth/node-restriction.ts'
import type { ServerHost } from '../host.ts'
import type { Tunnels } from './tunnels.ts'

const PROTOCOL = 'gantry-tunnel'

export function mountTunnel(host: ServerHost, tunnels: Tunnels): void {
  host.onUpgrade('/gantry/v1/tunnel', ({ req, user }, socket, head) => {
    const node = nodeOf(user)
    if (node === undefined || node === '') {
      return host.refuse(socket, new ApiError('Forbidden', `only nodes may open a tunnel: "${user.name}" is no system:node:NAME in group system:nodes`))
    }
    if (String(req.headers['upgrade']).toLowerCase() !== PROTOCOL) {
      return host.refuse(socket, new ApiError('BadRequest', `the tunnel needs "Upgrade: ${PROTOCOL}"`))
    }
    if (head.length > 0) socket.unshift(head)
    socket.on('error', () => {})
    // HTTP/2 takes the connection over below the stream, which Node survives only when no write of ours is under way.
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${PROTOCOL}\r\n\r\n`, (e) => {
      if (!e && !socket.destroyed) tunnels.add(node, socket)
    })
  })
  host.handle('/gantry/v1/tunnel', () => {
    throw new ApiError('BadRequest', `the tunnel needs "Connection: Upgrade" and "Upgrade: ${PROTOCOL}" over HTTP/1.1`)
  })
}
