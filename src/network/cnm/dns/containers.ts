/** Names of sandboxes: what each is called in its networks, and how its questions get to the server. */
import { withoutPrefix } from '../ip.ts'
import type { Member } from '../endpoints.ts'
import { dnsAddress } from '../endpoints.ts'
import type { SandboxRecord } from '../records.ts'
import { insideRuleset, insideServer } from '../ruleset.ts'
import { embeddedServer, machineResolvers } from '../texts.ts'
import type { Waiting } from '../warm.ts'
import { nftInside } from '../netns.ts'
import { Directory } from './directory.ts'
import type { InsideSockets } from './inside.ts'
import { openInside } from './inside.ts'
import { EmbeddedDns } from './server.ts'

export class ContainerDns {
  readonly #directory = new Directory()
  readonly #server = new EmbeddedDns(this.#directory)
  readonly #inside = new Map<string, InsideSockets>()
  /** Sandbox → where its rules lead now. */
  readonly #prepared = new Map<string, string>()
  readonly #known = new Map<string, { networkId: string; endpointId: string }[]>()
  #port = 0

  /** Answers the port that containers' rules lead to. */
  async listen(wanted: number | undefined): Promise<number> {
    this.#port = await this.#server.listen(wanted)
    return this.#port
  }

  /**
   * Rules in the sandbox's namespace that lead its questions here. Nothing to do on networks without names. `rules`: waits in a new
   * namespace that has the rules but for where the server is.
   */
  async prepare(record: SandboxRecord, members: Member[], rules?: Waiting): Promise<void> {
    if (!members.some(({ net }) => net.named)) {
      await rules?.dismiss()
      return
    }
    const lead = async (server: { address: string; udpPort: number; tcpPort: number }): Promise<void> => {
      const element = insideServer(server)
      if (rules?.alive === true) await rules.finish(element.join('\n') + '\n')
      else await nftInside(path).finish([...insideRuleset, ...element].join('\n') + '\n')
    }
    const address = members.filter(({ net }) => net.named).map(dnsAddress).find((each) => each !== undefined)
    const path = record.netnsPath!
    if (address !== undefined) {
      const key = `${address} ${this.#port}`
      if (this.#prepared.get(record.id) === key) return
      await lead({ address, udpPort: this.#port, tcpPort: this.#port })
      this.#closeInside(record.id)
      this.#prepared.set(record.id, key)
      return
    }
    if (this.#inside.has(record.id)) return
    const sockets = await openInside(path, embeddedServer)
    this.#inside.set(record.id, sockets)
    this.#server.serve(record.id, sockets.udp, sockets.tcp)
    await lead({ address: embeddedServer, udpPort: sockets.udpPort, tcpPort: sockets.tcpPort })
    this.#prepared.set(record.id, 'inside')
  }

  /** A former process' rules still lead to the same port: nothing to load again. */
  assumePrepared(record: SandboxRecord, members: Member[]): void {
    const address = members.filter(({ net }) => net.named).map(dnsAddress).find((each) => each !== undefined)
    if (address !== undefined) this.#prepared.set(record.id, `${address} ${this.#port}`)
  }

  /** Names and reach of a sandbox as they are now. */
  update(record: SandboxRecord, members: Member[]): void {
    this.#forget(record.id)
    const named = members.filter(({ net }) => net.named)
    if (named.length === 0) return
    this.#known.set(record.id, named.map(({ net, endpoint }) => ({ networkId: net.record.id, endpointId: endpoint.id })))
    for (const { net, endpoint } of named) {
      const { spec, ipv4, ipv6 } = endpoint
      this.#directory.put(net.record.id, net.record.name, {
        endpointId: endpoint.id, sandboxId: record.id, ipv4, ipv6, names: [record.name, ...(spec.aliases ?? [])].filter((name) => name !== ''),
        links: new Map((spec.links ?? []).map(({ target, alias }) => [alias.toLowerCase(), target.toLowerCase()])),
      })
    }
    // A container with a way out asks the machine's resolvers; one on internal networks alone asks nobody.
    const outward = members.some(({ net }) => !net.record.internal)
    const machine = record.dns.length > 0 ? record.dns : machineResolvers()
    this.#server.setAsker(
      { sandboxId: record.id, upstreams: outward ? machine : undefined, ndotsAsked: record.dnsOptions.some((option) => option.startsWith('ndots:')) },
      named.flatMap(({ endpoint }) => (endpoint.ipv4 === '' ? [] : [withoutPrefix(endpoint.ipv4)])),
    )
  }

  remove(record: SandboxRecord): void {
    this.#forget(record.id)
    this.#server.removeAsker(record.id)
    this.#closeInside(record.id)
    this.#prepared.delete(record.id)
  }

  async close(): Promise<void> {
    for (const id of this.#inside.keys()) this.#closeInside(id)
    await this.#server.close()
  }

  #forget(id: string): void {
    for (const { networkId, endpointId } of this.#known.get(id) ?? []) this.#directory.remove(networkId, endpointId)
    this.#known.delete(id)
  }

  #closeInside(id: string): void {
    const sockets = this.#inside.get(id)
    sockets?.udp.close()
    sockets?.tcp.close()
    this.#inside.delete(id)
  }
}
