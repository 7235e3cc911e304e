/** Network and IPAM drivers of others: plugins in Docker's protocol (`NetworkDriver.*`, `IpamDriver.*`). */
import type { Plugin, Plugins } from '../../plugins/index.ts'
import { PluginError } from '../../plugins/index.ts'
import { CnmError } from './cnm.ts'
import type { EndpointRecord, NetworkPool, NetworkRecord } from './records.ts'
import { parseAddress, parseSubnet, withoutPrefix } from './ip.ts'
import { checkInterfaceName, isMac } from './names.ts'

/** A plugin's failure in this room's terms; its words stay. */
async function asked<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof PluginError)) throw error
    throw new CnmError(error.code === 'not-found' ? 'not-found' : 'failed', error.message)
  }
}

/** For calls that undo something: what the plugin does not know, or refuses to undo, must not keep the rest from being undone. */
async function attempted(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof PluginError) && !(error instanceof CnmError)) throw error
  })
}

/** What a plugin says goes into batches for the kernel, where a blank or a newline would begin something else. '' if it says nothing. */
function checked(text: unknown, isValid: (text: string) => boolean, what: string): string {
  if (text === undefined || text === null || text === '') return ''
  if (typeof text !== 'string' || !isValid(text)) throw new CnmError('failed', `the plugin answered ${JSON.stringify(text).slice(0, 100)}, which is no ${what}`)
  return text
}

/** With or without prefix. */
function checkedAddress(text: unknown): string {
  return checked(text, (each) => parseAddress(each) !== undefined || parseSubnet(each) !== undefined, 'IP address')
}

function checkedLink(text: unknown, suffix = ''): string {
  return checked(text, (each) => {
    checkInterfaceName(each + suffix, 'interface name from the plugin')
    return true
  }, 'name of an interface')
}

/** As the work fails, what it was done on is undone. */
async function orUndo<T>(work: () => T, undo: () => Promise<void>): Promise<T> {
  try {
    return work()
  } catch (error) {
    await undo()
    throw error
  }
}

export interface Joined {
  /** Interface of this machine to be moved into the sandbox. */
  source: string
  prefix: string
  name: string | undefined
  gateway: string
  gatewayV6: string
  routes: { destination: string; nextHop?: string }[]
}

interface JoinAnswer {
  InterfaceName?: { SrcName?: string; DstName?: string; DstPrefix?: string }
  Gateway?: string
  GatewayIPv6?: string
  StaticRoutes?: { Destination: string; RouteType: number; NextHop?: string }[]
}

const genericOptions = 'com.docker.network.generic'

export class RemoteNetworks {
  readonly #plugins: Plugins

  constructor(plugins: Plugins) {
    this.#plugins = plugins
  }

  #driver(name: string): Promise<Plugin> {
    return asked(this.#plugins.get(name, 'NetworkDriver'))
  }

