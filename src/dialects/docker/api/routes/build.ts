/** Builds. */
import type { BuildRequest } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import type { Ulimit } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import { sendProgress } from '../progress.ts'
import { registryConfig } from '../registry-auth.ts'
import type { Route } from '../router.ts'
import { list, map, text, ulimitsShape } from '../shapes.ts'
import { gate, lowerBuildMessage } from '../versions.ts'

const PRUNE_FILTERS = ['id', 'parent', 'type', 'description', 'inuse', 'shared', 'private', 'until', 'unused-for', 'label', 'label!']
/** Asks for BuildKit, which needs a session. */
const BUILDKIT = '2'
const strings = list(text)
const stringMap = map(text)

export const buildRoutes: readonly Route<Handler>[] = [
  { method: 'POST', path: '/build', handler: build },
  { method: 'POST', path: '/build/prune', handler: prune },
  { method: 'POST', path: '/build/cancel', handler: cancel },
]

async function build(c: Call): Promise<void> {
  const request = buildRequest(c)
  await sendProgress(c, onMessage => c.backend.builds.build(request, onMessage, c.gone), { lower: m => lowerBuildMessage(c.version, m) })
}

function buildRequest(c: Call): BuildRequest {
  const { query } = c
  if (query.text('version') === BUILDKIT) {
    throw new DockerError('invalid', 'this daemon builds without BuildKit sessions: set DOCKER_BUILDKIT=0')
  }
  const remote = query.optional('remote')
  const json = <T>(key: string, shape: (v: unknown, path: string) => unknown, otherwise: T): T => {
    const value = query.json(key)
    return value === undefined || value === null ? otherwise : shape(value, key) as T
  }
  const positive = (key: string): number | undefined => query.lenientInteger(key) || undefined
  return {
    ...(remote === undefined ? { context: c.body() } : { remote }),
    dockerfile: query.optional('dockerfile'), tags: query.all('t').filter(t => t !== ''), quiet: query.flag('q'), noCache: query.flag('nocache'),
    // Clients before 1.12 of the API meant "keep" by leaving it out; all later ones mean "remove".
    removeIntermediate: query.flagOr('rm', true), forceRemove: query.flag('forcerm'), pull: query.flag('pull'), target: query.optional('target'),
    platform: gate.platform(c.version) ? query.optional('platform') : undefined,
    buildArgs: json<Record<string, string | null>>('buildargs', stringMap, {}),
    labels: json<Record<string, string>>('labels', stringMap, {}), cacheFrom: json<string[]>('cachefrom', strings, []),
    extraHosts: query.all('extrahosts').flatMap(h => h.split(',')).filter(h => h !== ''), networkMode: query.optional('networkmode'),
    shmSizeBytes: positive('shmsize'), ulimits: json<Ulimit[]>('ulimits', ulimitsShape, []), cgroupParent: query.optional('cgroupparent'),
    memoryBytes: positive('memory'), memorySwapBytes: positive('memswap'), cpuShares: positive('cpushares'), cpuPeriodUs: positive('cpuperiod'),
    cpuQuotaUs: positive('cpuquota'), cpusetCpus: query.optional('cpusetcpus'), cpusetMems: query.optional('cpusetmems'),
    squash: query.flag('squash'), auths: registryConfig(c.req),
  }
}

async function prune(c: Call): Promise<void> {
  const { query } = c
  const named = gate.keepBytesNames(c.version) ? query.integer('reserved-space') : undefined
  const keepBytes = named ?? query.integer('keep-storage')
  c.sendJson(200, await c.backend.builds.prune({
    all: query.flag('all'), filters: query.filters(PRUNE_FILTERS), ...(keepBytes !== undefined && { keepBytes }),
  }))
}

/** Only BuildKit's builds have ids; others end with their connection. */
function cancel(c: Call): void {
  const id = c.query.optional('id')
  if (id === undefined) throw new DockerError('invalid', 'build ID not provided')
  throw new DockerError('not-found', `no build with ID ${id}: builds of this daemon end when their client disconnects`)
}
