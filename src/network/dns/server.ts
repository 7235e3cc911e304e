/** The DNS server of one machine's pods, on UDP and TCP: local names from `setRecords`, all others from upstream resolvers. */
import { createSocket, type Socket } from 'node:dgram'
import { createServer, type Server, type Socket as TcpSocket } from 'node:net'
import type { Cidr } from '../ipv4.ts'
import type { DnsRecords } from '../network.ts'
import { NetworkError } from '../network.ts'
import { Forwarder } from './forwarder.ts'
import { serveTcp, tcpLimit } from './tcp.ts'
import type { Upstream } from './upstreams.ts'
import { MachineResolvers, parseUpstream } from './upstreams.ts'
import type { Query, Reply } from './wire.ts'
import {
  adaptAnswer, classInternet, encodeError, encodeName, encodeRecord, encodeReply, parseQuery, Rcode, Type, udpLimit,
} from './wire.ts'
import { Zone } from './zone.ts'

export interface DnsServerOptions {
  address: string
  /** Default 53. */
  port?: number
  clusterDomain: string
  /** Ranges whose reverse names are answered here. */
  ownRanges: Cidr[]
  /** `ADDRESS` or `ADDRESS:PORT`; default the machine's own. */
  upstreams?: string[]
}

const maxTcpConnections = 256
/** Clients waiting for upstreams; more are told to try again. */
const maxWaiting = 4096
const receiveBufferBytes = 1024 * 1024

export class DnsServer {
  readonly #zone: Zone
  readonly #forwarder: Forwarder
  readonly #udp: Socket
  readonly #tcp: Server
  readonly #connections = new Set<TcpSocket>()
  #waiting = 0
  #closed = false

  /** Rejects with a NetworkError if the address cannot be listened on. */
  static async start(options: DnsServerOptions): Promise<DnsServer> {
    const upstreams = options.upstreams?.map((text) => {
      const upstream = parseUpstream(text)
      if (upstream === undefined) throw new NetworkError('invalid', `upstream resolver "${text}" is neither ADDRESS nor ADDRESS:PORT`)
      return upstream
    })
    const server = new DnsServer(options, upstreams)
    try {
      await server.#listen(options.address, options.port ?? 53)
    } catch (error) {
      await server.close()
      throw new NetworkError('failed', `the DNS server cannot listen on ${options.address}: ${(error as Error).message}`)
    }
    return server
  }

  private constructor({ address, clusterDomain, ownRanges }: DnsServerOptions, upstreams: Upstream[] | undefined) {
    const machine = new MachineResolvers(address)
    this.#zone = new Zone(clusterDomain, ownRanges)
    this.#forwarder = new Forwarder(upstreams === undefined ? () => machine.get() : () => upstreams)
    this.#udp = createSocket({ type: 'udp4', recvBufferSize: receiveBufferBytes })
    this.#tcp = createServer((socket) => {
      serveTcp(socket, this.#connections, (packet, reply) => {
        this.#answer(packet, tcpLimit, reply)
        return true
      })
    })
    this.#tcp.maxConnections = maxTcpConnections
  }

  /** The port that UDP and TCP listen on. */
  get port(): number {
    return this.#udp.address().port
  }

  setRecords(records: DnsRecords): void {
    this.#zone.set(records)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#forwarder.close()
    for (const socket of this.#connections) socket.destroy()
    const closed = [this.#udp, this.#tcp].map((listener) => new Promise<void>((resolve) => {
      try {
        listener.close(() => resolve())
      } catch {
        // Never began to listen.
        resolve()
      }
    }))
    await Promise.all(closed)
  }

  async #listen(address: string, port: number): Promise<void> {
    const udp = Promise.withResolvers<void>()
    this.#udp.once('error', udp.reject)
    this.#udp.bind({ address, port }, () => udp.resolve())
    await udp.promise
    this.#udp.on('error', () => undefined)
    this.#udp.on('message', (packet, from) => {
      this.#answer(packet, undefined, (reply) => {
        // An upstream may answer after the end.
        if (!this.#closed) this.#udp.send(reply, from.port, from.address, () => undefined)
      })
    })
    const tcp = Promise.withResolvers<void>()
    this.#tcp.once('error', tcp.reject)
    this.#tcp.listen({ host: address, port: this.port }, () => tcp.resolve())
    await tcp.promise
    this.#tcp.on('error', () => undefined)
  }

  /** `limit` undefined: what the client says it takes over UDP. */
  #answer(packet: Buffer, limit: number | undefined, send: (reply: Buffer) => void): void {
    const query = parseQuery(packet)
    if (query === undefined) return
    if (typeof query === 'number') return send(encodeError(packet, query))
    const most = limit ?? udpLimit(query)
    const found = query.class === classInternet ? this.#zone.lookup(query.name, query.type) : { kind: 'unknown' as const }
    switch (found.kind) {
      case 'found':
        return send(encodeReply(query, { rcode: Rcode.ok, authoritative: true, answers: found.answers, additional: found.additional }, most))
      case 'empty':
        return send(encodeReply(query, { rcode: Rcode.ok, authoritative: true, authority: found.authority }, most))
      case 'no-such-name':
        return send(encodeReply(query, { rcode: Rcode.nameError, authoritative: true, authority: found.authority }, most))
      case 'external':
        return this.#wait(query, most, send, () => this.#followAlias(query, found.target, found.answers, most))
      case 'unknown':
        return this.#forward(query, most, send)
    }
  }

  #forward(query: Query, limit: number, send: (reply: Buffer) => void): void {
    const resolved = this.#forwarder.resolve(query)
    if (!(resolved instanceof Promise)) {
      return send(adaptAnswer(query, resolved.answer, Math.floor((performance.now() - resolved.atMs) / 1000), limit))
    }
    this.#wait(query, limit, send, async () => adaptAnswer(query, (await resolved).answer, 0, limit))
  }

  #wait(query: Query, limit: number, send: (reply: Buffer) => void, work: () => Promise<Buffer>): void {
    const failure = (): void => send(encodeReply(query, { rcode: Rcode.serverFailure }, limit))
    if (this.#waiting >= maxWaiting) return failure()
    this.#waiting++
    work().then(send, failure).finally(() => this.#waiting--)
  }

  /** Puts the upstream's addresses of an alias' target behind the alias itself. */
  async #followAlias(query: Query, target: string, aliases: Buffer[], limit: number): Promise<Buffer> {
    const reply: Reply = { rcode: Rcode.ok, authoritative: true, answers: aliases }
    const targetName = encodeName(target)
    if (targetName === undefined || (query.type !== Type.A && query.type !== Type.AAAA)) return encodeReply(query, reply, limit)
    const typeAndClass = query.question.subarray(-4)
    const question: Query = { ...query, name: target, question: Buffer.concat([targetName, typeAndClass]) }
    const { answer } = await this.#forwarder.resolve(question)
    for (const at of answer.ttls) {
      // Addresses only, all under the target's name: names in between do not matter to a client, and may be compressed.
      if (answer.packet.readUInt16BE(at - 4) !== query.type) continue
      const data = answer.packet.subarray(at + 6, at + 6 + answer.packet.readUInt16BE(at + 4))
      reply.answers?.push(encodeRecord(targetName, query.type, answer.packet.readUInt32BE(at), data))
    }
    return encodeReply(query, { ...reply, rcode: answer.rcode }, limit)
  }
}
