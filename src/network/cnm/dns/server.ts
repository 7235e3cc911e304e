/**
 * The embedded DNS server of user-defined networks. Containers ask 127.0.0.11; a rule in their namespace carries the question to this
 * process: on the bridge's gateway, where the source address says who asks, or, where a network has none on this machine, on a socket
 * within the namespace itself (`inside.ts`).
 */
import { createSocket, type Socket } from 'node:dgram'
import { createServer, type Server, type Socket as TcpSocket } from 'node:net'
import { Forwarder } from '../../dns/forwarder.ts'
import { serveTcp, tcpLimit } from '../../dns/tcp.ts'
import type { Upstream } from '../../dns/upstreams.ts'
import { parseUpstream } from '../../dns/upstreams.ts'
import type { Query } from '../../dns/wire.ts'
import { adaptAnswer, classInternet, encodeError, encodeReply, parseQuery, Rcode, udpLimit } from '../../dns/wire.ts'
import { CnmError } from '../cnm.ts'
import type { Directory } from './directory.ts'

const maxTcpConnections = 1024
const receiveBufferBytes = 1024 * 1024
const maxUpstreams = 3
/** Questions waiting for upstreams, of one asker; more are refused. */
const maxWaiting = 64
/** Prepared answers of one asker. */
const maxPrepared = 512
/** Answers with more addresses than this start with one of the first so many. */
const maxTurns = 8
/** A question that ends after the header's counts: those of most programs. Longer ones are parsed every time. */
const maxKeyBytes = 300

/** One container's view. */
export interface Asker {
  sandboxId: string
  /** Upstream resolvers; undefined: names of elsewhere are not resolved for it (internal networks). */
  upstreams: string[] | undefined
  /** The user asked for `ndots` himself: names of one label are then not asked upstream. */
  ndotsAsked: boolean
}

interface Prepared { replies: Buffer[]; turn: number }
interface View { asker: Asker; sources: string[]; version: number; prepared: Map<string, Prepared>; waiting: number }

export class EmbeddedDns {
  readonly #directory: Directory
  readonly #views = new Map<string, View>()
  readonly #bySource = new Map<string, View>()
  readonly #forwarders = new Map<string, Forwarder>()
  readonly #connections = new Set<TcpSocket>()
  #udp: Socket | undefined
  #tcp: Server | undefined
  #closed = false

  constructor(directory: Directory) {
    this.#directory = directory
  }

