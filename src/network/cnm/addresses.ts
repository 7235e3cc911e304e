/** Addresses of one network's endpoints, whoever manages them: this process, a remote IPAM driver, or nobody (`null`). */
import type { EndpointSpec } from './cnm.ts'
import { CnmError } from './cnm.ts'
import { SubnetAddresses } from './ipam.ts'
import { addressOf, formatAddress, includes, parseAddress, withoutPrefix } from './ip.ts'
import type { EndpointRecord, NetworkPool, NetworkRecord } from './records.ts'
import type { RemoteIpam } from './remote.ts'

export interface NetworkAddresses {
  /** With prefixes; '' for a family without a pool. */
  take(spec: EndpointSpec): Promise<{ ipv4: string; ipv6: string }>
  release(endpoint: Pick<EndpointRecord, 'ipv4' | 'ipv6'>): Promise<void>
  /** What a former process gave. */
  restore(endpoint: EndpointRecord): void
}

export function addressesFor(network: NetworkRecord, remote: RemoteIpam): NetworkAddresses {
  return network.ipamDriver === 'default' ? new OwnAddresses(network) : new RemoteAddresses(network, remote)
}

class OwnAddresses implements NetworkAddresses {
  readonly #pools: SubnetAddresses[]

  constructor(network: NetworkRecord) {
    this.#pools = network.pools.map((pool) => new SubnetAddresses(pool))
  }

  async take(spec: EndpointSpec): Promise<{ ipv4: string; ipv6: string }> {
    const ipv4 = this.#take(4, spec.ipv4)
    try {
      return { ipv4, ipv6: this.#take(6, spec.ipv6) }
    } catch (error) {
      await this.release({ ipv4, ipv6: '' })
      throw error
    }
  }

  async release({ ipv4, ipv6 }: Pick<EndpointRecord, 'ipv4' | 'ipv6'>): Promise<void> {
    for (const text of [ipv4, ipv6]) if (text !== '') this.#poolOf(text)?.release(addressOf(withoutPrefix(text)))
  }

  restore({ ipv4, ipv6 }: EndpointRecord): void {
    for (const text of [ipv4, ipv6]) if (text !== '') this.#poolOf(text)?.restore(addressOf(withoutPrefix(text)))
  }

  #take(family: 4 | 6, wish: string | undefined): string {
    const pools = this.#pools.filter(({ subnet }) => subnet.family === family)
    if (wish === undefined || wish === '') {
      for (const [index, pool] of pools.entries()) {
        try {
          return pool.take()
        } catch (error) {
          // A full one is passed over while there is another.
          if (index === pools.length - 1) throw error
        }
      }
      return ''
    }
    const address = addressOf(wish)
    const pool = pools.find(({ subnet }) => includes(subnet, address))
    if (pool === undefined) throw new CnmError('invalid', `no configured subnet contains IP address ${formatAddress(address)}`)
    return pool.claim(address)
  }

  #poolOf(text: string): SubnetAddresses | undefined {
    const address = addressOf(withoutPrefix(text))
    return this.#pools.find(({ subnet }) => includes(subnet, address))
  }
}

class RemoteAddresses implements NetworkAddresses {
  readonly #network: NetworkRecord
  readonly #remote: RemoteIpam

  constructor(network: NetworkRecord, remote: RemoteIpam) {
    this.#network = network
    this.#remote = remote
  }

  async take(spec: EndpointSpec): Promise<{ ipv4: string; ipv6: string }> {
    const ipv4 = await this.#request(4, spec.ipv4, spec.mac)
    try {
      return { ipv4, ipv6: await this.#request(6, spec.ipv6, spec.mac) }
    } catch (error) {
      await this.release({ ipv4, ipv6: '' })
      throw error
    }
  }

  async release({ ipv4, ipv6 }: Pick<EndpointRecord, 'ipv4' | 'ipv6'>): Promise<void> {
    for (const text of [ipv4, ipv6]) {
      const pool = text === '' ? undefined : this.#pools(text.includes(':') ? 6 : 4)[0]
      if (pool !== undefined) await this.#remote.releaseAddress(this.#network.ipamDriver, pool, withoutPrefix(text))
    }
  }

  /** The driver keeps what it gave. */
  restore(): void { return undefined }

  async #request(family: 4 | 6, wish: string | undefined, mac: string | undefined): Promise<string> {
    const [pool] = this.#pools(family)
    if (pool === undefined) return ''
    if (wish !== undefined && wish !== '' && parseAddress(wish) === undefined) throw new CnmError('invalid', `invalid IP address: ${wish}`)
    return this.#remote.requestAddress(this.#network.ipamDriver, pool, wish, mac)
  }

  #pools(family: 4 | 6): NetworkPool[] {
    return this.#network.pools.filter(({ subnet }) => subnet.includes(':') === (family === 6))
  }
}
