/** Identities and configuration files of a cluster's daemons. Everything is 0600 below the cluster's data folder. */
import { randomBytes, X509Certificate } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { renderContainerdConfig } from '../engine/containerd/config.ts'
import { replaceFileDurably } from '../files/replace.ts'
import { emptyPlan, proxyCommand, proxyPaths, writeProxyFiles } from '../router/proxy.ts'
import { type ClusterFile, dockerSocketOf, machinesDir, nodeDataDir, type NodePlan } from './cluster-file.ts'
import type { AgentConfig, Identity, Layout, RouterConfig, ServerConfig } from './layout.ts'
import { type CertificateAuthority, createCA, issueCert, kubeconfig, writeIdentity } from './pki.ts'
import { gantryDaemon, type ServiceCommand } from './services.ts'
import { hostAddress, underlayOf } from './underlay.ts'

/** Where the cluster's files are. */
export function paths(l: Layout) {
  const pki = join(l.dataDir, 'pki')
  return {
    pki, caCert: join(pki, 'ca.crt'), caKey: join(pki, 'ca.key'), secretsKey: join(pki, 'secrets.key'),
    kubeconfig: join(l.dataDir, 'kubeconfig'),
    services: join(l.runDir, 'services'),
    machines: machinesDir(l),
  }
}

/** The cluster's CA, made at the first call, with the key that encrypts Secrets. */
async function ensureCA(l: Layout): Promise<CertificateAuthority> {
  const p = paths(l)
  if (existsSync(p.caKey)) return { cert: readFileSync(p.caCert, 'utf8'), key: readFileSync(p.caKey, 'utf8') }
  const ca = await createCA('gantry')
  mkdirSync(p.pki, { recursive: true, mode: 0o700 })
  await replaceFileDurably(p.secretsKey, randomBytes(32).toString('base64'))
  await replaceFileDurably(p.caCert, ca.cert)
  // Last: its presence says that all is there.
  await replaceFileDurably(p.caKey, ca.key)
  return ca
}

/** A certificate with less life than this is replaced when its daemon is next provisioned. */
const RENEW_MS = 60 * 86_400_000

async function identity(dir: string, name: string, request: Parameters<typeof issueCert>[1], ca: CertificateAuthority): Promise<Identity> {
  const have = { ca: join(dir, 'ca.crt'), cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) }
  const kept = existsSync(have.ca) && existsSync(have.cert) && existsSync(have.key)
  if (kept && Date.parse(new X509Certificate(readFileSync(have.cert)).validTo) - Date.now() > RENEW_MS) return have
  return writeIdentity(dir, await issueCert(ca, request), name)
}

/** In the server's certificate and in no other. */
export const SERVER_NAME = 'gantry-server'

/** The first address of the Service network: `kubernetes.default`. */
const firstOf = (cidr: string) => cidr.replace(/\.0\/\d+$/, '.1')

/** The API server's address for hosts of this machine. */
export function serverAddress(f: ClusterFile): string {
  return f.nodes.some(n => n.driver === 'namespace') ? hostAddress(underlayOf(f.cluster.instance, f.underlay), 1) : '127.0.0.1'
}

