/**
 * Published ports: which are free, who has which, and a socket on each, so that no program of this machine takes one while it is
 * published. Packets are translated by the kernel before they reach these sockets; only what it cannot translate arrives here (from
 * [::1], or over IPv6 for a container that has none) and is carried on, as dockerd's proxy does.
 */
import { createSocket, type Socket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import type { PortRequest, PublishedPort } from './cnm.ts'
import { CnmError } from './cnm.ts'
import { formatAddress, parseAddress } from './ip.ts'

const maxTries = 64

export interface PublishOptions {
  /** Address of those that were asked for without one. */
  hostBinding: string | undefined
  /** Others are left out: the network publishes none. */
  families: Set<4 | 6>
}

interface Held {
  owner: string
  close(): void
  /** Where connections that reach the socket itself are carried on to. */
  target: { address: string; port: number } | undefined
}

export class HostPorts {
  /** `tcp 80` → host address → who has it. */
  readonly #held = new Map<string, Map<string, Held>>()
  #nextEphemeral = 0

  /**
   * Takes all of `requests` or none; a port that was asked for without a number, or as a range, is found. CnmError `conflict` in
   * Docker's words.
   */
  async publish(owner: string, requests: PortRequest[], { hostBinding, families }: PublishOptions): Promise<PublishedPort[]> {
    const published: PublishedPort[] = []
    try {
      for (const request of requests) {
        const addresses = addressesOf(request.hostIP, hostBinding).filter((address) => families.has(address.includes(':') ? 6 : 4))
        if (addresses.length > 0) published.push(...await this.#publishOne(owner, request, addresses))
      }
      return published
    } catch (error) {
      this.release(published)
      throw error
    }
  }

  /** What a former process had published. A socket that cannot be had again is done without: the rules are what counts. */
  async restore(owner: string, ports: PublishedPort[]): Promise<void> {
    for (const port of ports) {
      const held: Held = { owner, target: undefined, close: () => undefined }
      this.#owners(port).set(port.hostIP, held)
      await this.#listen(port, held).catch(() => undefined)
    }
  }

  /** Container addresses that the sockets carry on to. */
  aim(ports: PublishedPort[], addressV4: string | undefined, addressV6: string | undefined): void {
    for (const port of ports) {
      const held = this.#owners(port).get(port.hostIP)
      const address = addressV4 ?? addressV6
      if (held !== undefined) held.target = address === undefined ? undefined : { address, port: port.containerPort }
    }
  }

  release(ports: PublishedPort[]): void {
    for (const port of ports) {
      const owners = this.#owners(port)
      owners.get(port.hostIP)?.close()
      owners.delete(port.hostIP)
      if (owners.size === 0) this.#held.delete(`${port.protocol} ${port.hostPort}`)
    }
  }

  close(): void {
    for (const owners of this.#held.values()) for (const { close } of owners.values()) close()
    this.#held.clear()
  }

  #owners({ protocol, hostPort }: Pick<PublishedPort, 'protocol' | 'hostPort'>): Map<string, Held> {
    const key = `${protocol} ${hostPort}`
    let owners = this.#held.get(key)
    if (owners === undefined) this.#held.set(key, (owners = new Map()))
    return owners
  }

  async #publishOne(owner: string, request: PortRequest, addresses: string[]): Promise<PublishedPort[]> {
    const { containerPort, protocol } = request
    if (!Number.isInteger(containerPort) || containerPort < 1 || containerPort > 65_535) throw new CnmError('invalid', `invalid port ${containerPort}`)
    const [first, last] = rangeOf(request.hostPort)
    const single = first === last && first !== 0
    const candidates = first === 0 ? this.#ephemeral() : inRange(first, last)
    let tries = 0
    for (const hostPort of candidates) {
      const wanted = addresses.map((hostIP) => ({ containerPort, protocol, hostIP, hostPort }))
      const taken = wanted.find((port) => this.#isTaken(port))
      if (taken !== undefined) {
        if (single) throw new CnmError('conflict', `Bind for ${bracketed(taken.hostIP)}:${hostPort} failed: port is already allocated`)
        continue
      }
      try {
        await this.#take(owner, wanted)
        return wanted
      } catch (error) {
        if (single || ++tries >= maxTries || !(error instanceof CnmError) || error.code !== 'conflict') throw error
      }
    }
    if (first === 0) throw new CnmError('conflict', 'all ports are allocated')
    throw new CnmError('conflict', `Bind for ${bracketed(addresses[0]!)}:${first}-${last} failed: port is already allocated`)
  }

  async #take(owner: string, wanted: PublishedPort[]): Promise<void> {
    const done: PublishedPort[] = []
    try {
      for (const port of wanted) {
        const held: Held = { owner, target: undefined, close: () => undefined }
        this.#owners(port).set(port.hostIP, held)
        done.push(port)
        await this.#listen(port, held)
      }
    } catch (error) {
      this.release(done)
      throw error
    }
  }

  #isTaken(port: PublishedPort): boolean {
    const owners = this.#held.get(`${port.protocol} ${port.hostPort}`)
    if (owners === undefined || owners.size === 0) return false
    const any = port.hostIP.includes(':') ? '::' : '0.0.0.0'
    if (owners.has(port.hostIP) || owners.has(any)) return true
    return port.hostIP === any && [...owners.keys()].some((address) => address.includes(':') === any.includes(':'))
  }

  /** In turn, so that a port that has just been released is not taken again at once. */
  * #ephemeral(): Generator<number> {
    const [first, last] = ephemeralRange()
    const count = last - first + 1
    for (let tried = 0; tried < count; tried++) {
      if (this.#nextEphemeral < first || this.#nextEphemeral > last) this.#nextEphemeral = first
      yield this.#nextEphemeral++
    }
  }

  async #listen(port: PublishedPort, held: Held): Promise<void> {
    // No SCTP sockets here: the table of our own is all that is checked.
    if (port.protocol === 'sctp') return
    const socket = await (port.protocol === 'tcp' ? listenTcp(port, held) : bindUdp(port))
    held.close = () => socket.close()
  }
}

