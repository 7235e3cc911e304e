/** The daemon itself: ping, version, info, disk usage, events, login. */
import { DockerError } from '../../errors.ts'
import type { AuthConfig } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import type { Route } from '../router.ts'
import { authShape } from '../shapes.ts'
import { MAX_MINOR, MIN_MINOR, versionText } from '../version-number.ts'
import { gate, lowerDiskUsage, lowerInfo } from '../versions.ts'

/** With `2` docker CLI 20.10 would open a BuildKit session. */
const BUILDER_VERSION = '1'
const DISK_USAGE_TYPES = ['container', 'image', 'volume', 'build-cache'] as const
type DiskUsageType = typeof DISK_USAGE_TYPES[number]

export const systemRoutes: readonly Route<Handler>[] = [
  { method: 'GET', path: '/_ping', handler: ping },
  { method: 'HEAD', path: '/_ping', handler: ping },
  { method: 'GET', path: '/version', handler: version },
  { method: 'GET', path: '/info', handler: async c => c.sendJson(200, lowerInfo(c.version, await c.backend.system.info())) },
  { method: 'GET', path: '/events', handler: events },
  { method: 'GET', path: '/system/df', handler: diskUsage },
  {
    method: 'POST', path: '/auth',
    handler: async c => c.sendJson(200, await c.backend.images.login(await c.json<AuthConfig>(authShape))),
  },
]

function ping(c: Call): void {
  c.res.setHeader('Builder-Version', BUILDER_VERSION)
  c.res.setHeader('Swarm', 'inactive')
  c.res.setHeader('Cache-Control', 'no-cache, no-store, must-revalidate')
  c.res.setHeader('Pragma', 'no-cache')
  c.sendText(200, c.req.method === 'HEAD' ? '' : 'OK')
}

async function version(c: Call): Promise<void> {
  const spoken = { ApiVersion: versionText(MAX_MINOR), MinAPIVersion: versionText(MIN_MINOR) }
  const found = await c.backend.system.version()
  const components = (found['Components'] ?? []) as { Name: string; Details?: Record<string, string> }[]
  c.sendJson(200, {
    ...found, ...spoken,
    Components: components.map(x => x.Name === 'Engine' ? { ...x, Details: { ...x.Details, ...spoken } } : x),
  })
}

async function events(c: Call): Promise<void> {
  const sinceNs = c.query.timeNs('since')
  const untilNs = c.query.timeNs('until')
  if (sinceNs !== undefined && untilNs !== undefined && sinceNs > untilNs) {
    throw new DockerError('invalid', `\`since\` time (${c.query.text('since')}) cannot be after \`until\` time (${c.query.text('until')})`)
  }
  const stream = c.backend.events.subscribe({ sinceNs, untilNs, filters: c.query.filters() }, c.gone)
  c.begin('application/json')
  for await (const event of stream) {
    await c.sendLine(event)
    if (c.gone.aborted) return
  }
  c.res.end()
}

async function diskUsage(c: Call): Promise<void> {
  const asked = gate.diskUsageTypes(c.version) ? c.query.all('type') : []
  const wrong = asked.find(t => !DISK_USAGE_TYPES.includes(t as DiskUsageType))
  if (wrong !== undefined) throw new DockerError('invalid', `unknown object type: ${wrong}`)
  c.sendJson(200, lowerDiskUsage(c.version, await c.backend.system.diskUsage(asked as DiskUsageType[])))
}
