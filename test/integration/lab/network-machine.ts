/** One machine of a laboratory: opens the network inside a namespace and does what it is told, one JSON request a line. */
import { createInterface } from 'node:readline'
import type { DnsRecords, Network, NetworkOptions, Peer, PortMapping, ServicePortRule } from '../../../src/network/network.ts'
import { openNetwork } from '../../../src/network/index.ts'

export interface DnsEntries {
  a?: [string, string[]][]
  srv?: [string, { port: number; target: string }[]][]
  cname?: [string, string][]
  ptr?: [string, string][]
}

export type Request =
  | { do: 'open'; options: NetworkOptions }
  | { do: 'createSandbox'; id: string; ip?: string; ports?: PortMapping[] }
  | { do: 'deleteSandbox'; id: string }
  | { do: 'sandboxes' | 'close' | 'destroy' }
  | { do: 'setPeers'; peers: Peer[] }
  | { do: 'setServices'; rules: ServicePortRule[] }
  | { do: 'setDns'; records: DnsEntries }
  | { do: 'counters'; id: string }

let network: Network | undefined

async function handle(request: Request): Promise<unknown> {
  if (request.do === 'open') {
    network = await openNetwork(request.options)
    return { gateway: network.gateway, dnsAddress: network.dnsAddress }
  }
  if (network === undefined) throw new Error('not open')
  switch (request.do) {
    case 'createSandbox': return network.createSandbox(request.id, { ip: request.ip, ports: request.ports })
    case 'deleteSandbox': return network.deleteSandbox(request.id)
    case 'sandboxes': return network.sandboxes()
    case 'close': return network.close()
    case 'destroy': return network.destroy()
    case 'setPeers': return network.setPeers(request.peers)
    case 'setServices': return network.setServices(request.rules)
    case 'setDns': {
      const { a, srv, cname, ptr } = request.records
      const records: DnsRecords = { a: new Map(a), srv: new Map(srv), cname: new Map(cname), ptr: new Map(ptr) }
      return network.setDns(records)
    }
    case 'counters': return network.counters(request.id)
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const { seq, request } = JSON.parse(line) as { seq: number; request: Request }
  const startedMs = performance.now()
  handle(request).then(
    (result) => ({ seq, result: result ?? null, tookMs: performance.now() - startedMs }),
    (error: Error & { code?: string }) => ({ seq, error: { code: error.code, message: error.message } }),
  ).then((answer) => process.stdout.write(JSON.stringify(answer) + '\n'))
}).on('close', () => process.exit())
