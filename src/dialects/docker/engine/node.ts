/**
 * Docker's API on a node of a cluster, over the agent's own engine. Nodes where nobody uses Docker do not pay for it: behind the socket
 * all is loaded with the first request, or at the start if there are containers that restart policies may concern.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../../../core/log.ts'
import type { Engine } from '../../../engine/engine.ts'
import { loadLater as loadEngineLater } from '../../../engine/index.ts'
import { type AgentConfig, dockerDirs } from '../../../machines/layout.ts'
import type { DockerApi } from '../api/index.ts'
import { listen } from '../api/listen.ts'
import type { OpenedDocker } from './open.ts'

const loadCode = () => Promise.all([import('./open.ts'), import('../api/index.ts')])

/** For the compile cache: loads what is else loaded with the first request, which will tell of a failure. */
export async function loadLater(): Promise<void> { await Promise.all([loadCode(), loadEngineLater()]).catch(() => undefined) }

/** An extension of the agent. Rejects if its socket cannot be had. */
export async function serveDocker(host: { config: AgentConfig; engine: Engine; cgroup: string; logger: Logger }): Promise<{ close(): Promise<void> }> {
  const { config, engine, logger } = host
  const dataDir = join(config.dataDir, 'docker')
  let opened: Promise<{ api: DockerApi; docker: OpenedDocker }> | undefined
  const open = async () => {
    const [{ openDocker }, { createDockerApi }] = await loadCode()
    const docker = await openDocker({
      engine, instance: config.cluster.instance, bridge: bridgeOf(config), dataDir, runDir: config.runDir, cgroupParent: join(host.cgroup, 'docker'), logger,
    })
    return { docker, api: createDockerApi(docker.backend, { serverVersion: docker.version, logger }) }
  }
  const get = (): Promise<{ api: DockerApi; docker: OpenedDocker }> => {
    opened ??= open().catch((e: unknown) => {
      // The next request tries again.
      opened = undefined
      throw e
    })
    return opened
  }
  const failed = (e: unknown): string => {
    logger.error(`opening Docker's API: ${(e as Error).message}`)
    return JSON.stringify({ message: (e as Error).message }) + '\n'
  }
  if (hasContainers(dataDir)) await get()
  const listener = await listen({
    handle: (req, res) => void get().then(({ api }) => api.handle(req, res), (e: unknown) => {
      res.writeHead(503, { 'Content-Type': 'application/json' }).end(failed(e))
    }),
    upgrade: (req, socket, head) => void get().then(({ api }) => api.upgrade(req, socket, head), (e: unknown) => {
      socket.end(`HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n${failed(e)}`)
    }),
  }, { unix: config.dockerSocket })
  return {
    async close() {
      await listener.close()
      await (await opened?.catch(() => undefined))?.docker.close()
    },
  }
}

/** The machine itself may have a dockerd with the usual name; a host of its own has not. */
function bridgeOf(config: AgentConfig): string { return config.driver === 'local' ? `docker-${config.cluster.instance}` : 'docker0' }

function hasContainers(dataDir: string): boolean {
  try {
    return readdirSync(join(dockerDirs(dataDir).records, 'containers')).length > 0
  } catch {
    return false
  }
}
