/**
 * Networks of one machine in the Container Network Model (Docker's): a network has endpoints, an endpoint joins one sandbox, a sandbox is
 * a network namespace with names and addresses of its own. Independent of the cluster's overlay. Everything is kept on disk and found again
 * after a restart of this process; traffic, names' rules and published ports go on in the kernel meanwhile.
 * Implementation: `index.ts` (`openCnm`).
 */

export interface CnmOptions {
  /** Networks and endpoints, kept over reboots. */
  dataDir: string
  /** Bound namespaces are files here. */
  runDir: string
  /** Suffix of tables' and links' names, so that two engines can share a machine; at most 6 characters. */
  instance: string
  /** Name of the default network's bridge, e.g. `docker0`. */
  bridge: string
  /** The default network's subnet; default: the first free pool. */
  bridgeSubnet?: string
  /** Pools that subnets are taken from; default Docker's 31. Those that overlap with a route of the machine are passed over. */
  pools?: { base: string; size: number }[]
  /** Where plugins' sockets and spec files are looked for; default Docker's three folders. */
  pluginDirs?: string[]
  /** Namespaces kept ready. */
  poolSize?: number
}

export class CnmError extends Error {
  readonly code: 'invalid' | 'not-found' | 'conflict' | 'forbidden' | 'exhausted' | 'failed'
  constructor(code: CnmError['code'], message: string) {
    super(message)
    this.name = 'CnmError'
    this.code = code
  }
}

export interface IpamPool { subnet?: string; range?: string; gateway?: string; auxiliary?: Record<string, string> }

export interface NetworkSpec {
  name: string
  /** `bridge` (default), `macvlan`, `ipvlan`, or a plugin's. `host` and `null` exist once, predefined. */
  driver?: string
  ipamDriver?: string
  ipamOptions?: Record<string, string>
  /** As asked for; families without a pool get one from the defaults. */
  pools?: IpamPool[]
  ipv4?: boolean
  ipv6?: boolean
  internal?: boolean
  attachable?: boolean
  configOnly?: boolean
  configFrom?: string
  /** `com.docker.network.…` and drivers' own (`parent`, `macvlan_mode`). */
  options?: Record<string, string>
  labels?: Record<string, string>
}

export interface NetworkInfo {
  /** 64 hex digits. */
  id: string
  name: string
  createdAtMs: number
  driver: string
  scope: 'local' | 'global'
  /** With subnets and gateways filled in. */
  pools: { subnet: string; gateway?: string; range?: string; auxiliary?: Record<string, string> }[]
  ipamDriver: string
  ipamOptions: Record<string, string>
  ipv4: boolean
  ipv6: boolean
  internal: boolean
  attachable: boolean
  configOnly: boolean
  configFrom: string
  options: Record<string, string>
  labels: Record<string, string>
  /** bridge, host, none. */
  predefined: boolean
  endpoints: EndpointInfo[]
}

export interface EndpointSpec {
  ipv4?: string
  ipv6?: string
  linkLocal?: string[]
  mac?: string
  /** Names only of this network: the container's aliases, short id, hostname. The sandbox's `name` is added. */
  aliases?: string[]
  /** On networks with names: `alias` → container name, seen by this sandbox alone. */
  links?: { target: string; alias: string }[]
  driverOptions?: Record<string, string>
  /** The endpoint with the highest one gives the default route; ties go to the first network name in order. */
  gatewayPriority?: number
}

export interface EndpointInfo {
  id: string
  networkId: string
  networkName: string
  /** Owner's id (container). */
  sandboxId: string
  /** Name of the sandbox's owner now. */
  ownerName: string
  /** `10.1.0.2/16`; empty strings where there is none, also while not joined. */
  ipv4: string
  ipv6: string
  gateway: string
  gatewayV6: string
  mac: string
  /** Inside: `eth0`. Outside, on a bridge: `veth…`. */
  interfaceName: string
  hostInterface: string
  /** All names it answers to. */
  dnsNames: string[]
}