/** Server: identity, configuration, admin's kubeconfig. */
export async function provisionServer(l: Layout, f: ClusterFile): Promise<ServiceCommand[]> {
  const p = paths(l)
  const ca = await ensureCA(l)
  const dir = join(l.dataDir, 'server')
  const gateway = hostAddress(underlayOf(f.cluster.instance, f.underlay), 1)
  const tls = await identity(dir, 'tls', {
    commonName: SERVER_NAME, server: true, client: true,
    dnsNames: ['localhost', SERVER_NAME, 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc', `kubernetes.default.svc.${f.cluster.clusterDomain}`],
    ipAddresses: ['127.0.0.1', gateway, firstOf(f.cluster.serviceCIDR)],
  }, ca)
  const store: ServerConfig['store'] = f.store.type === 'sqlite'
    ? { type: 'sqlite', path: join(dir, 'gantry.db') }
    : { type: 'etcd', endpoints: [`https://127.0.0.1:${f.store.clientPort}`], prefix: `/gantry/${f.cluster.name}/`, tls }
  const config: ServerConfig = {
    cluster: f.cluster, dataDir: dir, listen: { host: '0.0.0.0', port: f.apiPort }, tls,
    caKey: p.caKey, secretsKey: p.secretsKey, store, advertise: `https://${gateway}:${f.apiPort}`,
  }
  if (f.nodes.every(n => n.driver === 'local')) config.listen.host = '127.0.0.1'
  const file = join(dir, 'server.json')
  await replaceFileDurably(file, JSON.stringify(config, null, 2))
  if (!existsSync(p.kubeconfig)) {
    const admin = await issueCert(ca, { commonName: 'admin', organizations: ['system:masters'], client: true })
    await replaceFileDurably(p.kubeconfig, kubeconfig({ server: `https://127.0.0.1:${f.apiPort}`, ca: ca.cert, cert: admin.cert, key: admin.key, name: f.cluster.name }))
  }
  return [...etcdService(l, f, tls), gantryDaemon('server', file)]
}

/** A real etcd beside the server, reachable with the server's certificate only. */
function etcdService(l: Layout, f: ClusterFile, tls: Identity): ServiceCommand[] {
  return f.store.type === 'etcd' ? [{ name: 'etcd', command: etcdCommand({ dataDir: join(l.dataDir, 'etcd'), ...f.store, tls }) }] : []
}

export function etcdCommand(o: { dataDir: string; clientPort: number; peerPort: number; tls: Identity }): string[] {
  const { tls } = o
  const client = `https://127.0.0.1:${o.clientPort}`
  const peer = `https://127.0.0.1:${o.peerPort}`
  return ['etcd', '--name', 'gantry', '--data-dir', o.dataDir,
    '--listen-client-urls', client, '--advertise-client-urls', client,
    '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `gantry=${peer}`,
    '--cert-file', tls.cert, '--key-file', tls.key, '--trusted-ca-file', tls.ca, '--client-cert-auth',
    '--peer-cert-file', tls.cert, '--peer-key-file', tls.key, '--peer-trusted-ca-file', tls.ca, '--peer-client-cert-auth',
    // The CA signs nodes' and users' certificates too: only the server's own, which alone bears this name, may in.
    '--client-cert-allowed-hostname', SERVER_NAME, '--peer-cert-allowed-hostname', SERVER_NAME,
    '--enable-grpc-gateway=false', '--logger', 'zap', '--log-level', 'warn']
}

/** A node: containerd, the logger, the agent. `runDir` is as the host sees it. */
export async function provisionNode(l: Layout, f: ClusterFile, node: NodePlan, runDir: string): Promise<ServiceCommand[]> {
  const ca = await ensureCA(l)
  const dataDir = nodeDataDir(l, node)
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const tls = await identity(dataDir, 'tls', {
    commonName: `system:node:${node.name}`, organizations: ['system:nodes'], server: true, client: true,
    dnsNames: [node.name], ipAddresses: [node.address],
  }, ca)
  const runtime = await provisionRuntime(dataDir, runDir)
  const agent: AgentConfig = {
    cluster: f.cluster, name: node.name, servers: [`https://${serverAddress(f)}:${f.apiPort}`], tls,
    dataDir, runDir, ...runtime.sockets, dockerSocket: dockerSocketOf(l, node), address: node.address, driver: node.driver,
    ...(node.cpuMilli !== undefined && { cpuMilli: node.cpuMilli }),
    ...(node.memoryBytes !== undefined && { memoryBytes: node.memoryBytes }),
  }
  const agentFile = join(dataDir, 'agent.json')
  await replaceFileDurably(agentFile, JSON.stringify(agent, null, 2))
  return [...runtime.services, gantryDaemon('agent', agentFile)]
}

/** What runs and logs a host's containers: a containerd of our own, and the log daemon. */
export async function provisionRuntime(dataDir: string, runDir: string): Promise<{
  sockets: { containerdSocket: string; loggerSocket: string }; services: ServiceCommand[]
}> {
  const sockets = { containerdSocket: join(runDir, 'containerd.sock'), loggerSocket: join(runDir, 'logger.sock') }
  const loggerFile = join(dataDir, 'logger.json')
  await replaceFileDurably(loggerFile, JSON.stringify({ socket: sockets.loggerSocket }))
  const containerdFile = join(dataDir, 'containerd.toml')
  writeFileSync(containerdFile, renderContainerdConfig({
    root: join(dataDir, 'containerd'), state: join(runDir, 'containerd'), socket: sockets.containerdSocket,
  }), { mode: 0o600 })
  return { sockets, services: [{ name: 'containerd', command: ['containerd', '--config', containerdFile] }, gantryDaemon('logger', loggerFile)] }
}

/** Name of the router, and of its Machine. */
const EDGE = 'edge'

/** The edge on this machine. It joins the overlay unless this machine's own agent has. */
export async function provisionRouter(l: Layout, f: ClusterFile): Promise<ServiceCommand[]> {
  const ca = await ensureCA(l)
  const dataDir = join(l.dataDir, 'router')
  const tls = await identity(dataDir, 'tls', { commonName: `system:gantry:router:${EDGE}`, organizations: ['system:gantry:routers'], client: true }, ca)
  const local = f.nodes.some(n => n.driver === 'local')
  const config: RouterConfig = {
    cluster: f.cluster, name: EDGE, servers: [`https://127.0.0.1:${f.apiPort}`], tls,
    dataDir, runDir: join(l.runDir, 'router'),
    address: local ? '127.0.0.1' : hostAddress(underlayOf(f.cluster.instance, f.underlay), 1),
    joinOverlay: !local, httpAddress: '0.0.0.0', httpPort: f.httpPort, domain: f.domain,
  }
  const file = join(dataDir, 'router.json')
  await replaceFileDurably(file, JSON.stringify(config, null, 2))
  // The proxy needs a configuration to start with; from then on the router keeps it.
  if (!existsSync(proxyPaths(config).config)) writeProxyFiles(config, emptyPlan())
  mkdirSync(config.runDir, { recursive: true, mode: 0o700 })
  return [{ name: 'haproxy', command: proxyCommand(config) }, gantryDaemon('router', file)]
}
