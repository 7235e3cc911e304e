/** Connections that stop being HTTP: attach and exec. */
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Streams } from '../backend.ts'
import type { Call } from './call.ts'
import { DetachFilter } from './detach-keys.ts'
import { gate } from './versions.ts'

export const RAW_STREAM = 'application/vnd.docker.raw-stream'
export const MULTIPLEXED_STREAM = 'application/vnd.docker.multiplexed-stream'
/** A client that does not close after the end of output is cut off. */
const LINGER_MS = 10_000
/** docker-py loses what comes with the header: it gets the time to read that alone. */
export const HEADER_ALONE_MS = 2

export function streamType(call: Call, tty: boolean): string {
  return !tty && gate.multiplexedType(call.version) ? MULTIPLEXED_STREAM : RAW_STREAM
}

/** Takes the connection over and sends its header: 101 if the client has asked for an upgrade, else 200 and raw bytes to the end. */
export async function hijack(call: Call, type: string): Promise<Duplex> {
  const { res, upgrade } = call
  const socket = upgrade?.socket ?? res.socket!
  call.hijacked = true
  res.detachSocket(res.socket!)
  if (upgrade === undefined) takeFromServer(socket)
  const lines = upgrade === undefined ? ['HTTP/1.1 200 OK'] : ['HTTP/1.1 101 UPGRADED', 'Connection: Upgrade', 'Upgrade: tcp']
  for (const [name, value] of Object.entries(call.headers)) lines.push(`${name}: ${value}`)
  lines.push(`Content-Type: ${type}`, '', '')
  socket.on('error', () => { /* its close is what counts */ })
  await new Promise<void>(resolve => socket.write(lines.join('\r\n'), () => resolve()))
  if (upgrade !== undefined && upgrade.head.length > 0) socket.unshift(upgrade.head)
  return socket
}

/** Without an upgrade the HTTP server still listens: what it would do with more bytes and their end is no longer its business. */
function takeFromServer(socket: Duplex): void {
  // Its parser reads from the kernel by itself until somebody else wants to read; else it would answer the client's first bytes with 400.
  socket.on('data', () => { /* none comes before the pause */ })
  socket.pause()
  for (const event of ['data', 'end', 'drain', 'timeout']) socket.removeAllListeners(event)
}

/**
 * Carries bytes both ways until the output ends, the client goes, or the detach keys are typed. The client may close its sending side: that
 * ends the input alone.
 */
export async function carry(socket: Duplex, streams: Streams, detachKeys: readonly number[]): Promise<void> {
  const { output, input } = streams
  const filter = streams.tty ? new DetachFilter(detachKeys) : undefined
  let over = false
  const end = (detached: boolean): void => {
    if (over) return
    over = true
    streams.close(detached)
    output.unpipe(socket)
    output.resume()
    closeSoon(socket)
  }
  socket.on('data', (chunk: Buffer) => {
    if (over || input === undefined || input.writableEnded || input.destroyed) return
    const { data, detached } = filter === undefined ? { data: chunk, detached: false } : filter.push(chunk)
    if (data.length > 0 && !input.write(data)) {
      socket.pause()
      input.once('drain', () => socket.resume())
    }
    if (detached) end(true)
  })
  socket.resume()
  // Without an input the data is read for its end alone.
  socket.on('end', () => input?.end())
  // A client with nothing to send has ended before anybody listened.
  if (socket.readableEnded) input?.end()
  // The process has closed its side: what is still sent has nobody to go to.
  input?.on('error', () => socket.resume())
  input?.on('close', () => socket.resume())
  socket.on('close', () => end(false))
  if (socket.destroyed) return end(false)
  output.pipe(socket, { end: false })
  await new Promise<void>(resolve => finished(output, { writable: false }, () => resolve()))
  end(false)
}

/** Ends our side, discards what still comes, and closes when the client does or after a while. */
export function closeSoon(socket: Duplex): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
  socket.end()
  socket.resume()
}

export function headerAlone(): Promise<void> { return delay(HEADER_ALONE_MS) }
