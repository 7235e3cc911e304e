/** DNS over TCP (RFC 1035, 4.2.2): each message after its length in two bytes. */
import type { Socket } from 'node:net'

/** The longest message that can be said in two bytes. */
export const tcpLimit = 65_535
const idleMs = 10_000
/** Answers that wait for a client to read them: one with more is cut off. */
const maxUnreadBytes = 256 * 1024

/** `answer` may reply at any time, also after the connection's end; false ends the connection. */
export function serveTcp(socket: Socket, open: Set<Socket>, answer: (packet: Buffer, reply: (message: Buffer) => void) => boolean): void {
  open.add(socket)
  socket.setTimeout(idleMs, () => socket.destroy())
  socket.on('error', () => undefined)
  socket.on('close', () => open.delete(socket))
  const reply = (message: Buffer): void => {
    if (socket.destroyed) return
    const length = Buffer.allocUnsafe(2)
    length.writeUInt16BE(message.length)
    if (socket.writableLength > maxUnreadBytes) socket.destroy()
    else socket.write(Buffer.concat([length, message]))
  }
  let pending: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    while (!socket.destroyed && pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      const end = 2 + pending.readUInt16BE(0)
      if (!answer(pending.subarray(2, end), reply)) socket.destroy()
      pending = pending.subarray(end)
    }
  })
}