export interface PortRequest {
  containerPort: number
  protocol: 'tcp' | 'udp' | 'sctp'
  /** '' is every address of both families. */
  hostIP: string
  /** '' is any free one; `8000-8010` the first free of these. */
  hostPort: string
}
export interface PublishedPort { containerPort: number; protocol: 'tcp' | 'udp' | 'sctp'; hostIP: string; hostPort: number }

export interface SandboxSpec {
  /** Container's id: the sandbox's too. */
  id: string
  /** Container's name, answered by DNS on networks that have names. */
  name: string
  hostname: string
  domainname?: string
  /** Networks to join at once, in this order: network id or name → how. */
  endpoints: { network: string; spec: EndpointSpec }[]
  ports: PortRequest[]
  dns?: string[]
  dnsSearch?: string[]
  dnsOptions?: string[]
  /** `name:ip`; `host-gateway` stands for the default bridge's address. */
  extraHosts?: string[]
  /** On the default bridge: entries for /etc/hosts. */
  hostsLinks?: { names: string[]; ip: string }[]
  sysctls?: Record<string, string>
}

export interface SandboxInfo {
  id: string
  /** 64 hex digits. */
  sandboxId: string
  /** Bound namespace file; undefined for the host's stack. */
  netnsPath: string | undefined
  endpoints: EndpointInfo[]
  ports: PublishedPort[]
  /** Texts for the container's files, as of now; on a user network they name the embedded DNS server. */
  resolvConf: string
  hosts: string
}

export interface BuildSandbox { netnsPath: string | undefined; resolvConf: string; hosts: string; close(): Promise<void> }

export interface InterfaceCounters {
  rxBytes: number; rxPackets: number; rxErrors: number; rxDropped: number
  txBytes: number; txPackets: number; txErrors: number; txDropped: number
}

export type CnmEvent =
  | { type: 'create' | 'destroy'; network: NetworkInfo }
  | { type: 'connect' | 'disconnect'; network: NetworkInfo; sandboxId: string }
  /** Texts of a sandbox's files have changed (joined or left a network): the owner rewrites them in place. */
  | { type: 'files'; sandboxId: string; resolvConf: string; hosts: string }

export interface Cnm {
  networks(): NetworkInfo[]
  /** Exact id, then exact name, then unique prefix of an id. `not-found`: `network X not found`; several: `invalid`. */
  find(ref: string): NetworkInfo
  createNetwork(spec: NetworkSpec): Promise<NetworkInfo>
  /** `forbidden` for predefined ones and while endpoints exist. */
  removeNetwork(ref: string): Promise<void>
  /**
   * Namespace, endpoints, addresses, published ports, names: all or nothing. A bound port fails with `conflict` and Docker's words
   * (`Bind for 0.0.0.0:80 failed: port is already allocated`). Addresses asked for in EndpointSpec are kept for the sandbox's id.
   * `onNamespace` is told of the namespace, addresses and texts as soon as they are known, while the kernel is still being set up; perhaps never.
   */
  createSandbox(spec: SandboxSpec, onNamespace?: (info: SandboxInfo) => void): Promise<SandboxInfo>
  sandbox(id: string): SandboxInfo | undefined
  sandboxes(): SandboxInfo[]
  /** Resolves also if it is gone. */
  deleteSandbox(id: string): Promise<void>
  /** While it runs. */
  connect(sandboxId: string, network: string, spec: EndpointSpec): Promise<EndpointInfo>
  disconnect(sandboxId: string, network: string, force: boolean): Promise<void>
  /** The owner has a new name. */
  rename(sandboxId: string, name: string): Promise<void>
  /** Checks an endpoint's wish (subnet, address family, driver's options) without making anything: at `create` of a container. */
  checkEndpoint(network: string, spec: EndpointSpec): void
  /** By interface name as the container sees it. */
  counters(sandboxId: string): Promise<Record<string, InterfaceCounters>>
  /** A namespace with a way out and without names, for a build step. */
  openBuild(id: string, options?: { network?: string; extraHosts?: string[] }): Promise<BuildSandbox>
  onEvent(handler: (e: CnmEvent) => void): () => void
  /** Lets go; everything in the kernel stays. */
  close(): Promise<void>
  /** Removes everything this instance ever made. */
  destroy(): Promise<void>
}
