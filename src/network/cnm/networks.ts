/** The networks of one machine: found by name, made and removed in the kernel and on disk. Endpoints are `sandboxes.ts`'s. */
import type { Plugins } from '../../plugins/index.ts'
import { run } from '../run.ts'
import type { NftTransactions } from '../nftables/transactions.ts'
import { addressesFor, type NetworkAddresses } from './addresses.ts'
import type { CnmOptions, IpamPool, NetworkSpec } from './cnm.ts'
import { CnmError } from './cnm.ts'
import type { Subnet } from './ip.ts'
import { formatSubnet, overlap, subnetOf } from './ip.ts'
import {
  bridgeLines, bridgeSysctls, forwardIPv6, linkExists, passFirewalls, routedSubnets,
} from './machine.ts'
import type { CnmNames } from './names.ts'
import { checkInterfaceName, randomId } from './names.ts'
import type { BridgeSettings } from './options.ts'
import { bridgeSettings, interfacePrefix, mtuOf } from './options.ts'
import { defaultPools, freeSubnet, settlePool, ulaPool } from './pools.ts'
import type { NetworkPool, NetworkRecord, Records } from './records.ts'
import { RemoteIpam, RemoteNetworks } from './remote.ts'
import { addNetwork, deleteNetwork } from './ruleset.ts'
import type { SharedIp } from './warm.ts'

export type DriverKind = 'bridge' | 'macvlan' | 'ipvlan' | 'host' | 'null' | 'remote'

/** A network that exists, with what is derived from its record. */
export interface Net {
  record: NetworkRecord
  kind: DriverKind
  /** Only of kind bridge. */
  bridge: BridgeSettings | undefined
  addresses: NetworkAddresses
  mtu: number | undefined
  interfacePrefix: string
  /** Its endpoints have names. */
  named: boolean
}

export interface NetworksParts {
  options: CnmOptions
  names: CnmNames
  records: Records
  nft: NftTransactions
  ip: SharedIp
  plugins: Plugins
}

const predefinedNames = new Set(['bridge', 'host', 'none', 'default'])
/** With blanks inside, as ever in Docker. */
const namePattern = /^\w(?:[\w. -]*[\w.-])?$/

