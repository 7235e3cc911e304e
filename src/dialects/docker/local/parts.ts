/** What the parts of the local backend share: opened once in `index.ts`, handed to each. */
import type { Logger } from '../../../core/log.ts'
import type { Engine } from '../../../engine/engine.ts'
import type { Cnm } from '../../../network/cnm/cnm.ts'
import type { NamedVolumes } from '../../../volumes/named/named.ts'
import type { ContainerConfig, EndpointSettings, EventMessage, StringMap } from '../model.ts'

export interface EventSink {
  /** Stamps and sends an event; for containers and images the old fields are filled in from the actor. */
  emit(type: EventMessage['Type'], action: string, id: string, attributes?: StringMap): void
}

export interface Parts {
  engine: Engine
  cnm: Cnm
  volumes: NamedVolumes
  events: EventSink
  logger: Logger
  /** `DATA/docker`: records of this backend. */
  dataDir: string
  runDir: string
  /** Control group of the containers, e.g. `/docker`. */
  cgroupParent: string
}

/** What other parts need to know of containers: who uses an image, a network, a volume. */
export interface ContainerIndex {
  /** Full ids and names of containers made from an image (its id), with whether they run. */
  byImage(imageId: string): { id: string; name: string; running: boolean }[]
  /** Name without slash, or undefined. */
  nameOf(id: string): string | undefined
}

/** What a container takes from its image. Made in `index.ts` from the images' part, kept by image id. */
export interface ImageFacts {
  /** `sha256:…` */
  id: string
  parent: string
  config: ContainerConfig
  os: string
  architecture: string
}

/**
 * Endpoints belong to containers, also while these do not run: the networks' part asks here for `connect` and `disconnect`. Events of
 * networks are the networks' part's, from the Cnm's own; those of volumes likewise the volumes' part's.
 */
export interface ContainerEndpoints {
  /** `network` is its full id. Checks the container's state and mode; joins at once if it runs, else at its next start. */
  connect(containerRef: string, network: string, endpoint: EndpointSettings): Promise<void>
  /** `not-found` if the container is not on the network; with `force` also where the container is unknown. */
  disconnect(containerRef: string, network: string, force: boolean): Promise<void>
  /** Containers with an endpoint on the network, running or not. */
  onNetwork(network: string): { id: string; name: string; running: boolean }[]
}
