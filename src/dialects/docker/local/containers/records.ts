/** What is kept of each container: one JSON file each, written before its creation is acknowledged. */
import { RecordFiles } from '../../../../files/record-files.ts'
import type { ContainerConfig, EndpointSettings, HostConfig } from '../../model.ts'
import type { PlannedMount } from '../../shared/mounts.ts'

export interface ContainerRecord {
  id: string
  /** Without slash. */
  name: string
  createdAtMs: number
  /** `sha256:…` */
  imageId: string
  platform: string
  /** Merged with the image's. */
  config: ContainerConfig
  hostConfig: HostConfig
  /** Network name → what the endpoint shall be. */
  endpoints: Record<string, EndpointSettings>
  mounts: PlannedMount[]
  exitCode: number
  error: string
  oomKilled: boolean
  /** 0: never. */
  startedAtMs: number
  finishedAtMs: number
  /** Time of the last exit handled, as the engine told it: it may tell it again. */
  exitSeenMs: number
  restartCount: number
  /** By `stop` or `kill`: keeps `unless-stopped` from starting it. */
  manuallyStopped: boolean
}

export type RecordStore = RecordFiles<ContainerRecord>

export function openRecords(dir: string): RecordStore { return new RecordFiles(dir, ({ id }) => id) }