export class NetworkTable {
  readonly remote: RemoteNetworks
  readonly #parts: NetworksParts
  readonly #ipam: RemoteIpam
  readonly #byId = new Map<string, Net>()
  readonly #byName = new Map<string, Net>()
  /** Networks are made and removed one after the other: names and subnets are compared with all others. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: NetworksParts) {
    this.#parts = parts
    this.remote = new RemoteNetworks(parts.plugins)
    this.#ipam = new RemoteIpam(parts.plugins)
  }

  all(): Net[] {
    return [...this.#byId.values()]
  }

  get(id: string): Net | undefined {
    return this.#byId.get(id)
  }

  find(ref: string): Net {
    const exact = this.#byId.get(ref) ?? this.#byName.get(ref === 'default' ? 'bridge' : ref)
    if (exact !== undefined) return exact
    const matches = ref === '' ? [] : this.all().filter(({ record }) => record.id.startsWith(ref))
    if (matches.length > 1) throw new CnmError('invalid', `network ${ref} is ambiguous (${matches.length} matches found based on ID prefix)`)
    if (matches[0] === undefined) throw new CnmError('not-found', `network ${ref} not found`)
    return matches[0]
  }

  /** The default one, `host` and `none`; and those on disk, made again in the kernel as far as they are not there. */
  async load(): Promise<void> {
    const saved = this.#parts.records.networks().toSorted((a, b) => a.createdAtMs - b.createdAtMs)
    for (const record of saved) this.#add(record)
    for (const [name, driver] of [['host', 'host'], ['none', 'null']] as const) {
      if (!this.#byName.has(name)) await this.#keep(predefined(name, driver))
    }
    if (!this.#byName.has('bridge')) await this.#keep(await this.#defaultBridge())
    for (const net of this.all()) await this.#makeLinks(net)
  }

  /** Rules of all networks, for the table's first transaction. */
  rules(): string[] {
    return this.all().flatMap(({ record, bridge }) => (bridge === undefined ? [] : addNetwork(this.#parts.names, record, bridge)))
  }

  create(spec: NetworkSpec): Promise<Net> {
    return this.#inTurn(() => this.#create(spec))
  }

  /** `inUse`: asked when it is this one's turn; CnmError `forbidden` with Docker's words if it has endpoints. */
  remove(net: Net, checkUnused: () => void): Promise<void> {
    return this.#inTurn(async () => {
      checkUnused()
      const { record, bridge, kind } = net
      if (this.#byId.get(record.id) !== net) throw new CnmError('not-found', `network ${record.id} not found`)
      const user = record.configOnly ? this.all().find(({ record: other }) => other.configFrom === record.name) : undefined
      if (user !== undefined) throw new CnmError('forbidden', `configuration network "${record.name}" is in use`)
      if (kind === 'remote') await this.remote.deleteNetwork(record)
      this.#forget(net)
      if (bridge !== undefined) await this.#parts.nft.apply(deleteNetwork(this.#parts.names, record, bridge))
      await this.#removeLinks(net)
      await this.#releasePools(record)
      this.#parts.records.removeNetwork(record.id)
    })
  }

  /** Takes away what `load` and `create` made, for the end of the instance. */
  async destroyLinks(): Promise<void> {
    for (const net of this.all()) await this.#removeLinks(net)
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #create(asked: NetworkSpec): Promise<Net> {
    const { name } = asked
    if (predefinedNames.has(name)) throw new CnmError('forbidden', `operation is not permitted on predefined ${name} network`)
    if (!namePattern.test(name)) throw new CnmError('invalid', `invalid network name "${name}": only [a-zA-Z0-9_][a-zA-Z0-9_. -] are allowed`)
    if (this.#byName.has(name)) throw new CnmError('conflict', `network with name ${name} already exists`)
    const spec = this.#fromConfig(asked)
    const driver = spec.driver === undefined || spec.driver === '' || spec.driver === 'default' ? 'bridge' : spec.driver
    if (driver === 'host' || driver === 'null') throw new CnmError('forbidden', `only one instance of "${driver}" network is allowed`)
    if (driver === 'overlay') {
      throw new CnmError('forbidden', 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.')
    }
    const record = this.#recordOf(spec, driver)
    const kind = kindOf(driver)
    if (kind === 'remote' && !record.configOnly) record.scope = await this.remote.scope(driver)
    const settings = kind === 'bridge' ? bridgeSettings(record.options, record.id) : undefined
    if (settings !== undefined && !record.configOnly) this.#checkBridgeFree(settings.bridge)
    if (kind === 'macvlan' || kind === 'ipvlan') this.#checkParent(record, kind)
    // A network of configuration alone has nothing in the kernel, and reserves nothing.
    if (record.configOnly) {
      record.pools = record.askedPools.flatMap((pool) => (pool.subnet === undefined ? [] : [settlePool({ ...pool, subnet: pool.subnet }, false)]))
    } else {
      await this.#allotPools(record, settings)
    }
    let net: Net | undefined
    try {
      net = await this.#keep(record)
      await this.#makeLinks(net)
      if (settings !== undefined && !record.configOnly) await this.#parts.nft.apply(addNetwork(this.#parts.names, record, settings))
      if (kind === 'remote' && !record.configOnly) await this.remote.createNetwork(record)
      return net
    } catch (error) {
      if (net !== undefined) {
        this.#forget(net)
        // The rules go alone if they came alone; nothing to delete is no fault here.
        if (settings !== undefined) await this.#parts.nft.apply(deleteNetwork(this.#parts.names, record, settings)).catch(() => undefined)
        await this.#removeLinks(net)
      }
      await this.#releasePools(record)
      this.#parts.records.removeNetwork(record.id)
      throw error
    }
  }

  #fromConfig(asked: NetworkSpec): NetworkSpec {
    if (asked.configFrom === undefined || asked.configFrom === '') return asked
    if (asked.configOnly === true) throw new CnmError('invalid', 'a configuration network cannot depend on another configuration network')
    const { record } = this.find(asked.configFrom)
    if (!record.configOnly) throw new CnmError('forbidden', `${record.name} is not a configuration network`)
    if (Object.keys(asked.options ?? {}).length > 0 || (asked.pools ?? []).length > 0) {
      throw new CnmError('forbidden', 'user-specified configurations are not supported if the network depends on a configuration network')
    }
    return {
      ...asked, options: record.options, pools: record.askedPools, ipamDriver: record.ipamDriver, ipamOptions: record.ipamOptions, configFrom: record.name,
      ipv6: record.ipv6, ipv4: record.ipv4, labels: { ...record.labels, ...asked.labels },
    }
  }

  #recordOf(spec: NetworkSpec, driver: string): NetworkRecord {
    const ipv4 = spec.ipv4 ?? true
    const ipv6 = spec.ipv6 ?? (spec.pools ?? []).some(({ subnet }) => subnet?.includes(':') === true)
    if (!ipv4 && !ipv6 && spec.configOnly !== true) throw new CnmError('invalid', 'IPv4 or IPv6 must be enabled')
    return {
      id: randomId(), name: spec.name, createdAtMs: Date.now(), driver, scope: 'local', pools: [], askedPools: spec.pools ?? [],
      ipamDriver: spec.ipamDriver === undefined || spec.ipamDriver === '' ? 'default' : spec.ipamDriver, ipamOptions: spec.ipamOptions ?? {},
      ipv4, ipv6, internal: spec.internal ?? false, attachable: spec.attachable ?? false, configOnly: spec.configOnly ?? false,
      configFrom: spec.configFrom ?? '', options: spec.options ?? {}, labels: spec.labels ?? {}, predefined: false,
    }
  }

  async #allotPools(record: NetworkRecord, settings: BridgeSettings | undefined): Promise<void> {
    if (record.ipamDriver === 'null') return
    if (record.ipamDriver !== 'default') {
      for (const family of [4, 6] as const) {
        if (!(family === 4 ? record.ipv4 : record.ipv6)) continue
        const wish = record.askedPools.find(({ subnet = '' }) => subnet.includes(':') === (family === 6))
        record.pools.push(await this.#ipam.requestPool(record.ipamDriver, wish ?? {}, record.ipamOptions, family === 6))
      }
      return
    }
    const used = this.all().flatMap(({ record: other }) => (other.configOnly ? [] : other.pools.map(({ subnet }) => subnetOf(subnet))))
    for (const family of [4, 6] as const) {
      if (!(family === 4 ? record.ipv4 : record.ipv6)) continue
      const asked = record.askedPools.filter(({ subnet = '' }) => subnet.includes(':') === (family === 6))
      const wishes: IpamPool[] = asked.length > 0 ? asked : [{}]
      const withGateway = settings !== undefined ? (family === 4 ? settings.modeV4 : settings.modeV6) !== 'isolated' : !record.internal
      for (const wish of wishes) {
        const pool = await this.#allotPool(wish, family, used, withGateway)
        record.pools.push(pool)
        used.push(subnetOf(pool.subnet))
      }
    }
  }

  async #allotPool(wish: IpamPool, family: 4 | 6, used: Subnet[], withGateway: boolean): Promise<NetworkPool> {
    if (wish.subnet !== undefined && wish.subnet !== '') {
      const pool = settlePool({ ...wish, subnet: wish.subnet }, withGateway)
      const subnet = subnetOf(pool.subnet)
      if (used.some((other) => overlap(other, subnet))) throw new CnmError('forbidden', 'Pool overlaps with other one on this address space')
      return pool
    }
    if (wish.range !== undefined || wish.gateway !== undefined) throw new CnmError('invalid', 'invalid network config: an ip-range or gateway needs a subnet')
    const pools = family === 4 ? this.#parts.options.pools ?? defaultPools : [...(this.#parts.options.pools ?? []), ulaPool(this.#parts.options.instance)]
    return settlePool({ subnet: formatSubnet(freeSubnet(pools, family, [...used, ...await routedSubnets()])) }, withGateway)
  }

  async #releasePools(record: NetworkRecord): Promise<void> {
    if (record.ipamDriver === 'default' || record.ipamDriver === 'null') return
    for (const pool of record.pools) if (pool.poolId !== undefined) await this.#ipam.releasePool(record.ipamDriver, pool)
  }

  #checkBridgeFree(bridge: string): void {
    const other = this.all().find((net) => net.bridge?.bridge === bridge && !net.record.configOnly)
    if (other !== undefined) throw new CnmError('forbidden', `cannot create network: conflicts with network ${other.record.id} (${other.record.name}): networks have same bridge name`)
  }

  #checkParent(record: NetworkRecord, kind: 'macvlan' | 'ipvlan'): void {
    const { parent, macvlan_mode: macvlanMode, ipvlan_mode: ipvlanMode, ipvlan_flag: flag } = record.options
    if (parent !== undefined && parent !== '') checkInterfaceName(parent, 'parent interface')
    if (kind === 'macvlan' && ![undefined, '', 'bridge', 'private', 'vepa', 'passthru'].includes(macvlanMode)) {
      throw new CnmError('invalid', `requested macvlan mode '${macvlanMode}' is not valid, 'bridge' mode is the macvlan driver default`)
    }
    if (kind === 'ipvlan' && ![undefined, '', 'l2', 'l3', 'l3s'].includes(ipvlanMode)) {
      throw new CnmError('invalid', `requested ipvlan mode '${ipvlanMode}' is not valid, 'l2' mode is the ipvlan driver default`)
    }
    if (kind === 'ipvlan' && ![undefined, '', 'bridge', 'private', 'vepa'].includes(flag)) throw new CnmError('invalid', `unknown ipvlan flag ${flag}`)
    const other = this.all().find((net) => (net.kind === 'macvlan' || net.kind === 'ipvlan') && net.record.options['parent'] === parent && !net.record.configOnly)
    if (other !== undefined && !record.configOnly && parent !== undefined && parent !== '') {
      throw new CnmError('forbidden', `network ${other.record.name} is already using parent interface ${parent}`)
    }
  }

