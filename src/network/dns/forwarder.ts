/** Asks upstream resolvers, each in turn with its own time, and keeps their answers for as long as they hold. */
import { randomInt } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import type { Query, UpstreamAnswer } from './wire.ts'
import { encodeQuery, parseAnswer, Rcode } from './wire.ts'
import type { Upstream } from './upstreams.ts'

const attemptMs = 1000
const deadlineMs = 5000
const rounds = 2
const restMs = 10_000
const maxOutstanding = 512
const socketsPerFamily = 8
const cacheEntries = 4096
const maxCachedBytes = 4096
const maxTtlSeconds = 300

interface Waiting {
  query: Query
  upstream: Upstream
  socket: Socket
  resolve: (answer: UpstreamAnswer) => void
}

export class Forwarder {
  readonly #upstreams: () => Upstream[] | Promise<Upstream[]>
  /** `socket number:id` → what is awaited there. */
  readonly #waiting = new Map<string, Waiting>()
  readonly #sockets = new Map<4 | 6, Socket[]>()
  readonly #underway = new Map<string, Promise<Cached>>()
  readonly #cache = new Map<string, Cached>()
  /** Upstreams that did not answer, and until when they come last. */
  readonly #resting = new Map<string, number>()
  #closed = false

  constructor(upstreams: () => Upstream[] | Promise<Upstream[]>) {
    this.#upstreams = upstreams
  }

