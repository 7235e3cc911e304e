/**
 * After a restart of the process, or of the machine: what the records and the kernel say is brought together again. Sandboxes that are
 * whole are taken over; everything else that bears this instance's marks is removed.
 */
import type { NftTransactions } from '../nftables/transactions.ts'
import { runAny } from '../run.ts'
import type { ContainerDns } from './dns/containers.ts'
import { hostLines } from './endpoints.ts'
import type { HostPorts } from './hostports.ts'
import type { CnmNames } from './names.ts'
import type { Found } from './netns.ts'
import { batchInside, removeKernelObjects } from './netns.ts'
import type { NetworkTable } from './networks.ts'
import { parentOf } from './networks.ts'
import type { Records, SandboxRecord } from './records.ts'
import { baseRuleset, dnsPortElement, networkChainsIn, portChanges, removeChains } from './ruleset.ts'
import type { Sandboxes } from './sandboxes.ts'
import { aims, lineOptions, portTargets } from './sandboxes.ts'
import type { SharedIp } from './warm.ts'

export interface Recovered {
  alive: SandboxRecord[]
  /** Their leases at remote drivers are to be given back. */
  dead: SandboxRecord[]
}

/** Which of the records stand for a sandbox that works. Endpoints that were being joined or left are dissolved. */
export async function recoverSandboxes(records: Records, found: Found, names: CnmNames): Promise<Recovered> {
  const recovered: Recovered = { alive: [], dead: [] }
  for (const record of records.sandboxes()) {
    const { ready, transient, mode, netnsPath } = record
    const whole = ready && !transient && (mode === 'host' || (netnsPath !== undefined && found.namespaces.has(netnsPath)))
    recovered[whole ? 'alive' : 'dead'].push(record)
  }
  for (const record of recovered.alive) if (record.pending !== undefined) await dissolvePending(records, record, names)
  return recovered
}

async function dissolvePending(records: Records, record: SandboxRecord, names: CnmNames): Promise<void> {
  const endpoint = record.endpoints.find(({ id }) => id === record.pending)
  delete record.pending
  if (endpoint !== undefined) {
    record.endpoints = record.endpoints.filter((other) => other !== endpoint)
    await removeKernelObjects(names, [], endpoint.hostInterface === '' ? [] : [endpoint.hostInterface])
    // It may not have come so far as to have its name.
    await batchInside(record.netnsPath!, [`link del dev ${endpoint.interfaceName}`]).catch(() => undefined)
  }
  records.saveSandbox(record)
}

/** Namespaces, host ends and bridges that nothing on record has. */
export async function removeStrays(networks: NetworkTable, alive: SandboxRecord[], found: Found, names: CnmNames): Promise<void> {
  const wantedFiles = new Set(alive.map(({ netnsPath }) => netnsPath))
  const wantedLinks = new Set(alive.flatMap(({ endpoints }) => endpoints.map(({ hostInterface }) => hostInterface)))
  for (const { bridge, kind, record } of networks.all()) {
    if (bridge !== undefined) wantedLinks.add(bridge.bridge)
    if (kind === 'macvlan' || kind === 'ipvlan') wantedLinks.add(parentOf(record))
  }
  const files = [...found.namespaces, ...found.stray].filter((file) => !wantedFiles.has(file))
  await removeKernelObjects(names, files, [...found.links.keys()].filter((link) => !wantedLinks.has(link)))
}

interface Parts {
  names: CnmNames
  networks: NetworkTable
  sandboxes: Sandboxes
  records: Records
  nft: NftTransactions
  ip: SharedIp
  ports: HostPorts
  dns: ContainerDns
}

/** Rules, ports, names and links of the sandboxes that live; what those that died had is released. */
export async function restoreKernel(parts: Parts, { alive, dead }: Recovered, found: Found): Promise<void> {
  const { names, networks, sandboxes, records, nft, ports, dns } = parts
  const adopted = alive.map((record) => sandboxes.adopt(record))
  const wanted = records.state().dnsPort
  const port = await dns.listen(wanted)
  if (port !== wanted) records.saveState({ dnsPort: port })
  await loadRules(names, nft, [
    ...networks.rules(), dnsPortElement(names, port), ...adopted.flatMap(({ applied }) => portChanges(names, new Set(), applied)),
  ])
  await reattach(parts, found)
  for (const { record } of adopted) {
    const members = sandboxes.members(record)
    await ports.restore(record.id, record.ports)
    ports.aim(record.ports, ...aims(portTargets(members)))
    if (port === wanted) dns.assumePrepared(record, members)
    if (record.mode === 'bridged') await dns.prepare(record, members)
    dns.update(record, members)
  }
  for (const record of dead) {
    for (const { net, endpoint } of sandboxes.members(record)) {
      if (net.kind === 'remote') {
        await networks.remote.leave(net.record, endpoint)
        await networks.remote.deleteEndpoint(net.record, endpoint)
      }
      if (net.record.ipamDriver !== 'default') await net.addresses.release(endpoint)
    }
    records.removeSandbox(record.id)
  }
}

/**
 * All of the table in one transaction: there is no moment without rules. Only a new one takes two, because nft 1.0.6 cannot point elements
 * of an interval map to chains in the transaction that declares the map.
 */
async function loadRules(names: CnmNames, nft: NftTransactions, elements: string[]): Promise<void> {
  const listing = await runAny('nft', ['list', 'table', 'inet', names.table])
  if (listing.status !== 0) {
    await nft.apply(baseRuleset(names))
    await nft.apply(elements)
    return
  }
  const stale = networkChainsIn(listing.stdout)
  try {
    await nft.apply([...baseRuleset(names), ...removeChains(names, stale), ...elements])
  } catch {
    // A table of another version, whose maps have other types: replaced as a whole, but for the operator's chain.
    const user = /^\tchain user \{\n([\s\S]*?)^\t\}/m.exec(listing.stdout)?.[1] ?? ''
    await nft.apply([`delete table inet ${names.table}`, ...baseRuleset(names), `table inet ${names.table} {\nchain user {\n${user}}\n}`])
    await nft.apply(elements)
  }
}

/** Host ends whose bridge has been made anew. */
async function reattach({ names, sandboxes, ip }: Parts, found: Found): Promise<void> {
  const lines = sandboxes.all().flatMap(({ record }) => sandboxes.members(record).flatMap((member) => {
    const { bridge } = member.net
    const link = found.links.get(member.endpoint.hostInterface)
    if (bridge === undefined || link === undefined || link.master === bridge.bridge) return []
    return hostLines(member, names, record.netnsPath!, lineOptions(record, true, undefined))
  }))
  if (lines.length > 0) await ip.run(lines.join('\n') + '\n')
}
