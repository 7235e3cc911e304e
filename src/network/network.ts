/**
 * One machine's part of the cluster's network: it programs this machine's kernel from desired state. Who the peers are and
 * which endpoints a service has is somebody else's knowledge (the agent's, from the API's watch; later the gossip mesh).
 * Implementation: `index.ts` (`openNetwork`).
 */

export interface NetworkOptions {
  /** Bound namespaces are files here, e.g. `/run/gantry/netns`. */
  runDir: string
  /** This machine's pods, e.g. `10.42.3.0/24`; its bridge takes the first address. */
  podCIDR: string
  /** All machines' pods: not masqueraded between each other. */
  clusterCIDR: string
  serviceCIDR: string
  /** Underlay address that peers send to. */
  address: string
  clusterDomain: string
  /** Resolvers for names outside the cluster; default: the machine's own. */
  upstreamDns?: string[]
  /** Suffix of interface and table names, so that two clusters can share a machine; at most 6 characters. */
  instance: string
  /** Default: made from `instance`. */
  vxlanId?: number
  vxlanPort?: number
  mtu?: number
  /** Namespaces kept ready; 0 on a machine that runs no Pods. */
  poolSize?: number
}

/** Another machine of the overlay. Its VXLAN MAC is derived from its podCIDR, so nothing else need be known. */
export interface Peer { name: string; address: string; podCIDR: string }

export interface PortMapping { hostIP?: string; hostPort: number; containerPort: number; protocol: 'tcp' | 'udp' }

/** One port of one Service, ready to be programmed. */
export interface ServicePortRule {
  /** `namespace/name:port`, for messages. */
  name: string
  clusterIP: string
  /** More addresses that lead to it (externalIPs). */
  externalIPs?: string[]
  port: number
  nodePort?: number
  protocol: 'tcp' | 'udp'
  /** Ready endpoints. Empty: connections are refused at once, not left to time out. */
  endpoints: { ip: string; port: number }[]
  /** Seconds a client sticks to an endpoint; left out: no affinity. */
  affinitySeconds?: number
}

/** DNS data: full names without the trailing dot, lower case. */
export interface DnsRecords {
  /** name → IPv4 addresses, answered in rotating order. */
  a: Map<string, string[]>
  /** name → targets. */
  srv: Map<string, { port: number; target: string }[]>
  cname: Map<string, string>
  /** address → name. */
  ptr: Map<string, string>
}

export interface Sandbox {
  id: string
  /** Bind-mounted namespace file to put into a container's spec. */
  netnsPath: string
  ip: string
  gateway: string
  ports: PortMapping[]
}

export class NetworkError extends Error {
  readonly code: 'conflict' | 'exhausted' | 'invalid' | 'failed'
  constructor(code: NetworkError['code'], message: string) {
    super(message)
    this.name = 'NetworkError'
    this.code = code
  }
}

export interface Network {
  readonly podCIDR: string
  readonly gateway: string
  /** Address of the DNS server to put into containers' resolv.conf. */
  readonly dnsAddress: string
  /**
   * Takes a ready namespace from the pool, gives it an address (`ip` if asked and free) and publishes `ports`. `conflict` if a
   * host port is taken.
   */
  createSandbox(id: string, options?: { ip?: string; ports?: PortMapping[] }): Promise<Sandbox>
  /** Resolves also if it is gone. */
  deleteSandbox(id: string): Promise<void>
  /** Those that exist in the kernel, also after a restart of this process. */
  sandboxes(): Sandbox[]
  /** The whole desired set each time; only differences touch the kernel, one `ip -batch` / `nft -f` a change set. */
  setPeers(peers: Peer[]): Promise<void>
  setServices(rules: ServicePortRule[]): Promise<void>
  setDns(records: DnsRecords): void
  /** Bytes in and out of a sandbox since it was made. */
  counters(id: string): Promise<{ rxBytes: number; txBytes: number } | undefined>
  /** Lets go; namespaces, rules and interfaces stay so that traffic goes on. */
  close(): Promise<void>
  /** Removes everything this instance ever made in the kernel. */
  destroy(): Promise<void>
}
