/** The node agent: makes this node's Pods true, and goes on doing so while the server is away. */
import { mkdirSync, readFileSync } from 'node:fs'
import type { Server } from 'node:https'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from '../client/client.ts'
import type { RemoteClient } from '../client/client.ts'
import { EventRecorder } from '../core/event-recorder.ts'
import { machines, nodes, pods } from '../core/kinds.ts'
import { lineLogger } from '../core/log.ts'
import type { Logger } from '../core/log.ts'
import type { Machine, Node, Service } from '../core/types/index.ts'
import { EngineError } from '../engine/engine.ts'
import type { Engine } from '../engine/engine.ts'
import { openEngine } from '../engine/index.ts'
import { openNetwork } from '../network/index.ts'
import type { Network } from '../network/network.ts'
import { nodeCgroup } from '../machines/layout.ts'
import type { AgentConfig } from '../machines/layout.ts'
import { nodeStats } from '../telemetry/node-stats.ts'
import { createVolumes } from '../volumes/index.ts'
import { serveStream } from './api/router.ts'
import { collectAtRest } from './at-rest.ts'
import { JsonFile, readJson } from './atomic-file.ts'
import { ClusterNetwork } from './cluster-network.ts'
import { errorText } from './error-text.ts'
import { machineFacts } from './facts.ts'
import { ImagePeers, imageNames, servePeers } from './image-peers.ts'
import type { Pems } from './image-peers.ts'
import { Limiter } from './limiter.ts'
import type { NodeContext } from './pod/context.ts'
import { ImagePuller } from './pod/images.ts'
import { Tokens } from './pod/tokens.ts'
import { Pods } from './pods.ts'
import { Refs } from './refs.ts'
import { Registration, registerMachine } from './registration.ts'
import { connectTunnel } from './tunnel.ts'

/** Sandboxes and containers that are set up at the same time: more only makes each one slower. */
const PARALLEL_STARTS = 8
/** Between attempts to register: an eighth of the time waited so far, within these bounds. */
const REGISTER_RETRY_MS = { min: 20, max: 1000 }
const LISTEN_RETRY_MS = 2000

interface SavedMachine { name: string; podCIDR: string }

/** More that an agent does with its engine. It is given from outside: this room knows no dialect. */
export type AgentExtension = (host: { config: AgentConfig; engine: Engine; cgroup: string; logger: Logger }) => Promise<{ close(): Promise<void> }>

/** Resolves when the node's Pods are being worked on. Rejects if containerd or the network cannot be used. */
export async function runAgent(
  config: AgentConfig, extensions: readonly AgentExtension[] = [], logger: Logger = lineLogger('agent', line => process.stderr.write(line)),
): Promise<{ close(): Promise<void> }> {
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(config.runDir, { recursive: true, mode: 0o711 })
  const tls: Pems = { ca: readFileSync(config.tls.ca, 'utf8'), cert: readFileSync(config.tls.cert, 'utf8'), key: readFileSync(config.tls.key, 'utf8') }
  const client = connect({ servers: config.servers, tls, userAgent: `gantry-agent/${config.name}` })
  const cgroup = nodeCgroup(config.cluster.instance, config.name)
  const [engine, podCIDR] = await Promise.all([
    openEngine({
      dataDir: join(config.dataDir, 'engine'), runDir: join(config.runDir, 'engine'),
      containerdSocket: config.containerdSocket, loggerSocket: config.loggerSocket, cgroupRoot: cgroup,
    }),
    podCIDROf(client, config, logger),
  ])
  const network = await openNetwork({
    runDir: join(config.runDir, 'netns'), podCIDR, clusterCIDR: config.cluster.clusterCIDR, serviceCIDR: config.cluster.serviceCIDR,
    address: config.address, clusterDomain: config.cluster.clusterDomain, instance: config.cluster.instance,
  })
  const volumes = createVolumes({ dataDir: config.dataDir, memoryDir: join(config.runDir, 'volumes') })
  const facts = machineFacts(config, (await engine.version()).containerd)

  const allMachines = client.informer<Machine>(machines)
  const allNodes = client.informer<Node>(nodes, { indexes: { image: imageNames } })
  const ownPods = client.informer(pods, { fieldSelector: `spec.nodeName=${config.name}` })
  const clusterNetwork = new ClusterNetwork({
    client, network, machines: allMachines, nodeName: config.name, clusterDomain: config.cluster.clusterDomain, dataDir: config.dataDir, logger,
  })
  await clusterNetwork.restore()

  const events = new EventRecorder(client, { component: 'gantry-agent', host: config.name })
  const tokens = new Tokens(client)
  const refs = new Refs(client, config.runDir, uids => { for (const uid of uids) all.byUid(uid)?.refsChanged() })
  const context: NodeContext = {
    nodeName: config.name, hostIP: config.address, cgroup, memoryBytes: facts.memoryBytes,
    oomFloor: facts.oomFloor, allocatable: facts.capacity,
    clusterDomain: config.cluster.clusterDomain, dataDir: config.dataDir, engine, network, volumes, client, refs, tokens,
    puller: new ImagePuller(engine.images), events, limiter: new Limiter(PARALLEL_STARTS), logger,
    services: namespace => serviceLinks(clusterNetwork, namespace),
  }
  const all = new Pods(context, ownPods, (pod, ip) => clusterNetwork.setPod(pod, ip))

  const peers = new ImagePeers(allNodes, allMachines, config.name, tls, client)
  engine.images.setPeers(peers)
  engine.setBuildNetwork(buildNetwork(network, logger))
  all.start()

  const registration = new Registration({ client, config, facts, podCIDR, images: () => engine.images.list(), logger })
  const offImages = engine.images.onChange(() => registration.refresh())
  allNodes.on((_type, node, old) => {
    if (node.metadata.name === config.name) {
      // Removed, or declared lost, by others: this node knows better.
      if (allNodes.get(config.name)?.status?.conditions?.find(c => c.type === 'Ready')?.status !== 'True') registration.refresh()
    } else if (old?.status?.images !== node.status?.images) imagesChanged(engine, all, node)
  })
  ownPods.onConnection?.(connected => {
    if (!connected) return
    registration.refresh()
    for (const worker of all.list()) worker.reconnected()
  })
  const peerServer = listenForPeers(engine, network, tls, logger)
  const tunnel = connectTunnel({
    servers: config.servers, tls, name: config.name, logger,
    onStream: (stream, headers) => serveStream({ engine, pods: all, stats: () => statsOf(config.name, all, engine, network), logger }, stream, headers),
  })
  const stopCollecting = collectAtRest(engine)
  logger.info(`node "${config.name}" runs pods of ${podCIDR}`)
  // The node's Pods do not wait for these, nor fail with them.
  const extended = extensions.map(extend => extend({ config, engine, cgroup, logger }).catch((e: unknown) => {
    logger.error(errorText(e))
    return undefined
  }))

  return {
    async close() {
      stopCollecting()
      tunnel.close()
      offImages()
      registration.close()
      for (const informer of [allMachines, allNodes, ownPods]) informer.stop()
      events.stop()
      peers.close()
      peerServer.close()
      await Promise.all([...extended.map(async e => (await e)?.close()), all.close(), clusterNetwork.close(), refs.close()])
      client.close()
      await Promise.all([network.close(), engine.close()])
    },
  }
}

