/** What `gantry up` decided about a cluster on this machine, kept in DATA_DIR/cluster.json. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { replaceFileDurably } from '../files/replace.ts'
import type { ClusterConfig, Layout } from './layout.ts'
import { overlaps, routedNetworks } from './underlay.ts'

export interface NodePlan {
  name: string
  driver: 'local' | 'namespace'
  address: string
  cpuMilli?: number
  memoryBytes?: number
}

export interface ClusterFile {
  cluster: ClusterConfig
  apiPort: number
  /** The router's HTTP port. */
  httpPort: number
  /** Suffix of routes' host names. */
  domain: string
  /** Subnet of the hosts' addresses on this machine. */
  underlay: string
  store: { type: 'sqlite' } | { type: 'etcd'; clientPort: number; peerPort: number }
  nodes: NodePlan[]
  /** What net.ipv4.ip_forward was before the first `up`. */
  forwardBefore?: '0' | '1'
}

const fileOf = (l: Layout) => join(l.dataDir, 'cluster.json')

/** A folder for each host that is made. */
export const machinesDir = (l: Layout): string => join(l.dataDir, 'machines')
export const nodeDataDir = (l: Layout, node: NodePlan): string => node.driver === 'local' ? join(l.dataDir, 'node') : join(machinesDir(l), node.name)

/** Where a node serves Docker's API, as seen from this machine: a namespace host has a /run of its own, but its data folder is here. */
export function dockerSocketOf(l: Layout, node: NodePlan): string {
  return join(node.driver === 'local' ? l.runDir : nodeDataDir(l, node), 'docker.sock')
}

/** Undefined if there is no cluster here. */
export function readClusterFile(l: Layout): ClusterFile | undefined {
  return existsSync(fileOf(l)) ? JSON.parse(readFileSync(fileOf(l), 'utf8')) as ClusterFile : undefined
}

export async function writeClusterFile(l: Layout, f: ClusterFile): Promise<void> {
  mkdirSync(l.dataDir, { recursive: true, mode: 0o700 })
  await replaceFileDurably(fileOf(l), JSON.stringify(f, null, 2) + '\n')
}

export interface NewCluster { name?: string; domain?: string; apiPort?: number; httpPort?: number; store?: 'sqlite' | 'etcd' }

/** Chooses networks that nothing on this machine routes yet, and free ports. Explicit ports must be free. */
export async function planCluster(options: NewCluster): Promise<ClusterFile> {
  const instance = randomBytes(2).toString('hex')
  const taken = await routedNetworks()
  const free = (candidates: string[], what: string): string => {
    const found = candidates.find(c => !taken.some(t => overlaps(t, c)))
    if (found === undefined) throw new Error(`no free network for ${what}: ${candidates.join(', ')} are all routed on this machine`)
    taken.push(found)
    return found
  }
  const sixteens = Array.from({ length: 40 }, (_, i) => `10.${42 + i}.0.0/16`)
  const apiPort = options.apiPort ?? await freePort([6443, 7443, 8443, 9443, 0])
  const httpPort = options.httpPort ?? await freePort([80, 8080, 8000, 8880, 0])
  for (const port of [options.apiPort, options.httpPort]) {
    if (port !== undefined && !await isFree(port)) throw new Error(`port ${port} is in use; choose another`)
  }
  return {
    cluster: {
      name: options.name ?? 'gantry', instance,
      clusterCIDR: free(sixteens, 'pods'), serviceCIDR: free(sixteens, 'services'), clusterDomain: 'cluster.local',
    },
    apiPort, httpPort,
    domain: options.domain ?? 'gantry.localhost',
    underlay: free(Array.from({ length: 60 }, (_, i) => `10.${190 + i}.0.0/24`), 'hosts'),
    store: options.store === 'etcd'
      ? { type: 'etcd', clientPort: await freePort([2379, 12379, 0]), peerPort: await freePort([2380, 12380, 0]) }
      : { type: 'sqlite' },
    nodes: [],
  }
}

/** The first free port; 0 means any. */
async function freePort(candidates: number[]): Promise<number> {
  for (const port of candidates) {
    const got = await isFree(port)
    if (got) return got
  }
  throw new Error('no free port')
}

/** The port if it can be bound on all addresses, else 0. */
function isFree(port: number): Promise<number> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(0))
    server.listen({ port, host: '0.0.0.0' }, () => {
      const { port: got } = server.address() as { port: number }
      server.close(() => resolve(got))
    })
  })
}
