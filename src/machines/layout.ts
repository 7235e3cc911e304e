/** Where everything lives on a host, and the configuration files its daemons are started with. */
import { join } from 'node:path'

/** `GANTRY_HOME` moves both trees below it: several clusters on one machine, and tests. */
export interface Layout {
  /** Kept across reboots. Mode 0700. */
  dataDir: string
  /** Sockets, pids, namespaces: gone at reboot. Mode 0711. */
  runDir: string
}

export function layout(home: string | undefined = process.env['GANTRY_HOME']): Layout {
  return home === undefined || home === ''
    ? { dataDir: '/var/lib/gantry', runDir: '/run/gantry' }
    : { dataDir: join(home, 'lib'), runDir: join(home, 'run') }
}

/** Cluster-wide facts every daemon is told. */
export interface ClusterConfig {
  name: string
  /** Suffix of kernel names on this machine; see network's `instance`. */
  instance: string
  clusterCIDR: string
  serviceCIDR: string
  clusterDomain: string
}

/** Control group of all containers of one node; what starts nodes on a machine also removes it. */
export function nodeCgroup(instance: string, name: string): string { return join(clusterCgroup(instance), name) }

/** Control group of all nodes that one cluster has on a machine. */
export function clusterCgroup(instance: string): string { return `/gantry-${instance}` }

/** PEM files of one identity. */
export interface Identity { ca: string; cert: string; key: string }

/** The file of `daemon.ts server FILE`. */
export interface ServerConfig {
  cluster: ClusterConfig
  dataDir: string
  listen: { host: string; port: number }
  /** Server certificate; `ca` verifies clients. */
  tls: Identity
  /** Key and certificate of the CA, for signing service accounts' tokens and nodes' requests. */
  caKey: string
  /** File with a 32-byte key (base64) that encrypts Secrets at rest. */
  secretsKey: string
  /** Static bearer tokens: JSON `[{token, user, groups}]`; optional. */
  tokens?: string
  store: { type: 'sqlite'; path: string } | { type: 'etcd'; endpoints: string[]; prefix: string; tls?: Identity }
  /** `https://host:port` that clients and Pods use: for `default/kubernetes` and kubeconfigs. The host is an IPv4 address. */
  advertise: string
}

/** The file of `daemon.ts agent FILE`. */
export interface AgentConfig {
  cluster: ClusterConfig
  /** Node name. */
  name: string
  /** `https://…` of the API servers. */
  servers: string[]
  tls: Identity
  dataDir: string
  runDir: string
  containerdSocket: string
  loggerSocket: string
  /** Where the node serves Docker's API. Reachable from the machine that holds the host. */
  dockerSocket: string
  /** Underlay address. */
  address: string
  driver: string
  labels?: Record<string, string>
  taints?: { key: string; value?: string; effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute' }[]
  /** What the node offers; default: what the machine has. */
  cpuMilli?: number
  memoryBytes?: number
  maxPods?: number
}

/** Where the Docker API is heard: a unix socket, or TCP for clients with a certificate of `tls.ca`. */
export type EngineListen = { unix: string } | { host: string; port: number; tls: Identity }

/** The file of `daemon.ts engine FILE`: Docker's API on this machine, with no cluster. */
export interface EngineConfig {
  /** Suffix of kernel names on this machine. */
  instance: string
  /** Images, containers, networks, volumes. */
  dataDir: string
  runDir: string
  containerdSocket: string
  loggerSocket: string
  /** Bridge of the default network, e.g. `docker0`. */
  bridge: string
  listen: EngineListen[]
  /** Registries asked before Docker Hub: `http[s]://HOST[:PORT]`. */
  registryMirrors?: string[]
}

/** What Docker's API keeps below a data folder. */
export function dockerDirs(dataDir: string): { networks: string; volumes: string; records: string } {
  return { networks: join(dataDir, 'networks'), volumes: join(dataDir, 'volumes'), records: join(dataDir, 'docker') }
}

/** Exists while the engine listens. */
export function engineReadyFile(config: EngineConfig): string { return join(config.runDir, 'engine.ready') }

/** The file of `daemon.ts router FILE`. */
export interface RouterConfig {
  cluster: ClusterConfig
  name: string
  servers: string[]
  tls: Identity
  dataDir: string
  runDir: string
  address: string
  /** With false, this machine's agent already is a member of the overlay. */
  joinOverlay: boolean
  httpAddress: string
  httpPort: number
  /** Routes without a host's dots get `.DOMAIN`. */
  domain: string
}
