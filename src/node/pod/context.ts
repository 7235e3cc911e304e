/** What every Pod's worker shares on this node. */
import type { Client } from '../../core/client.ts'
import type { Quantity, Service } from '../../core/types/index.ts'
import type { Engine } from '../../engine/engine.ts'
import type { Network } from '../../network/network.ts'
import type { Volumes } from '../../volumes/volumes.ts'
import type { EventRecorder } from '../../core/event-recorder.ts'
import type { Limiter } from '../limiter.ts'
import type { Logger } from '../../core/log.ts'
import type { Refs } from '../refs.ts'
import type { ImagePuller } from './images.ts'
import type { Tokens } from './tokens.ts'

export interface NodeContext {
  nodeName: string
  hostIP: string
  /** Control group of all containers of this node, as machines/ expects it: `/gantry-INSTANCE/NAME`. */
  cgroup: string
  memoryBytes: number
  /** Lowest oom_score_adj this process may give. */
  oomFloor: number
  allocatable: Record<string, Quantity>
  clusterDomain: string
  /** Below it: `podfiles/UID` (files of /etc, termination messages) and `podstate/UID.json`. */
  dataDir: string
  engine: Engine
  network: Network
  volumes: Volumes
  client: Client
  refs: Refs
  tokens: Tokens
  puller: ImagePuller
  events: Pick<EventRecorder, 'record'>
  /** Bounds what is set up and started at the same time. */
  limiter: Limiter
  logger: Logger
  /** Services whose variables a Pod of the namespace gets: its own and the API's. */
  services(namespace: string): Service[]
}
