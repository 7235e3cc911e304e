/** The daemon of `gantry engine`: this machine's containers behind Docker's API. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { lineLogger } from '../../../core/log.ts'
import type { Logger } from '../../../core/log.ts'
import { openEngine } from '../../../engine/index.ts'
import { type EngineConfig, engineReadyFile, nodeCgroup } from '../../../machines/layout.ts'
import { createDockerApi } from '../api/index.ts'
import { listen, type Listener } from '../api/listen.ts'
import { openDocker } from './open.ts'

/** Resolves when it listens everywhere. Rejects if containerd, the network or an address cannot be used. */
export async function runEngine(
  config: EngineConfig, logger: Logger = lineLogger('engine', line => process.stderr.write(line)),
): Promise<{ close(): Promise<void> }> {
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(config.runDir, { recursive: true, mode: 0o711 })
  const ready = engineReadyFile(config)
  rmSync(ready, { force: true })
  const cgroupParent = nodeCgroup(config.instance, 'docker')
  const engine = await openEngine({
    dataDir: join(config.dataDir, 'engine'), runDir: join(config.runDir, 'engine'),
    containerdSocket: config.containerdSocket, loggerSocket: config.loggerSocket, cgroupRoot: cgroupParent,
    ...(config.registryMirrors !== undefined && { registries: { mirrors: config.registryMirrors } }),
  })
  const { instance, bridge, dataDir, runDir } = config
  const docker = await openDocker({ engine, instance, bridge, dataDir, runDir, cgroupParent, logger })
  const api = createDockerApi(docker.backend, { serverVersion: docker.version, logger })
  const listeners: Listener[] = []
  for (const where of config.listen) {
    const listener = await listen(api, where)
    listeners.push(listener)
    logger.info(`listening at ${listener.address}`)
  }
  writeFileSync(ready, '')
  return {
    async close() {
      rmSync(ready, { force: true })
      await Promise.all(listeners.map(l => l.close()))
      await docker.close()
      await engine.close()
    },
  }
}
