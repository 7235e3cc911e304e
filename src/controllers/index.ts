/**
 * The core's control loops. Each lives in a file or folder of its own and knows nothing of the others: they meet in the API's
 * objects. All may be stopped at any point and started again, here or on another server.
 */
import type { Client } from '../core/client.ts'
import { EventRecorder } from '../core/event-recorder.ts'
import { coreKinds, type Kind } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import { systemClock, type Clock } from '../core/workqueue.ts'
import { ApiService, type ApiAddresses } from './api-service.ts'
import { SharedInformers, type Context, type Running } from './context.ts'
import { DeploymentLoop } from './deployment/controller.ts'
import { EndpointsLoop } from './endpoints/controller.ts'
import { EndpointsMirror } from './endpoints/mirror.ts'
import { GarbageCollector } from './garbage/collector.ts'
import { EventCollector } from './garbage/events.ts'
import { PodCollector } from './garbage/pods.ts'
import { NamespaceDefaults } from './namespace-defaults.ts'
import { NamespaceLoop } from './namespaces.ts'
import { Eviction } from './nodes/eviction.ts'
import type { NodeConnections } from './nodes/heartbeats.ts'
import { NodeLifecycle } from './nodes/lifecycle.ts'
import { replicaSetAdapter, replicationControllerAdapter } from './replication/adapters.ts'
import { ReplicationLoop } from './replication/controller.ts'

export type { ApiAddresses } from './api-service.ts'
export type { NodeConnections } from './nodes/heartbeats.ts'

export interface ControllersOptions {
  logger: Logger
  clock?: Clock
  /** All kinds the server serves, those of dialects too; default: the core's. */
  kinds?: readonly Kind[]
  /** Subscribes to node tunnels coming and going. Without it heartbeats alone decide. */
  onNodeConnection?: NodeConnections
  /** Where the API is, for `default/kubernetes`. Without it that Service is not kept. */
  api?: ApiAddresses
  /** PEM of the cluster's CA, for `kube-root-ca.crt`. */
  rootCaPem?: string
}

/** Starts all loops. Only one server of a cluster may run them. `stop` resolves when the attempts under way have ended. */
export function startControllers(client: Client, options: ControllersOptions): { stop(): Promise<void> } {
  const { logger, clock = systemClock, kinds = coreKinds, onNodeConnection, api, rootCaPem = '' } = options
  const informers = new SharedInformers(client)
  const recorders: EventRecorder[] = []
  const context: Context = {
    client, clock, logger, informers,
    recorder(component) {
      const r = new EventRecorder(client, { component, clock })
      recorders.push(r)
      return r
    },
  }
  const lifecycle: NodeLifecycle = new NodeLifecycle(context, onNodeConnection, (node) => eviction.enqueue(node))
  const eviction = new Eviction(context, () => lifecycle.heartbeats)
  const loops: Running[] = [
    lifecycle, eviction,
    new EndpointsLoop(context), new EndpointsMirror(context),
    new ReplicationLoop(context, replicaSetAdapter), new ReplicationLoop(context, replicationControllerAdapter),
    new DeploymentLoop(context),
    new GarbageCollector(context, kinds), new PodCollector(context), new EventCollector(context),
    new NamespaceLoop(context, kinds), new NamespaceDefaults(context, rootCaPem),
    ...api === undefined ? [] : [new ApiService(context, api)],
  ]
  for (const loop of loops) {
    loop.start().catch((e: unknown) => logger.error('a controller did not start', { error: String(e) }))
  }
  return {
    async stop() {
      await Promise.all(loops.map((l) => l.stop()))
      informers.stop()
      for (const r of recorders) r.stop()
    },
  }
}
