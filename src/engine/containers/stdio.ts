/** Node streams over FIFOs that a shim has the other end of. */
import { constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'

/**
 * Reads a FIFO to its end: the end comes when the last of the writers that came has gone, never before the first one.
 * A net.Socket waits in epoll; fs.read would hold a thread of the pool each.
 */
export function readFifo(path: string): Readable {
  const socket = new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false })
  socket.on('error', () => { socket.destroy() })
  return socket
}

/** Writes to a FIFO whose reader is there already (ENXIO otherwise). A reader that goes ends the stream quietly. */
export function writeFifo(path: string): Writable {
  const socket = new Socket({ fd: openSync(path, constants.O_WRONLY | constants.O_NONBLOCK), readable: false, writable: true })
  socket.on('error', () => { socket.destroy() })
  return socket
}
