/** Networks. */
import { DockerError } from '../../errors.ts'
import type { CreateNetwork, EndpointSettings } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import type { Route } from '../router.ts'
import { connectShape, createNetworkShape, disconnectShape } from '../shapes.ts'
import { liftCreateNetwork, liftEndpoint, lowerNetwork } from '../versions.ts'

const LIST_FILTERS = ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']
const PRUNE_FILTERS = ['until', 'label', 'label!']

export const networkRoutes: readonly Route<Handler>[] = [
  { method: 'GET', path: '/networks', handler: list },
  { method: 'GET', path: '/networks/', handler: list },
  { method: 'POST', path: '/networks/create', handler: create },
  { method: 'POST', path: '/networks/prune', handler: async c => c.sendJson(200, await c.backend.networks.prune(c.query.filters(PRUNE_FILTERS))) },
  { method: 'POST', path: '/networks/{name}/connect', handler: connect },
  { method: 'POST', path: '/networks/{name}/disconnect', handler: disconnect },
  { method: 'GET', path: '/networks/{name}', handler: inspect },
  { method: 'DELETE', path: '/networks/{name}', handler: remove },
]

async function list(c: Call): Promise<void> {
  const found = await c.backend.networks.list(c.query.filters(LIST_FILTERS))
  // Who is in a network is told by its inspection alone.
  c.sendJson(200, found.map(n => lowerNetwork(c.version, { ...n, Containers: {} })))
}

async function inspect(c: Call): Promise<void> {
  const scope = c.query.optional('scope')
  c.sendJson(200, lowerNetwork(c.version, await c.backend.networks.inspect(c.name, scope === undefined ? {} : { scope })))
}

async function create(c: Call): Promise<void> {
  const request = await c.json<CreateNetwork>(createNetworkShape)
  liftCreateNetwork(c.version, request)
  if (!request.Name?.trim()) throw new DockerError('invalid', 'invalid network name: name is empty')
  c.sendJson(201, await c.backend.networks.create(request))
}

async function connect(c: Call): Promise<void> {
  const { Container = '', EndpointConfig = {} } = await c.json<{ Container?: string; EndpointConfig?: EndpointSettings }>(connectShape)
  liftEndpoint(c.version, EndpointConfig)
  await c.backend.networks.connect(c.name, Container, EndpointConfig)
  c.sendEmpty(200)
}

async function disconnect(c: Call): Promise<void> {
  const { Container = '', Force = false } = await c.json<{ Container?: string; Force?: boolean }>(disconnectShape)
  await c.backend.networks.disconnect(c.name, Container, Force)
  c.sendEmpty(200)
}

async function remove(c: Call): Promise<void> {
  await c.backend.networks.remove(c.name)
  c.sendEmpty(204)
}
