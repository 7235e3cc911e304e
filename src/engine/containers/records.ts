/** What the engine remembers of each container: one JSON file each. */
import { RecordFiles } from '../../files/record-files.ts'
import type { ContainerInfo, ContainerSpec, ImageConfig } from '../engine.ts'

export type ImageDefaults = Pick<ImageConfig, 'entrypoint' | 'cmd' | 'env' | 'workingDir' | 'user' | 'stopSignal'>

export interface ContainerRecord extends Omit<ContainerInfo, 'id' | 'labels' | 'image'> {
  /** Only `ready` is ever on disk: what an engine left of a container that was being made or removed has no record. */
  phase: 'creating' | 'ready' | 'removing'
  spec: ContainerSpec
  image: ImageDefaults
}

export type RecordStore = RecordFiles<ContainerRecord>

export function openRecords(dir: string): RecordStore { return new RecordFiles(dir, ({ spec }) => spec.id) }
