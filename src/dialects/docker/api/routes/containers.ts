/** Containers: making, listing, changing, ending. */
import { DockerError } from '../../errors.ts'
import type { WaitCondition } from '../../backend.ts'
import type { ContainerConfig, CreateContainer, EndpointSettings, HostConfig, HostResources, RestartPolicy } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import { streamType } from '../hijack.ts'
import type { Query } from '../query.ts'
import type { Route } from '../router.ts'
import { configShape, createShape, updateShape } from '../shapes.ts'
import { gate, liftCreate, liftUpdate, lowerInspect, lowerSummaries } from '../versions.ts'
import { StreamNumber, frame } from '../../frames.ts'

const LIST_FILTERS = [
  'ancestor', 'before', 'since', 'exited', 'expose', 'publish', 'health', 'id', 'isolation', 'is-task', 'label', 'name', 'network', 'status', 'volume',
]
const PRUNE_FILTERS = ['until', 'label', 'label!']
const WAIT_CONDITIONS: readonly WaitCondition[] = ['not-running', 'next-exit', 'removed']
/** Old clients send an empty object. */
const MAX_START_BODY_BYTES = 7
const MAX_UINT32 = 2 ** 32 - 1

export const containerRoutes: readonly Route<Handler>[] = [
  { method: 'GET', path: '/containers/json', handler: list },
  { method: 'POST', path: '/containers/create', handler: create },
  { method: 'POST', path: '/containers/prune', handler: async c => c.sendJson(200, await c.backend.containers.prune(c.query.filters(PRUNE_FILTERS))) },
  { method: 'GET', path: '/containers/{name}/json', handler: inspect },
  { method: 'GET', path: '/containers/{name}/top', handler: async c => c.sendJson(200, await c.backend.containers.top(c.name, c.query.text('ps_args') || '-ef')) },
  { method: 'GET', path: '/containers/{name}/changes', handler: async c => c.sendJson(200, await c.backend.containers.changes(c.name)) },
  { method: 'GET', path: '/containers/{name}/logs', handler: logs },
  { method: 'GET', path: '/containers/{name}/stats', handler: stats },
  { method: 'POST', path: '/containers/{name}/start', handler: start },
  { method: 'POST', path: '/containers/{name}/stop', handler: c => ended(c, 'stop') },
  { method: 'POST', path: '/containers/{name}/restart', handler: c => ended(c, 'restart') },
  { method: 'POST', path: '/containers/{name}/kill', handler: c => done(c, c.backend.containers.kill(c.name, c.query.optional('signal'))) },
  { method: 'POST', path: '/containers/{name}/pause', handler: c => done(c, c.backend.containers.pause(c.name)) },
  { method: 'POST', path: '/containers/{name}/unpause', handler: c => done(c, c.backend.containers.unpause(c.name)) },
  { method: 'POST', path: '/containers/{name}/rename', handler: rename },
  { method: 'POST', path: '/containers/{name}/update', handler: update },
  { method: 'POST', path: '/containers/{name}/wait', handler: wait },
  { method: 'POST', path: '/containers/{name}/resize', handler: resize },
  { method: 'DELETE', path: '/containers/{name}', handler: remove },
  { method: 'POST', path: '/commit', handler: commit },
]

async function done(c: Call, work: Promise<void>): Promise<void> {
  await work
  c.sendEmpty(204)
}

async function list(c: Call): Promise<void> {
  const filters = c.query.filters(LIST_FILTERS)
  for (const key of ['since', 'before']) {
    const legacy = c.query.optional(key)
    if (legacy !== undefined) filters[key] = [...filters[key] ?? [], legacy]
  }
  const limit = c.query.integer('limit')
  const found = await c.backend.containers.list({
    all: c.query.flag('all'), size: c.query.flag('size'), filters, ...(limit !== undefined && limit > 0 && { limit }),
  })
  c.sendJson(200, lowerSummaries(c.version, found))
}

interface CreateBody extends ContainerConfig {
  HostConfig?: HostConfig
  NetworkingConfig?: { EndpointsConfig?: Record<string, EndpointSettings | null> }
}

