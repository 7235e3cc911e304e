/** What this daemon does not have, answered as a dockerd that does not use it answers: swarm mode, managed plugins, checkpoints. */
import { DockerError } from '../../errors.ts'
import type { Call, Handler } from '../call.ts'
import type { Route } from '../router.ts'

const SWARM_PATHS: readonly [string, string][] = [
  ['POST', '/swarm/init'], ['POST', '/swarm/join'], ['GET', '/swarm'], ['GET', '/swarm/unlockkey'], ['POST', '/swarm/update'],
  ['POST', '/swarm/unlock'],
  ['GET', '/services'], ['GET', '/services/{name}/logs'], ['GET', '/services/{name}'], ['POST', '/services/create'],
  ['POST', '/services/{name}/update'], ['DELETE', '/services/{name}'],
  ['GET', '/nodes'], ['GET', '/nodes/{name}'], ['DELETE', '/nodes/{name}'], ['POST', '/nodes/{name}/update'],
  ['GET', '/tasks'], ['GET', '/tasks/{name}/logs'], ['GET', '/tasks/{name}'],
  ['GET', '/secrets'], ['POST', '/secrets/create'], ['DELETE', '/secrets/{name}'], ['GET', '/secrets/{name}'], ['POST', '/secrets/{name}/update'],
  ['GET', '/configs'], ['POST', '/configs/create'], ['DELETE', '/configs/{name}'], ['GET', '/configs/{name}'], ['POST', '/configs/{name}/update'],
]
const PLUGIN_PATHS: readonly [string, string][] = [
  ['GET', '/plugins/privileges'], ['POST', '/plugins/pull'], ['POST', '/plugins/create'],
]
const CHECKPOINT_PATHS: readonly [string, string][] = [
  ['GET', '/containers/{name}/checkpoints'], ['POST', '/containers/{name}/checkpoints'], ['DELETE', '/containers/{name}/checkpoints/{checkpoint}'],
]
const on = (paths: readonly [string, string][], handler: Handler): Route<Handler>[] => paths.map(([method, path]) => ({ method, path, handler }))

export function notManager(): never {
  throw new DockerError('unavailable', 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    + 'to connect this node to swarm and try again.')
}

function noPlugins(): never {
  throw new DockerError('not-implemented', 'managed plugins are not supported: run the plugin with its socket in /run/docker/plugins')
}

function noCheckpoints(): never {
  throw new DockerError('not-implemented', 'checkpoints are not supported by this daemon')
}

function unknownPlugin(c: Call): never { throw new DockerError('not-found', `plugin "${c.name}" not found`) }

export const absentRoutes: readonly Route<Handler>[] = [
  ...on(SWARM_PATHS, notManager),
  {
    method: 'POST', path: '/swarm/leave', handler() {
      throw new DockerError('unavailable', 'This node is not part of a swarm')
    },
  },
  { method: 'GET', path: '/plugins', handler: c => c.sendJson(200, []) },
  ...on(PLUGIN_PATHS, noPlugins),
  ...on([
    ['GET', '/plugins/{name}/json'], ['POST', '/plugins/{name}/enable'], ['POST', '/plugins/{name}/disable'], ['POST', '/plugins/{name}/push'],
    ['POST', '/plugins/{name}/upgrade'], ['POST', '/plugins/{name}/set'], ['DELETE', '/plugins/{name}'],
  ], unknownPlugin),
  ...on(CHECKPOINT_PATHS, noCheckpoints),
]