/** From the API, else (the server being away) what it was the last time. Waits for a server only if neither is known. */
async function podCIDROf(client: RemoteClient, config: AgentConfig, logger: Logger): Promise<string> {
  const path = join(config.dataDir, 'machine.json')
  const saved = readJson<SavedMachine>(path)
  const beganMs = Date.now()
  for (let told = false; ; told = true) {
    try {
      const { spec } = await registerMachine(client, config, saved?.podCIDR)
      const file = new JsonFile<SavedMachine>(path, 0)
      file.save(() => ({ name: config.name, podCIDR: spec.podCIDR! }))
      await file.flush()
      return spec.podCIDR!
    } catch (e) {
      if (saved?.name === config.name) {
        logger.warn(`the server does not answer (${errorText(e)}): going on with the pods' addresses of last time, ${saved.podCIDR}`)
        return saved.podCIDR
      }
      if (!told) logger.warn(`registering machine "${config.name}": ${errorText(e)}; trying on`)
      await delay(Math.min(REGISTER_RETRY_MS.max, Math.max(REGISTER_RETRY_MS.min, (Date.now() - beganMs) / 8)))
    }
  }
}

function serviceLinks(n: ClusterNetwork, namespace: string): Service[] {
  const own = [...n.services.byIndex('namespace', namespace)]
  const api = n.services.get('default/kubernetes')
  return api === undefined || namespace === 'default' ? own : [api, ...own]
}

function imagesChanged(engine: Engine, all: Pods, node: Node): void {
  const names = new Set(imageNames(node))
  const has = (image: string): boolean => {
    try {
      return names.has(engine.images.normalize(image))
    } catch {
      return false
    }
  }
  for (const worker of all.list()) worker.imagesChanged(has)
}

/** Steps of image builds get a sandbox like a Pod's. */
function buildNetwork(network: Network, logger: Logger): Parameters<Engine['setBuildNetwork']>[0] {
  return {
    async open(id, wish) {
      // Only Docker's networks have others.
      if (wish?.network !== undefined) throw new EngineError('invalid', `build steps on this node have the Pods' network, not "${wish.network}"`)
      const sandbox = await network.createSandbox(`build-${id}`)
      return {
        netnsPath: sandbox.netnsPath, resolvConf: `nameserver ${network.dnsAddress}\n`,
        close: () => network.deleteSandbox(sandbox.id).catch((e: unknown) => logger.warn(`removing a build's network: ${errorText(e)}`)),
      }
    },
  }
}

/** Tries until it may listen: another process may hold the port for a while. Nodes without it are asked through the server. */
function listenForPeers(engine: Engine, network: Network, tls: Pems, logger: Logger): { close(): void } {
  let server: Server | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = false
  const listen = (told: boolean): void => {
    servePeers(engine.images, network.gateway, tls, logger).then(s => {
      server = s
      if (closed) s.close()
    }, (e: unknown) => {
      if (!told) logger.warn(`serving images to other nodes: ${errorText(e)}; trying on`)
      if (!closed) timer = setTimeout(() => listen(true), LISTEN_RETRY_MS)
    })
  }
  listen(false)
  return {
    close() {
      closed = true
      clearTimeout(timer)
      server?.close()
      server?.closeAllConnections()
    },
  }
}

function statsOf(node: string, all: Pods, engine: Engine, network: Network): ReturnType<typeof nodeStats> {
  return nodeStats({
    node,
    targets: all.list().map(w => ({
      namespace: w.pod.metadata.namespace ?? '', name: w.pod.metadata.name, uid: w.uid,
      containers: w.view.containers.filter(c => c.state === 'running').map(c => ({ name: c.name, id: c.id! })),
    })),
    containerStats: id => engine.containers.stats(id),
    networkCounters: uid => network.counters(uid),
  })
}