async function create(c: Call): Promise<void> {
  const { HostConfig: hostConfig = {}, NetworkingConfig, ...config } = await c.json<CreateBody>(createShape)
  if (Object.keys(config).length === 0) throw new DockerError('invalid', 'config cannot be empty in order to create a container')
  const endpoints = Object.fromEntries(Object.entries(NetworkingConfig?.EndpointsConfig ?? {}).map(([name, e]) => [name, e ?? {}]))
  const request: CreateContainer = { config, hostConfig, endpoints }
  const name = c.query.optional('name')?.replace(/^\//, '')
  if (name !== undefined) request.name = name
  const platform = gate.createPlatform(c.version) ? c.query.optional('platform') : undefined
  if (platform !== undefined) request.platform = platform
  const warnings = liftCreate(c.version, request)
  const made = await c.backend.containers.create(request)
  c.sendJson(201, { Id: made.Id, Warnings: [...warnings, ...made.Warnings] })
}

async function inspect(c: Call): Promise<void> {
  c.sendJson(200, lowerInspect(c.version, await c.backend.containers.inspect(c.name, { size: c.query.flag('size') })))
}

async function start(c: Call): Promise<void> {
  const length = Number(c.req.headers['content-length'] ?? 0)
  if (c.req.headers['transfer-encoding'] !== undefined || length > MAX_START_BODY_BYTES) {
    throw new DockerError('invalid', 'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24')
  }
  if (c.query.has('checkpoint')) throw new DockerError('invalid', 'checkpoint is only supported in experimental mode')
  await done(c, c.backend.containers.start(c.name))
}

async function ended(c: Call, how: 'stop' | 'restart'): Promise<void> {
  const timeoutS = c.query.integer('t')
  const signal = gate.stopSignal(c.version) ? c.query.optional('signal') : undefined
  await done(c, c.backend.containers[how](c.name, { ...(timeoutS !== undefined && { timeoutS }), ...(signal !== undefined && { signal }) }))
}

async function rename(c: Call): Promise<void> {
  await done(c, c.backend.containers.rename(c.name, c.query.text('name').replace(/^\//, '')))
}

async function update(c: Call): Promise<void> {
  const changes = await c.json<HostResources & { RestartPolicy?: RestartPolicy }>(updateShape)
  liftUpdate(c.version, changes)
  c.sendJson(200, await c.backend.containers.update(c.name, changes))
}

/** Clients go on when they see the header, for the wait has begun then. */
async function wait(c: Call): Promise<void> {
  const text = c.query.text('condition') || 'not-running'
  const condition = WAIT_CONDITIONS.find(w => w === text)
  if (condition === undefined) throw new DockerError('invalid', `invalid condition: "${text}"`)
  const atOnce = gate.waitAnswersAtOnce(c.version)
  const { result } = await c.backend.containers.wait(c.name, atOnce ? condition : 'not-running', c.gone)
  if (atOnce) c.begin('application/json')
  const { StatusCode, Error } = await result
  if (!atOnce) return c.sendJson(200, { StatusCode })
  c.res.end(JSON.stringify({ StatusCode, ...(Error !== undefined && { Error }) }) + '\n')
}

export function sizeOf(query: Query): { height: number; width: number } {
  const read = (key: string, what: string): number => {
    const n = query.integer(key, { min: 0, max: MAX_UINT32 })
    if (n === undefined) throw new DockerError('invalid', `invalid resize ${what} "": value is missing`)
    return n
  }
  return { height: read('h', 'height'), width: read('w', 'width') }
}

async function resize(c: Call): Promise<void> {
  await c.backend.containers.resize(c.name, sizeOf(c.query))
  c.sendEmpty(200)
}

async function remove(c: Call): Promise<void> {
  const { query } = c
  await done(c, c.backend.containers.remove(c.name, { volumes: query.flag('v'), force: query.flag('force'), link: query.flag('link') }))
}

async function logs(c: Call): Promise<void> {
  const { query } = c
  const stdout = query.flag('stdout')
  const stderr = query.flag('stderr')
  if (!stdout && !stderr) throw new DockerError('invalid', 'Bad parameters: you must choose at least one stream')
  // Anything but a number means all.
  const tail = /^\d+$/.test(query.text('tail')) ? Number(query.text('tail')) : undefined
  const sinceNs = query.timeNs('since')
  const untilNs = query.timeNs('until')
  const { tty, output } = await c.backend.containers.logs(c.name, {
    follow: query.flag('follow'), stdout, stderr, timestamps: query.flag('timestamps'), details: query.flag('details'),
    ...(tail !== undefined && { tail }), ...(sinceNs !== undefined && { sinceNs }), ...(untilNs !== undefined && { untilNs }),
  })
  c.begin(streamType(c, tty))
  c.gone.addEventListener('abort', () => output.destroy(), { once: true })
  if (c.gone.aborted) output.destroy()
  output.pipe(c.res, { end: false })
  await new Promise<void>(resolve => {
    output.once('end', resolve)
    output.once('close', resolve)
    output.once('error', (e: Error) => {
      const text = Buffer.from(`Error grabbing logs: ${e.message}\n`)
      c.res.write(tty ? text : frame(StreamNumber.system, text))
      resolve()
    })
  })
  c.res.end()
}

async function stats(c: Call): Promise<void> {
  const stream = c.query.flagOr('stream', true)
  const oneShot = gate.oneShotStats(c.version) && c.query.flag('one-shot')
  if (stream && oneShot) throw new DockerError('invalid', 'cannot have stream=true and one-shot=true')
  const samples = (await c.backend.containers.stats(c.name, { stream, oneShot }))[Symbol.asyncIterator]()
  // Between samples nothing is written: only its end tells that the client has gone.
  const end = (): void => { void samples.return?.() }
  c.gone.addEventListener('abort', end, { once: true })
  c.begin('application/json')
  for (let next = await samples.next(); next.done !== true && !c.gone.aborted; next = await samples.next()) await c.sendLine(next.value)
  c.res.end()
}

async function commit(c: Call): Promise<void> {
  const { query } = c
  const container = query.optional('container')
  if (container === undefined) throw new DockerError('invalid', 'bad parameter: "container" is missing')
  const config = c.hasBody ? await c.json<ContainerConfig>(configShape) : undefined
  c.sendJson(201, await c.backend.containers.commit(container, {
    repo: query.optional('repo'), tag: query.optional('tag'), comment: query.optional('comment'), author: query.optional('author'),
    pause: query.flagOr('pause', true), changes: query.all('changes').flatMap(text => text.split('\n')).filter(line => line.trim() !== ''),
    ...(config !== undefined && Object.keys(config).length > 0 && { config }),
  }))
}
