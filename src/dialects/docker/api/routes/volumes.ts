/** Volumes. */
import type { StringMap } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import type { Route } from '../router.ts'
import { createVolumeShape } from '../shapes.ts'
import { liftVolumePrune } from '../versions.ts'
import { notManager } from './absent.ts'

const LIST_FILTERS = ['dangling', 'driver', 'label', 'name']
const PRUNE_FILTERS = ['label', 'label!', 'all']

export const volumeRoutes: readonly Route<Handler>[] = [
  { method: 'GET', path: '/volumes', handler: async c => c.sendJson(200, await c.backend.volumes.list(c.query.filters(LIST_FILTERS))) },
  { method: 'POST', path: '/volumes/create', handler: create },
  { method: 'POST', path: '/volumes/prune', handler: prune },
  { method: 'GET', path: '/volumes/{name}', handler: async c => c.sendJson(200, await c.backend.volumes.inspect(c.name)) },
  // Only the volumes of a swarm's cluster can be changed.
  { method: 'PUT', path: '/volumes/{name}', handler: notManager },
  { method: 'DELETE', path: '/volumes/{name}', handler: remove },
]

async function create(c: Call): Promise<void> {
  type Body = { Name?: string; Driver?: string; DriverOpts?: StringMap; Labels?: StringMap }
  c.sendJson(201, await c.backend.volumes.create(await c.json<Body>(createVolumeShape)))
}

async function prune(c: Call): Promise<void> {
  const filters = c.query.filters(PRUNE_FILTERS)
  liftVolumePrune(c.version, filters)
  c.sendJson(200, await c.backend.volumes.prune(filters))
}

async function remove(c: Call): Promise<void> {
  await c.backend.volumes.remove(c.name, c.query.flag('force'))
  c.sendEmpty(204)
}