  async scope(driver: string): Promise<'local' | 'global'> {
    const answer = await asked((await this.#driver(driver)).call<{ Scope?: string }>('NetworkDriver.GetCapabilities'))
    return answer.Scope === 'global' ? 'global' : 'local'
  }

  async createNetwork(network: NetworkRecord): Promise<void> {
    const data = (family: 4 | 6): object[] => network.pools.filter(({ subnet }) => subnet.includes(':') === (family === 6)).map((pool) => ({
      AddressSpace: 'LocalDefault', Pool: pool.subnet,
      ...(pool.gateway === undefined ? {} : { Gateway: `${pool.gateway}/${pool.subnet.split('/')[1]!}` }), AuxAddresses: pool.auxiliary ?? {},
    }))
    const options = { [genericOptions]: network.options, ...(network.internal ? { 'com.docker.network.internal': true } : {}),
      ...(network.ipv6 ? { 'com.docker.network.enable_ipv6': true } : {}) }
    await asked((await this.#driver(network.driver)).call('NetworkDriver.CreateNetwork',
      { NetworkID: network.id, Options: options, IPv4Data: data(4), IPv6Data: data(6) }))
  }

  async deleteNetwork(network: NetworkRecord): Promise<void> {
    await asked((await this.#driver(network.driver)).call('NetworkDriver.DeleteNetwork', { NetworkID: network.id }))
  }

  /** Puts what the driver chose itself into the endpoint. */
  async createEndpoint(network: NetworkRecord, endpoint: EndpointRecord): Promise<void> {
    const plugin = await this.#driver(network.driver)
    const { Interface } = await asked(plugin.call<{ Interface?: { Address?: string; AddressIPv6?: string; MacAddress?: string } }>(
      'NetworkDriver.CreateEndpoint', {
        NetworkID: network.id, EndpointID: endpoint.id,
        Interface: { Address: endpoint.ipv4, AddressIPv6: endpoint.ipv6, MacAddress: endpoint.spec.mac ?? '' },
        Options: { ...endpoint.spec.driverOptions },
      }))
    await orUndo(() => {
      const { ipv4, ipv6, mac } = {
        ipv4: checkedAddress(Interface?.Address), ipv6: checkedAddress(Interface?.AddressIPv6), mac: checked(Interface?.MacAddress, isMac, 'MAC address'),
      }
      endpoint.ipv4 ||= ipv4
      endpoint.ipv6 ||= ipv6
      endpoint.mac = endpoint.spec.mac ?? mac
    }, () => this.deleteEndpoint(network, endpoint))
  }

  async join(network: NetworkRecord, endpoint: EndpointRecord, sandboxKey: string): Promise<Joined> {
    const plugin = await this.#driver(network.driver)
    const answer = await asked(plugin.call<JoinAnswer>('NetworkDriver.Join',
      { NetworkID: network.id, EndpointID: endpoint.id, SandboxKey: sandboxKey, Options: {} }))
    return orUndo(() => {
      const { SrcName, DstName, DstPrefix } = answer.InterfaceName ?? {}
      const name = checkedLink(DstName)
      return {
        source: checkedLink(SrcName), prefix: checkedLink(DstPrefix, '0') || 'eth', name: name === '' ? undefined : name,
        gateway: checkedAddress(answer.Gateway), gatewayV6: checkedAddress(answer.GatewayIPv6),
        // Type 1: reached through the interface itself.
        routes: (answer.StaticRoutes ?? []).map(({ Destination, RouteType, NextHop }) => {
          const nextHop = checkedAddress(NextHop)
          return { destination: checkedAddress(Destination), ...(RouteType === 0 && nextHop !== '' ? { nextHop } : {}) }
        }),
      }
    }, () => this.leave(network, endpoint))
  }

  async leave(network: NetworkRecord, endpoint: EndpointRecord): Promise<void> {
    await attempted(this.#driver(network.driver).then((plugin) => plugin.call('NetworkDriver.Leave', { NetworkID: network.id, EndpointID: endpoint.id })))
  }

  async deleteEndpoint(network: NetworkRecord, endpoint: EndpointRecord): Promise<void> {
    await attempted(this.#driver(network.driver)
      .then((plugin) => plugin.call('NetworkDriver.DeleteEndpoint', { NetworkID: network.id, EndpointID: endpoint.id })))
  }
}

export class RemoteIpam {
  readonly #plugins: Plugins

  constructor(plugins: Plugins) {
    this.#plugins = plugins
  }

  #driver(name: string): Promise<Plugin> {
    return asked(this.#plugins.get(name, 'IpamDriver'))
  }

  /** Pool, then gateway, then auxiliary addresses, as libnetwork asks for them. All or nothing. */
  async requestPool(driver: string, wish: Partial<NetworkPool>, options: Record<string, string>, v6: boolean): Promise<NetworkPool> {
    const plugin = await this.#driver(driver)
    const spaces = await asked(plugin.call<{ LocalDefaultAddressSpace?: string }>('IpamDriver.GetDefaultAddressSpaces'))
    const answer = await asked(plugin.call<{ PoolID: string; Pool: string; Data?: Record<string, string> }>('IpamDriver.RequestPool', {
      AddressSpace: spaces.LocalDefaultAddressSpace ?? '', Pool: wish.subnet ?? '', SubPool: wish.range ?? '', Options: options, V6: v6,
    }))
    const subnet = checked(answer.Pool, (text) => parseSubnet(text) !== undefined, 'subnet')
    const pool: NetworkPool = { subnet, poolId: answer.PoolID, ...(wish.range === undefined ? {} : { range: wish.range }) }
    const leased: string[] = []
    try {
      const said = answer.Data?.['com.docker.network.gateway']
      if (said !== undefined && wish.gateway === undefined) {
        pool.gateway = withoutPrefix(checkedAddress(said))
      } else {
        const given = await asked(plugin.call<{ Address: string }>('IpamDriver.RequestAddress',
          { PoolID: answer.PoolID, Address: wish.gateway ?? '', Options: { RequestAddressType: 'com.docker.network.gateway' } }))
        pool.gateway = withoutPrefix(checkedAddress(given.Address))
        pool.gatewayLeased = true
        leased.push(pool.gateway)
      }
      for (const [name, address] of Object.entries(wish.auxiliary ?? {})) {
        const given = await asked(plugin.call<{ Address: string }>('IpamDriver.RequestAddress', { PoolID: answer.PoolID, Address: address, Options: {} }))
        pool.auxiliary = { ...pool.auxiliary, [name]: withoutPrefix(checkedAddress(given.Address)) }
        leased.push(withoutPrefix(given.Address))
      }
      return pool
    } catch (error) {
      for (const address of leased) await this.releaseAddress(driver, pool, address)
      await this.#releasePool(driver, pool)
      throw error
    }
  }

  async releasePool(driver: string, pool: NetworkPool): Promise<void> {
    if (pool.gatewayLeased === true && pool.gateway !== undefined) await this.releaseAddress(driver, pool, pool.gateway)
    for (const address of Object.values(pool.auxiliary ?? {})) await this.releaseAddress(driver, pool, address)
    await this.#releasePool(driver, pool)
  }

  /** With prefix. */
  async requestAddress(driver: string, pool: NetworkPool, wish: string | undefined, mac: string | undefined): Promise<string> {
    const options = mac === undefined ? {} : { 'com.docker.network.endpoint.macaddress': mac }
    const plugin = await this.#driver(driver)
    const { Address } = await asked(plugin.call<{ Address: string }>('IpamDriver.RequestAddress', { PoolID: pool.poolId, Address: wish ?? '', Options: options }))
    return checkedAddress(Address)
  }

  async releaseAddress(driver: string, pool: NetworkPool, address: string): Promise<void> {
    await attempted(this.#driver(driver).then((plugin) => plugin.call('IpamDriver.ReleaseAddress', { PoolID: pool.poolId, Address: address })))
  }

  async #releasePool(driver: string, pool: NetworkPool): Promise<void> {
    await attempted(this.#driver(driver).then((plugin) => plugin.call('IpamDriver.ReleasePool', { PoolID: pool.poolId })))
  }
}
