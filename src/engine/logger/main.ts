/**
 * The log daemon: drains the output of all containers of one engine into files, in a process of its own, so that neither the
 * agent's restart nor its death makes a container block or loses a line. Imports little but node: modules, to stay small.
 */
import { LogServer } from './server.ts'

export interface LoggerConfig {
  /** Unix socket to serve (mode 0600); beside it `SOCKET.state` lists what is open, for a successor. */
  socket: string
}

/** For the compile cache. */
export async function loadLater(): Promise<void> { await import('./senders/index.ts') }

/** Resolves when it serves. `close` writes what the FIFOs hold. Rejects if the socket cannot be had. */
export async function runLogger(config: LoggerConfig): Promise<{ close(): Promise<void> }> {
  const server = new LogServer(config.socket)
  process.on('SIGHUP', () => undefined)
  await server.listen()
  return { close: () => server.close() }
}
