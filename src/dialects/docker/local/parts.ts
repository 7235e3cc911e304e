/** What the parts of the local backend share: opened once in `index.ts`, handed to each. */
import type { Logger } from '../../../core/log.ts'
import type { Engine } from '../../../engine/engine.ts'
import type { Cnm } from '../../../network/cnm/cnm.ts'
import type { NamedVolumes } from '../../../volumes/named/named.ts'
import type { EventMessage, StringMap } from '../model.ts'

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