async function listenTcp(port: PublishedPort, held: Held): Promise<Server> {
  const server = createServer({ pauseOnConnect: true }, (client) => {
    client.on('error', () => client.destroy())
    const { target } = held
    if (target === undefined) return client.destroy()
    const upstream = connect({ host: target.address, port: target.port, allowHalfOpen: true })
    upstream.on('error', () => client.destroy())
    client.on('close', () => upstream.destroy())
    client.pipe(upstream)
    upstream.pipe(client)
  })
  await listening(port, server, () => server.listen({ host: port.hostIP, port: port.hostPort, exclusive: true, ipv6Only: true }))
  return server.unref()
}

async function bindUdp(port: PublishedPort): Promise<Socket> {
  const v6 = port.hostIP.includes(':')
  const socket = createSocket({ type: v6 ? 'udp6' : 'udp4', ipv6Only: v6 })
  await listening(port, socket, () => socket.bind({ address: port.hostIP, port: port.hostPort, exclusive: true }))
  return socket.unref()
}

function listening(port: PublishedPort, socket: Server | Socket, start: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  socket.once('error', (error: NodeJS.ErrnoException) => {
    socket.close()
    reject(refusal(port, error))
  })
  socket.once('listening', () => {
    socket.removeAllListeners('error')
    socket.on('error', () => undefined)
    resolve()
  })
  start()
  return promise
}

function refusal({ protocol, hostIP, hostPort }: PublishedPort, { code, message }: NodeJS.ErrnoException): CnmError {
  const what = `failed to bind host port ${bracketed(hostIP)}:${hostPort}/${protocol}`
  if (code === 'EADDRINUSE') return new CnmError('conflict', `${what}: address already in use`)
  if (code === 'EADDRNOTAVAIL') return new CnmError('invalid', `${what}: cannot assign requested address`)
  return new CnmError('failed', `${what}: ${message}`)
}

function addressesOf(hostIP: string, hostBinding: string | undefined): string[] {
  if (hostIP === '') {
    if (hostBinding !== undefined) return [hostBinding]
    return machineHasIPv6() ? ['0.0.0.0', '::'] : ['0.0.0.0']
  }
  const address = parseAddress(hostIP)
  if (address === undefined) throw new CnmError('invalid', `invalid host IP address: ${hostIP}`)
  return [formatAddress(address)]
}

/** [0, 0]: any. */
function rangeOf(text: string): [number, number] {
  if (text === '' || text === '0') return [0, 0]
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text)
  const first = Number(match?.[1])
  const last = Number(match?.[2] ?? match?.[1])
  if (match === null || first < 1 || last > 65_535 || first > last) throw new CnmError('invalid', `invalid port range: ${text}`)
  return [first, last]
}

function* inRange(first: number, last: number): Generator<number> {
  for (let port = first; port <= last; port++) yield port
}

function ephemeralRange(): [number, number] {
  try {
    const [first, last] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number)
    if (first !== undefined && last !== undefined && first > 0 && first <= last) return [first, last]
  } catch {
    // The range below is Docker's for machines that do not tell.
  }
  return [49_153, 65_535]
}

function machineHasIPv6(): boolean {
  try {
    return readFileSync('/proc/self/net/if_inet6', 'utf8').trim() !== ''
  } catch {
    return false
  }
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}
