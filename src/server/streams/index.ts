/** Everything that streams between clients and nodes: logs, exec, attach, port-forward, and the nodes' own interface. */
import type { ServerHost } from '../host.ts'
import { mountTunnel } from '../tunnel/mount.ts'
import type { Tunnels } from '../tunnel/tunnels.ts'
import { mountLogs } from './logs.ts'
import { mountNodeProxy } from './node-proxy.ts'
import { mountPortForward } from './port-forward.ts'
import { mountRemoteCommands } from './remote-command.ts'

export function mountStreams(host: ServerHost, tunnels: Tunnels): void {
  mountTunnel(host, tunnels)
  mountLogs(host, tunnels)
  mountRemoteCommands(host, tunnels)
  mountPortForward(host, tunnels)
  mountNodeProxy(host, tunnels)
}
