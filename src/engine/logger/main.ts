/**
 * The log daemon: drains the output of all containers of one engine into files, in a process of its own, so that neither the
 * agent's restart nor its death makes a container block or loses a line. Imports only node: modules, to stay small.
 */
import { LogServer } from './server.ts'

export interface LoggerConfig {
  /** Unix socket to serve (mode 0600); beside it `SOCKET.state` lists what is open, for a successor. */
  socket: string
}

/** For the one who starts it: with a small young generation the process stays about 10 MB above Node's own size. */
export const LOGGER_NODE_FLAGS = ['--max-semi-space-size=1']

/** Serves until SIGTERM or SIGINT; resolves when all is written. Rejects if the socket cannot be had. */
export async function runLogger(config: LoggerConfig): Promise<void> {
  const server = new LogServer(config.socket)
  const stop = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { resolve() })
  })
  process.on('SIGHUP', () => undefined)
  await server.listen()
  await stop
  server.close()
}