  /** Rejects if no upstream answered in time, or if too much is under way. */
  resolve(query: Query): Cached | Promise<Cached> {
    const known = this.known(query)
    if (known !== undefined) return known
    const key = keyOf(query)
    const underway = this.#underway.get(key)
    if (underway !== undefined) return underway
    if (this.#closed || this.#underway.size >= maxOutstanding) return Promise.reject(new Error('too many questions are under way'))
    const asking = this.#ask(query).then((answer) => this.#remember(key, answer)).finally(() => this.#underway.delete(key))
    this.#underway.set(key, asking)
    return asking
  }

  /** What need not be asked. */
  known(query: Query): Cached | undefined {
    const key = keyOf(query)
    const cached = this.#cache.get(key)
    if (cached === undefined || performance.now() < cached.expiresAtMs) return cached
    this.#cache.delete(key)
    return undefined
  }

  close(): void {
    this.#closed = true
    for (const sockets of this.#sockets.values()) for (const socket of sockets) socket.close()
    this.#sockets.clear()
  }

  #remember(key: string, answer: UpstreamAnswer): Cached {
    const atMs = performance.now()
    const cached: Cached = { answer, atMs, expiresAtMs: atMs + Math.min(answer.ttlSeconds, maxTtlSeconds) * 1000 }
    if (answer.ttlSeconds > 0 && answer.packet.length <= maxCachedBytes) {
      // A Map goes over its keys in the order of insertion: the first one is the oldest.
      if (this.#cache.size >= cacheEntries) for (const oldest of this.#cache.keys()) { this.#cache.delete(oldest); break }
      this.#cache.set(key, cached)
    }
    return cached
  }

  async #ask(query: Query): Promise<UpstreamAnswer> {
    const startedMs = performance.now()
    const upstreams = this.#inOrder(await this.#upstreams())
    if (upstreams.length === 0) throw new Error('no upstream resolver is known')
    let refused: UpstreamAnswer | undefined
    for (let round = 0; round < rounds; round++) {
      for (const upstream of upstreams) {
        const leftMs = deadlineMs - (performance.now() - startedMs)
        if (leftMs <= 0 || this.#closed) break
        const answer = await this.#attempt(query, upstream, Math.min(attemptMs, leftMs))
        if (answer === undefined) continue
        if (answer.rcode === Rcode.ok || answer.rcode === Rcode.nameError) return answer
        refused = answer
      }
      if (refused !== undefined) return refused
    }
    throw new Error('no upstream resolver answered')
  }

  #inOrder(upstreams: Upstream[]): Upstream[] {
    const now = performance.now()
    const rests = (upstream: Upstream): number => ((this.#resting.get(nameOf(upstream)) ?? 0) > now ? 1 : 0)
    return upstreams.toSorted((a, b) => rests(a) - rests(b))
  }

  async #attempt(query: Query, upstream: Upstream, timeoutMs: number): Promise<UpstreamAnswer | undefined> {
    let answer = await this.#askUdp(query, upstream, timeoutMs)
    if (answer?.truncated === true) answer = await askTcp(query, upstream, timeoutMs) ?? answer
    if (answer === undefined) this.#resting.set(nameOf(upstream), performance.now() + restMs)
    else this.#resting.delete(nameOf(upstream))
    return answer
  }

  async #askUdp(query: Query, upstream: Upstream, timeoutMs: number): Promise<UpstreamAnswer | undefined> {
    if (this.#closed) return undefined
    const family = isIPv6(upstream.address) ? 6 : 4
    const sockets = this.#socketsFor(family)
    const number = randomInt(sockets.length)
    const socket = sockets[number]!
    let id = randomInt(0x10000)
    while (this.#waiting.has(`${family}:${number}:${id}`)) id = (id + 1) & 0xffff
    const key = `${family}:${number}:${id}`
    const { promise, resolve } = Promise.withResolvers<UpstreamAnswer | undefined>()
    const timer = setTimeout(() => resolve(undefined), timeoutMs)
    this.#waiting.set(key, { query, upstream, socket, resolve })
    socket.send(encodeQuery(id, query), upstream.port, upstream.address, (error) => {
      if (error !== null) resolve(undefined)
    })
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(key)
    }
  }

  /** Some sockets with ports of the kernel's choice: with the random id they are what a forger would have to guess. */
  #socketsFor(family: 4 | 6): Socket[] {
    let sockets = this.#sockets.get(family)
    if (sockets !== undefined) return sockets
    sockets = Array.from({ length: socketsPerFamily }, (_, number) => {
      const socket = createSocket(family === 4 ? 'udp4' : 'udp6')
      // What cannot be sent is a time-out like any other.
      socket.on('error', () => undefined)
      socket.on('message', (packet, from) => {
        if (packet.length < 12) return
        const id = packet.readUInt16BE(0)
        const waiting = this.#waiting.get(`${family}:${number}:${id}`)
        if (waiting === undefined || from.address !== waiting.upstream.address || from.port !== waiting.upstream.port) return
        const answer = parseAnswer(packet, id, waiting.query)
        if (answer !== undefined) waiting.resolve(answer)
      })
      socket.unref()
      return socket
    })
    this.#sockets.set(family, sockets)
    return sockets
  }
}

export interface Cached {
  answer: UpstreamAnswer
  atMs: number
  expiresAtMs: number
}

function keyOf({ name, type, class: klass, edns, flags }: Query): string {
  return `${name}/${type}/${klass}/${edns?.dnssecOk === true ? 1 : 0}${(flags & 0x10) === 0 ? '' : 'c'}`
}

function nameOf({ address, port }: Upstream): string {
  return `${address} ${port}`
}

const maxTcpBytes = 65_535

function askTcp(query: Query, upstream: Upstream, timeoutMs: number): Promise<UpstreamAnswer | undefined> {
  const { promise, resolve } = Promise.withResolvers<UpstreamAnswer | undefined>()
  const id = randomInt(0x10000)
  const message = encodeQuery(id, query)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  const socket = connect({ host: upstream.address, port: upstream.port })
  const timer = setTimeout(() => socket.destroy(), timeoutMs)
  let received: Buffer = Buffer.alloc(0)
  socket.on('connect', () => socket.write(Buffer.concat([length, message])))
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      resolve(parseAnswer(received.subarray(2, 2 + received.readUInt16BE(0)), id, query))
      socket.destroy()
    } else if (received.length > maxTcpBytes + 2) {
      socket.destroy()
    }
  })
  socket.on('error', () => undefined)
  socket.on('close', () => {
    clearTimeout(timer)
    resolve(undefined)
  })
  return promise
}
