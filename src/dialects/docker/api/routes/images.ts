/** Images and registries. */
import { DockerError } from '../../errors.ts'
import type { Call, Handler } from '../call.ts'
import { sendProgress } from '../progress.ts'
import { registryAuth } from '../registry-auth.ts'
import type { Route } from '../router.ts'
import { gate, lowerImageInspect, lowerImages } from '../versions.ts'

const LIST_FILTERS = ['before', 'since', 'dangling', 'label', 'label!', 'reference', 'until']
const PRUNE_FILTERS = ['dangling', 'until', 'label', 'label!']
const SEARCH_FILTERS = ['is-automated', 'is-official', 'stars']
const TAR = 'application/x-tar'

export const imageRoutes: readonly Route<Handler>[] = [
  { method: 'GET', path: '/images/json', handler: list },
  { method: 'GET', path: '/images/search', handler: search },
  { method: 'GET', path: '/images/get', handler: c => save(c, c.query.all('names')) },
  { method: 'POST', path: '/images/create', handler: create },
  { method: 'POST', path: '/images/load', handler: load },
  { method: 'POST', path: '/images/prune', handler: async c => c.sendJson(200, await c.backend.images.prune(c.query.filters(PRUNE_FILTERS))) },
  { method: 'GET', path: '/images/{name}/get', handler: c => save(c, [c.name]) },
  { method: 'GET', path: '/images/{name}/history', handler: async c => c.sendJson(200, await c.backend.images.history(c.name)) },
  { method: 'GET', path: '/images/{name}/json', handler: async c => c.sendJson(200, lowerImageInspect(c.version, await c.backend.images.inspect(c.name))) },
  { method: 'POST', path: '/images/{name}/push', handler: push },
  { method: 'POST', path: '/images/{name}/tag', handler: tag },
  { method: 'DELETE', path: '/images/{name}', handler: remove },
  {
    method: 'GET', path: '/distribution/{name}/json',
    handler: async c => c.sendJson(200, await c.backend.images.distribution(c.name, registryAuth(c.req))),
  },
]

async function list(c: Call): Promise<void> {
  const filters = c.query.filters(LIST_FILTERS)
  const legacy = c.query.optional('filter')
  if (legacy !== undefined) filters['reference'] = [...filters['reference'] ?? [], legacy]
  const images = await c.backend.images.list({
    all: c.query.flag('all'), sharedSize: gate.sharedSize(c.version) && c.query.flag('shared-size'), filters,
  })
  c.sendJson(200, lowerImages(c.version, images))
}

async function search(c: Call): Promise<void> {
  const term = c.query.optional('term')
  if (term === undefined) throw new DockerError('invalid', 'bad parameter: "term" is missing')
  const limit = c.query.integer('limit')
  if (limit !== undefined && limit !== 0 && (limit < 1 || limit > 100)) {
    throw new DockerError('invalid', `limit ${limit} is outside the range of [1, 100]`)
  }
  const auth = registryAuth(c.req)
  c.sendJson(200, await c.backend.images.search(term, {
    filters: c.query.filters(SEARCH_FILTERS), ...(limit ? { limit } : {}), ...(auth !== undefined && { auth }),
  }))
}

async function save(c: Call, names: string[]): Promise<void> {
  // docker-py sends one parameter with commas, the others repeat it.
  const refs = names.flatMap(n => n.split(',')).filter(n => n !== '')
  if (refs.length === 0) throw new DockerError('invalid', 'bad parameter: no image is named')
  const platform = platformOf(c)
  await c.sendStream(TAR, await c.backend.images.save(refs, platform === undefined ? {} : { platform }))
}

/** Since 1.48 clients name a platform in JSON, once or more often: the first counts. */
function platformOf(c: Call): string | undefined {
  const text = gate.imagePlatform(c.version) ? c.query.optional('platform') : undefined
  if (text === undefined || !text.startsWith('{')) return text
  const { os, architecture, variant } = c.query.json('platform') as { os?: string; architecture?: string; variant?: string }
  return [os, architecture, variant].filter(Boolean).join('/')
}

/** Pull or import. */
async function create(c: Call): Promise<void> {
  const { query } = c
  const platform = gate.platform(c.version) ? query.optional('platform') : undefined
  const fromImage = query.optional('fromImage')
  if (fromImage !== undefined) {
    const name = fromImage.replace(/:$/, '')
    const tag = query.optional('tag')
    const reference = tag === undefined ? name : `${name}${tag.includes(':') ? '@' : ':'}${tag}`
    const auth = registryAuth(c.req)
    return sendProgress(c, onMessage => c.backend.images.pull(
      reference, { platform, auth, allTags: tag === undefined && !hasTag(name) }, onMessage, c.gone))
  }
  const from = query.optional('fromSrc')
  if (from === undefined) throw new DockerError('invalid', 'bad parameter: neither fromImage nor fromSrc is given')
  await sendProgress(c, onMessage => c.backend.images.import(from === '-' ? c.body() : from, {
    repo: query.optional('repo'), tag: query.optional('tag'), message: query.optional('message'), changes: query.all('changes'), platform,
  }, onMessage))
}

/** A colon before the last slash belongs to a port. */
function hasTag(reference: string): boolean { return /[:@]/.test(reference.slice(reference.lastIndexOf('/') + 1)) }

async function load(c: Call): Promise<void> {
  const platform = platformOf(c)
  await sendProgress(c, onMessage => c.backend.images.load(c.body(), {
    quiet: c.query.flagOr('quiet', true), ...(platform !== undefined && { platform }),
  }, onMessage), { alwaysStream: true })
}

async function push(c: Call): Promise<void> {
  const auth = registryAuth(c.req)
  const tagged = c.query.optional('tag')
  await sendProgress(c, onMessage => c.backend.images.push(
    c.name, { ...(tagged !== undefined && { tag: tagged }), ...(auth !== undefined && { auth }) }, onMessage, c.gone))
}

async function tag(c: Call): Promise<void> {
  const repo = c.query.optional('repo')
  if (repo === undefined) throw new DockerError('invalid', 'invalid reference format: repository name is empty')
  await c.backend.images.tag(c.name, repo, c.query.optional('tag'))
  c.sendEmpty(201)
}

async function remove(c: Call): Promise<void> {
  c.sendJson(200, await c.backend.images.remove(c.name, { force: c.query.flag('force'), noPrune: c.query.flag('noprune') }))
}
