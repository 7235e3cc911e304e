/** The parts that make Docker's API of one machine's engine, put together: networks, volumes, and the backend over them. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../../../core/log.ts'
import type { Engine } from '../../../engine/engine.ts'
import { dockerDirs } from '../../../machines/layout.ts'
import { openCnm } from '../../../network/cnm/index.ts'
import { openNamedVolumes } from '../../../volumes/named/index.ts'
import type { DockerBackend } from '../backend.ts'
import { openLocalBackend } from '../local/index.ts'

export interface OpenDockerOptions {
  engine: Engine
  /** Suffix of kernel names on this machine. */
  instance: string
  bridge: string
  dataDir: string
  runDir: string
  /** Control group of the containers. */
  cgroupParent: string
  logger: Logger
}

export interface OpenedDocker {
  backend: DockerBackend
  /** What the backend calls itself. */
  version: string
  /** Lets go; containers run on. The engine stays open: it is the caller's. */
  close(): Promise<void>
}

export async function openDocker(o: OpenDockerOptions): Promise<OpenedDocker> {
  mkdirSync(o.dataDir, { recursive: true, mode: 0o700 })
  const dirs = dockerDirs(o.dataDir)
  const [cnm, volumes] = await Promise.all([
    openCnm({ dataDir: dirs.networks, runDir: join(o.runDir, 'docker-netns'), instance: o.instance, bridge: o.bridge }),
    openNamedVolumes({ dataDir: dirs.volumes }),
  ])
  const local = await openLocalBackend({
    engine: o.engine, cnm, volumes, logger: o.logger, dataDir: dirs.records, runDir: join(o.runDir, 'docker'), cgroupParent: o.cgroupParent,
  })
  const { Version } = await local.backend.system.version()
  return {
    backend: local.backend,
    version: String(Version),
    async close() {
      await local.close()
      await cnm.close()
    },
  }
}
