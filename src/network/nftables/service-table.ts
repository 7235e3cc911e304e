/** Keeps the kernel's service maps at what `set` was last given. */
import type { Cidr } from '../ipv4.ts'
import type { StaleFlow } from '../kernel/conntrack.ts'
import { forgetUdpFlows } from '../kernel/conntrack.ts'
import type { ServicePortRule } from '../network.ts'
import { NetworkError } from '../network.ts'
import { elementChanges, elementReplacement } from './elements.ts'
import type { ServicePlan } from './services.ts'
import { planServices, serviceCollections, serviceSets } from './services.ts'
import type { NftTransactions } from './transactions.ts'

export class ServiceTable {
  readonly #table: string
  readonly #nft: NftTransactions
  readonly #ranges: { cluster: Cidr; pods: Cidr }
  /** What the kernel has; undefined at the start and after a failure, when it is replaced as a whole. */
  #current: ServicePlan | undefined
  readonly #chains = new Set<string>()
  #change: Promise<void> = Promise.resolve()

  constructor(table: string, nft: NftTransactions, ranges: { cluster: Cidr; pods: Cidr }) {
    this.#table = table
    this.#nft = nft
    this.#ranges = ranges
  }

  /** Rejects with `conflict` and the names of rules that could not be programmed; all others then are. */
  set(rules: ServicePortRule[]): Promise<void> {
    const change = this.#change.then(() => this.#apply(rules))
    this.#change = change.catch(() => undefined)
    return change
  }

  settled(): Promise<void> {
    return this.#change
  }

  async #apply(rules: ServicePortRule[]): Promise<void> {
    const wanted = planServices(rules, this.#ranges)
    const before = this.#current
    this.#current = undefined
    const newChains = [...wanted.chains].filter(([name]) => !this.#chains.has(name))
    await this.#nft.apply([
      ...newChains.flatMap(([name, lines]) => [
        `add chain ip ${this.#table} ${name}`, `flush chain ip ${this.#table} ${name}`,
        ...lines.map((line) => `add rule ip ${this.#table} ${name} ${line}`),
      ]),
      ...(before === undefined
        ? elementReplacement(this.#table, serviceCollections, wanted.elements, (name) => (serviceSets.has(name) ? 'set' : 'map'))
        : elementChanges(this.#table, before.elements, wanted.elements)),
    ])
    for (const [name] of newChains) this.#chains.add(name)
    this.#current = wanted
    if (before !== undefined) await forgetUdpFlows(staleFlows(before.udp, wanted.udp))
    if (wanted.problems.length > 0) throw new NetworkError('conflict', `services not programmed: ${wanted.problems.join('; ')}`)
  }
}

/** Flows to endpoints that went; and, for node ports that came, flows that began when the port was nobody's. */
function staleFlows(before: ReadonlySet<string>, after: ReadonlySet<string>): StaleFlow[] {
  const flows: StaleFlow[] = []
  for (const entry of before) {
    if (after.has(entry)) continue
    const { ip, endpointPort } = parse(entry)
    flows.push({ endpoint: { ip, port: endpointPort } })
  }
  const nodePorts = (entries: ReadonlySet<string>): Set<number> =>
    new Set([...entries].map(parse).filter(({ address }) => address === '').map(({ port }) => port))
  const had = nodePorts(before)
  for (const port of nodePorts(after)) if (!had.has(port)) flows.push({ port })
  return flows
}

function parse(entry: string): { address: string; port: number; ip: string; endpointPort: number } {
  const [address = '', port, ip = '', endpointPort] = entry.split(' ')
  return { address, port: Number(port), ip, endpointPort: Number(endpointPort) }
}