  /** The record first: whatever of it then comes to be is found by it. */
  async #keep(record: NetworkRecord): Promise<Net> {
    await this.#parts.records.saveNetwork(record)
    return this.#add(record)
  }

  #add(record: NetworkRecord): Net {
    const kind = kindOf(record.driver)
    const net: Net = {
      record, kind, bridge: kind === 'bridge' && !record.configOnly ? bridgeSettings(record.options, record.id) : undefined,
      addresses: addressesFor(record, this.#ipam), mtu: mtuOf(record.options), interfacePrefix: interfacePrefix(record.options),
      named: kind !== 'host' && kind !== 'null' && record.name !== 'bridge',
    }
    this.#byId.set(record.id, net)
    this.#byName.set(record.name, net)
    return net
  }

  #forget({ record }: Net): void {
    this.#byId.delete(record.id)
    this.#byName.delete(record.name)
  }

  async #defaultBridge(): Promise<NetworkRecord> {
    const { bridge, bridgeSubnet } = this.#parts.options
    const record: NetworkRecord = {
      ...predefined('bridge', 'bridge'),
      options: {
        'com.docker.network.bridge.default_bridge': 'true', 'com.docker.network.bridge.enable_icc': 'true',
        'com.docker.network.bridge.enable_ip_masquerade': 'true', 'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
        'com.docker.network.bridge.name': bridge, 'com.docker.network.driver.mtu': '1500',
      },
    }
    const used = this.all().flatMap(({ record: other }) => other.pools.map(({ subnet }) => subnetOf(subnet)))
    record.pools = [await this.#allotPool(bridgeSubnet === undefined ? {} : { subnet: bridgeSubnet }, 4, used, true)]
    return record
  }

  async #makeLinks({ record, kind, bridge }: Net): Promise<void> {
    const { names, ip, options } = this.#parts
    if (record.configOnly) return
    if (bridge !== undefined) {
      const exists = linkExists(bridge.bridge)
      if (exists && record.name === 'bridge' && record.madeLink !== true) {
        throw new CnmError('conflict', `the bridge ${bridge.bridge} exists on this machine and belongs to somebody else: choose another name`)
      }
      if (!exists && record.madeLink !== true) {
        record.madeLink = true
        await this.#parts.records.saveNetwork(record)
      }
      await ip.run(bridgeLines(record, bridge, names, exists).join('\n') + '\n')
      bridgeSysctls(bridge.bridge)
      if (record.ipv6) forwardIPv6()
      await passFirewalls(names, options.instance)
    } else if (kind === 'macvlan' || kind === 'ipvlan') {
      await this.#makeParent(record)
    }
  }

  /** `eth0.10` is made as a VLAN of eth0; without a parent the network is alone with itself, on a link that leads nowhere. */
  async #makeParent(record: NetworkRecord): Promise<void> {
    const { names, ip } = this.#parts
    const parent = parentOf(record)
    if (linkExists(parent)) return
    const vlan = /^(.+)\.(\d{1,4})$/.exec(parent)
    if (record.options['parent'] !== undefined && record.options['parent'] !== '' && vlan === null) {
      throw new CnmError('invalid', `the requested parent interface ${parent} was not found on the Docker host`)
    }
    if (vlan !== null && !linkExists(vlan[1]!)) throw new CnmError('invalid', `the requested parent interface ${vlan[1]!} was not found on the Docker host`)
    record.madeLink = true
    await this.#parts.records.saveNetwork(record)
    const made = vlan === null ? `link add name ${parent} group ${names.group} type dummy` : `link add link ${vlan[1]!} name ${parent} group ${names.group} type vlan id ${vlan[2]!}`
    await ip.run(`${made}\nlink set dev ${parent} up\n`)
  }

  async #removeLinks({ record, kind, bridge }: Net): Promise<void> {
    if (record.madeLink !== true) return
    const link = bridge?.bridge ?? (kind === 'macvlan' || kind === 'ipvlan' ? parentOf(record) : undefined)
    if (link !== undefined && linkExists(link)) await run('ip', ['link', 'del', 'dev', link])
  }
}

export function parentOf(record: NetworkRecord): string {
  const { parent } = record.options
  return parent === undefined || parent === '' ? `dm-${record.id.slice(0, 12)}` : parent
}

function kindOf(driver: string): DriverKind {
  return driver === 'bridge' || driver === 'macvlan' || driver === 'ipvlan' || driver === 'host' || driver === 'null' ? driver : 'remote'
}


function predefined(name: string, driver: string): NetworkRecord {
  return {
    id: randomId(), name, createdAtMs: Date.now(), driver, scope: 'local', pools: [], askedPools: [], ipamDriver: 'default', ipamOptions: {},
    ipv4: true, ipv6: false, internal: false, attachable: false, configOnly: false, configFrom: '', options: {}, labels: {}, predefined: true,
  }
}