  /** Listens on every address, because bridges come and go; only known sources are answered. Takes the wanted port if it is free. */
  async listen(wanted: number | undefined): Promise<number> {
    for (const port of wanted === undefined ? [0] : [wanted, 0]) {
      try {
        return await this.#listenOn(port)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') {
          throw new CnmError('failed', `the DNS server of networks cannot listen: ${(error as Error).message}`)
        }
      }
    }
    // The UDP port of the kernel's choice was somebody's TCP port: another one will do.
    return this.listen(undefined)
  }

  /** A container, known by the addresses its questions come from. */
  setAsker(asker: Asker, sources: string[]): void {
    this.removeAsker(asker.sandboxId)
    const view: View = { asker, sources, version: this.#directory.version, prepared: new Map(), waiting: 0 }
    this.#views.set(asker.sandboxId, view)
    for (const source of sources) this.#bySource.set(source, view)
  }

  removeAsker(sandboxId: string): void {
    const view = this.#views.get(sandboxId)
    if (view === undefined) return
    this.#views.delete(sandboxId)
    for (const source of view.sources) if (this.#bySource.get(source) === view) this.#bySource.delete(source)
  }

  /** Sockets that only one container can reach. */
  serve(sandboxId: string, udp: Socket, tcp: Server): void {
    udp.on('message', (packet, from) => {
      const view = this.#views.get(sandboxId)
      if (view !== undefined) this.#answerUdp(view, packet, udp, from.port, from.address)
    })
    udp.on('error', () => undefined)
    tcp.on('connection', (socket) => this.#serveTcp(socket, () => this.#views.get(sandboxId)))
    tcp.on('error', () => undefined)
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const forwarder of this.#forwarders.values()) forwarder.close()
    for (const socket of this.#connections) socket.destroy()
    await Promise.all([this.#udp, this.#tcp].map((listener) => new Promise<void>((resolve) => {
      if (listener === undefined) resolve()
      else listener.close(() => resolve())
    })))
  }

  async #listenOn(port: number): Promise<number> {
    // The address is always one already: the default look-up costs a turn of the event loop's thread pool.
    const udp = createSocket({ type: 'udp4', recvBufferSize: receiveBufferBytes, lookup: asItIs })
    const tcp = createServer((socket) => this.#serveTcp(socket, () => this.#bySource.get(socket.remoteAddress ?? '')))
    tcp.maxConnections = maxTcpConnections
    try {
      await new Promise<void>((resolve, reject) => {
        udp.once('error', reject)
        udp.bind({ port, exclusive: true }, resolve)
      })
      const chosen = udp.address().port
      await new Promise<void>((resolve, reject) => {
        tcp.once('error', reject)
        tcp.listen({ host: '0.0.0.0', port: chosen, exclusive: true }, resolve)
      })
      udp.on('error', () => undefined)
      tcp.on('error', () => undefined)
      udp.on('message', (packet, from) => {
        const view = this.#bySource.get(from.address)
        if (view !== undefined) this.#answerUdp(view, packet, udp, from.port, from.address)
      })
      this.#udp = udp
      this.#tcp = tcp
      return chosen
    } catch (error) {
      udp.close()
      tcp.close()
      throw error
    }
  }

  #answerUdp(view: View, packet: Buffer, socket: Socket, port: number, address: string): void {
    const reply = this.#fromPrepared(view, packet)
    if (reply !== undefined) {
      socket.send(reply, port, address)
      return
    }
    this.#answer(view, packet, undefined, (answer) => {
      // An upstream may answer after the end, or after the container's.
      if (!this.#closed && this.#views.get(view.asker.sandboxId) !== undefined) socket.send(answer, port, address, () => undefined)
    })
  }

  /** The whole packet but its id is the key: same question, same flags, same EDNS. */
  #fromPrepared(view: View, packet: Buffer): Buffer | undefined {
    if (view.version !== this.#directory.version) {
      view.prepared.clear()
      view.version = this.#directory.version
      return undefined
    }
    if (packet.length > maxKeyBytes || packet.length < 12) return undefined
    const prepared = view.prepared.get(packet.toString('latin1', 2))
    if (prepared === undefined) return undefined
    const { replies } = prepared
    prepared.turn = prepared.turn + 1 >= replies.length ? 0 : prepared.turn + 1
    const source = replies[prepared.turn]!
    // A copy of its own: the one before may still wait for the socket.
    const reply = Buffer.allocUnsafe(source.length)
    source.copy(reply)
    reply[0] = packet[0]!
    reply[1] = packet[1]!
    return reply
  }

  #serveTcp(socket: TcpSocket, viewOf: () => View | undefined): void {
    if (viewOf() === undefined) {
      socket.destroy()
      return
    }
    serveTcp(socket, this.#connections, (packet, reply) => {
      const view = viewOf()
      if (view !== undefined) this.#answer(view, packet, tcpLimit, reply)
      return view !== undefined
    })
  }

  /** `limit` undefined: what the client says it takes over UDP. */
  #answer(view: View, packet: Buffer, limit: number | undefined, send: (reply: Buffer) => void): void {
    const query = parseQuery(packet)
    if (query === undefined) return
    if (typeof query === 'number') return send(encodeError(packet, query))
    const most = limit ?? udpLimit(query)
    const { asker } = view
    const found = query.class === classInternet ? this.#directory.lookup(asker.sandboxId, query.name, query.type) : 'unknown'
    if (found !== 'unknown') {
      const replies = turns(found.records).map((answers) => encodeReply(query, { rcode: Rcode.ok, answers }, most))
      if (limit === undefined && packet.length <= maxKeyBytes) {
        if (view.prepared.size >= maxPrepared) view.prepared.clear()
        view.prepared.set(packet.toString('latin1', 2), { replies, turn: 0 })
      }
      return send(replies[0]!)
    }
    if (asker.upstreams === undefined) return send(encodeReply(query, { rcode: Rcode.serverFailure }, most))
    if (asker.ndotsAsked && !query.name.includes('.')) return send(encodeReply(query, { rcode: Rcode.ok }, most))
    this.#forward(view, this.#forwarderFor(asker.upstreams), query, most, send)
  }

  #forward(view: View, forwarder: Forwarder, query: Query, limit: number, send: (reply: Buffer) => void): void {
    const resolved = view.waiting < maxWaiting ? forwarder.resolve(query) : forwarder.known(query)
    if (resolved === undefined) return send(encodeReply(query, { rcode: Rcode.refused }, limit))
    if (!(resolved instanceof Promise)) {
      return send(adaptAnswer(query, resolved.answer, Math.floor((performance.now() - resolved.atMs) / 1000), limit))
    }
    view.waiting++
    resolved.then(({ answer }) => send(adaptAnswer(query, answer, 0, limit)), () => send(encodeReply(query, { rcode: Rcode.serverFailure }, limit)))
      .finally(() => view.waiting--)
  }

  /** Containers with the same resolvers share what is known of their answers. */
  #forwarderFor(upstreams: string[]): Forwarder {
    const key = upstreams.join(' ')
    let forwarder = this.#forwarders.get(key)
    if (forwarder === undefined) {
      const parsed = upstreams.flatMap((text): Upstream[] => {
        const upstream = parseUpstream(text)
        return upstream === undefined ? [] : [upstream]
      }).slice(0, maxUpstreams)
      forwarder = new Forwarder(() => parsed)
      this.#forwarders.set(key, forwarder)
    }
    return forwarder
  }
}

/** The records in the orders that clients see in turn. */
function turns(records: Buffer[]): Buffer[][] {
  const count = Math.max(1, Math.min(records.length, maxTurns))
  return Array.from({ length: count }, (_, first) => [...records.slice(first), ...records.slice(0, first)])
}

function asItIs(address: string, _options: unknown, callback: (error: NodeJS.ErrnoException | null, address: string, family: number) => void): void {
  callback(null, address, 4)
}
