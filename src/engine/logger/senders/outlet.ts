/** Where encoded lines leave: a connection that is made again whenever it breaks, or datagrams. */
import { createSocket } from 'node:dgram'
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

const FIRST_RETRY_MS = 100
const MAX_RETRY_MS = 5000
const MAX_QUEUE_BYTES = 4 << 20
/** Bytes handed to the connection at once; the rest waits where it can still be counted. */
const WINDOW_BYTES = 256 << 10

export interface Outlet {
  push(message: Buffer): void
  /** Resolves when all is away, at the latest after `timeoutMs`. */
  close(timeoutMs: number): Promise<void>
}

export interface OutletOptions {
  /** For the note about what was dropped. */
  name: string
  onNote(text: string): void
  maxMessages?: number
}

/** Counts what got lost and tells it once something gets away again, or at the end. */
class Losses {
  readonly #o: OutletOptions
  #lines = 0
  #reason = ''

  constructor(o: OutletOptions) { this.#o = o }

  add(lines: number, reason: string): void {
    this.#lines += lines
    this.#reason = reason
  }

  tell(): void {
    if (this.#lines === 0) return
    this.#o.onNote(`${this.#lines} log lines not sent to ${this.#o.name}: ${this.#reason}`)
    this.#lines = 0
  }
}

/** `connect` makes a connection and calls `ready` once it stands; the kernel having taken a message is all that is known of it. */
export class StreamOutlet implements Outlet {
  readonly #connect: (ready: () => void) => Writable
  readonly #o: OutletOptions
  readonly #losses: Losses
  /** The first `#sent` of it are with the connection, and go again if it breaks. */
  #queue: Buffer[] = []
  #queueBytes = 0
  #sent = 0
  #sentBytes = 0
  #connection: Writable | undefined
  #ready = false
  #retryMs = FIRST_RETRY_MS
  #retry: NodeJS.Timeout | undefined
  #reason = 'it is not reachable'
  #closed = false
  #drained: (() => void) | undefined

  constructor(connect: (ready: () => void) => Writable, options: OutletOptions) {
    this.#connect = connect
    this.#o = options
    this.#losses = new Losses(options)
    this.#open()
  }

  push(message: Buffer): void {
    if (this.#queueBytes + message.length > MAX_QUEUE_BYTES || this.#queue.length >= (this.#o.maxMessages ?? Infinity)) {
      this.#losses.add(1, this.#ready ? 'it takes them too slowly' : this.#reason)
      return
    }
    this.#queue.push(message)
    this.#queueBytes += message.length
    this.#pump()
  }

  async close(timeoutMs: number): Promise<void> {
    if (this.#queue.length > 0) {
      const timer = new AbortController()
      const drained = new Promise<void>((resolve) => { this.#drained = resolve })
      await Promise.race([drained, sleep(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined)])
      timer.abort()
    }
    this.#closed = true
    clearTimeout(this.#retry)
    if (this.#queue.length > 0) this.#losses.add(this.#queue.length, this.#ready ? 'it takes them too slowly' : this.#reason)
    this.#losses.tell()
    if (this.#queue.length > 0) this.#connection?.destroy()
    else this.#connection?.end()
  }

  #open(): void {
    const connection = this.#connect(() => {
      if (this.#connection !== connection) return
      this.#ready = true
      this.#retryMs = FIRST_RETRY_MS
      this.#pump()
    })
    this.#connection = connection
    connection.on('error', (e) => {
      this.#reason = e.message
      connection.destroy()
    })
    connection.on('close', () => {
      if (this.#connection !== connection) return
      this.#connection = undefined
      this.#ready = false
      this.#sent = 0
      this.#sentBytes = 0
      if (this.#closed) return
      this.#retry = setTimeout(() => { this.#open() }, this.#retryMs)
      this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS)
    })
  }

  /** Many small messages in one write. */
  #pump(): void {
    const connection = this.#connection
    if (!this.#ready || connection === undefined || this.#sentBytes > 0) return
    let count = 0
    let bytes = 0
    while (count < this.#queue.length && bytes < WINDOW_BYTES) bytes += (this.#queue[count++] as Buffer).length
    if (count === 0) {
      this.#drained?.()
      return
    }
    this.#sent = count
    this.#sentBytes = bytes
    connection.write(count === 1 ? this.#queue[0] as Buffer : Buffer.concat(this.#queue.slice(0, count), bytes), (error) => {
      if (error != null || this.#connection !== connection) return
      this.#queue = this.#queue.slice(this.#sent)
      this.#queueBytes -= this.#sentBytes
      this.#sent = 0
      this.#sentBytes = 0
      this.#losses.tell()
      this.#pump()
    })
  }
}

const MAX_UNSENT_DATAGRAMS = 4096
/** IPv4's limit less headers; longer ones are cut, as a server would. */
const MAX_DATAGRAM_BYTES = 65_507

/** Each message a datagram; what the network loses nobody knows. */
export class UdpOutlet implements Outlet {
  readonly #socket
  readonly #losses: Losses
  #unsent = 0
  #idle: (() => void) | undefined

  constructor(host: string, port: number, options: OutletOptions) {
    this.#losses = new Losses(options)
    this.#socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' })
    this.#socket.unref()
    this.#socket.on('error', () => undefined)
    this.#send = (message) => {
      this.#socket.send(message, port, host, (error) => {
        this.#unsent--
        if (error !== null) this.#losses.add(1, error.message)
        else this.#losses.tell()
        if (this.#unsent === 0) this.#idle?.()
      })
    }
  }

  readonly #send: (message: Buffer) => void

  push(message: Buffer): void {
    if (this.#unsent >= MAX_UNSENT_DATAGRAMS) {
      this.#losses.add(1, 'it takes them too slowly')
      return
    }
    this.#unsent++
    this.#send(message.length > MAX_DATAGRAM_BYTES ? message.subarray(0, MAX_DATAGRAM_BYTES) : message)
  }

  async close(timeoutMs: number): Promise<void> {
    if (this.#unsent > 0) {
      const timer = new AbortController()
      await Promise.race([
        new Promise<void>((resolve) => { this.#idle = resolve }), sleep(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined),
      ])
      timer.abort()
    }
    this.#losses.tell()
    this.#socket.close()
  }
}
