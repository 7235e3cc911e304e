/** Images of this machine, as Docker has them. The engine keeps them; here are Docker's names, lines, events and error texts. */
import { Readable } from 'node:stream'
import { http } from '../../../engine/registry/http.ts'
import { RegistryError } from '../../../engine/registry/source.ts'
import { familiar, parseReference } from '../../../engine/images/reference.ts'
import { EngineError } from '../../../engine/engine.ts'
import type { ImageDetails, ImageRemoval, Progress, RegistryAuth } from '../../../engine/engine.ts'
import type { RuntimeConfig } from '../../../engine/images/media-types.ts'
import type { Filters, ImagesBackend, OnMessage } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { AuthConfig, ImageDeletion, ImageSummary, StringMap } from '../model.ts'
import { pruneMatches, untilMs } from '../shared/filters.ts'
import { applyChanges } from './config-changes.ts'
import { booleanFilter, selectImages } from './images/filters.ts'
import { toMessage } from './images/messages.ts'
import { createdMs, historyOf, inspectOf, isDangling, summaryOf } from './images/show.ts'
import type { ContainerIndex, Parts } from './parts.ts'

/** What `GET /system/df` needs besides. */
export interface LocalImages extends ImagesBackend {
  /** `layersBytes`: each layer once. Images with their shared sizes and numbers of containers. */
  diskUsage(): Promise<{ layersBytes: number; images: ImageSummary[] }>
}

const MAX_IMPORT_ADDRESS = 2048

export function createImages({ engine, events }: Parts, containers: ContainerIndex): LocalImages {
  const { images } = engine
  const snapshotter = 'overlayfs'

  const find = async (ref: string, missing = `No such image: ${withTag(ref)}`): Promise<ImageDetails> => {
    // Several images of one prefix are, to Docker, none.
    const found = await images.details(ref).catch((e: unknown) => {
      if (e instanceof EngineError && (e.code === 'invalid' || e.code === 'not-found')) return undefined
      throw e
    })
    if (found === undefined) throw new DockerError('not-found', missing)
    return found
  }
  const emit = (action: string, id: string, name: string, labels?: StringMap | null): void => { events.emit('image', action, id, { ...labels, name }) }
  const labelsOf = (i: ImageDetails | undefined): StringMap | undefined => i?.config.config?.Labels
  const users = (id: string): { id: string; running: boolean }[] => containers.byImage(id)

  async function usage(list: ImageDetails[]): Promise<{ layersBytes: number; shared: Map<string, number> }> {
    const uses = new Map<string, { bytes: number; count: number }>()
    for (const i of list) {
      for (const [n, chain] of i.chainIds.entries()) {
        const layer = uses.get(chain)
        if (layer === undefined) uses.set(chain, { bytes: i.layerBytes[n] ?? 0, count: 1 })
        else layer.count++
      }
    }
    let layersBytes = 0
    for (const l of uses.values()) layersBytes += l.bytes
    const sharedOf = (i: ImageDetails): number => i.chainIds.reduce((sum, c, n) => sum + (uses.get(c)!.count > 1 ? i.layerBytes[n] ?? 0 : 0), 0)
    return { layersBytes, shared: new Map(list.map(i => [i.id, sharedOf(i)])) }
  }

  async function removeOne(ref: string, options: { force: boolean; noPrune: boolean }): Promise<ImageRemoval[]> {
    const image = await find(ref)
    const labels = labelsOf(image)
    // Else what hangs on the layers of containers just removed would stay until the next collection of garbage.
    await engine.containers.cleared()
    const { steps } = await images.remove(ref, { ...options, users }).catch((e: unknown) => { throw plain(e) })
    const whole = new Set(steps.flatMap(s => ('deletedImage' in s ? [s.deletedImage] : [])))
    for (const s of steps) {
      // When it is over nothing is known of an image that went.
      if ('untagged' in s) emit('untag', s.id, s.id, whole.has(s.id) && s.id !== image.id ? undefined : labels)
      else if ('deletedImage' in s) emit('delete', s.deletedImage, s.deletedImage)
    }
    return steps
  }

  async function pullOne(
    reference: string, options: { platform?: string; auth?: AuthConfig }, onMessage: OnMessage, signal: AbortSignal, keepStatus: boolean,
  ): Promise<boolean> {
    let newer = false
    const onProgress = (p: Progress): void => {
      if (p.status.startsWith('Status: ')) {
        newer ||= p.status.includes('Downloaded newer')
        if (!keepStatus) return
      }
      onMessage(toMessage(p))
    }
    try {
      await images.pull(reference, {
        keepReplaced: true, signal, onProgress, ...credentials(options.auth), ...(options.platform ? { platform: options.platform } : {}),
      })
    } catch (e) {
      throw pullError(e, reference)
    }
    return newer
  }

  return {
    async list({ all, sharedSize, filters }) {
      const whole = await images.listDetails()
      const shown = await selectImages(whole, { all, filters }, find)
      const shared = sharedSize ? (await usage(whole)).shared : undefined
      return shown.map(i => summaryOf(i, shared === undefined ? {} : { sharedBytes: shared.get(i.id) ?? 0 }))
    },

    inspect: async ref => inspectOf(await find(ref), snapshotter),

    async history(ref) {
      const image = await find(ref)
      const ancestors: ImageDetails[] = []
      for (let parent = image.parent; parent !== undefined;) {
        const next: ImageDetails | undefined = await images.details(parent)
        if (next === undefined) break
        ancestors.push(next)
        parent = next.parent
      }
      return historyOf(image, ancestors)
    },

    async pull(reference, { allTags, ...options }, onMessage, signal) {
      const parsed = parse(reference)
      const done = async (full: string): Promise<void> => {
        const name = familiar(repository(parsed))
        emit('pull', familiar(full), name, labelsOf(await images.details(full)))
      }
      if (!allTags || hasTag(reference)) {
        await pullOne(reference, options, onMessage, signal, true)
        await done(parsed.digest === undefined ? `${repository(parsed)}:${parsed.tag ?? 'latest'}` : reference)
        return
      }
      const full = repository(parsed)
      const registry = images.registries.reader(parsed.host, parsed.path, credentials(options.auth))
      const tags = await registry.tags(signal).catch((e: unknown) => { throw pullError(e, full) })
      let newer = false
      for (const tag of tags) newer = await pullOne(`${full}:${tag}`, options, onMessage, signal, false) || newer
      onMessage({ status: `Status: ${newer ? 'Downloaded newer image' : 'Image is up to date'} for ${familiar(full)}` })
      await done(full)
    },

    async push(name, { tag, auth }, onMessage, signal) {
      const parsed = parse(tag === undefined || tag === '' ? name : `${name}:${tag}`)
      const full = repository(parsed)
      const all = await images.listDetails()
      const tags = tag === undefined || tag === ''
        ? all.flatMap(i => i.tags).filter(t => t.slice(0, t.lastIndexOf(':')) === full).sort()
        : all.flatMap(i => i.tags).filter(t => t === `${full}:${parsed.tag}`)
      const head = `The push refers to repository [${full}]`
      onMessage({ status: head })
      if (tags.length === 0) throw new DockerError('not-found', `An image does not exist locally with the tag: ${familiar(full)}`)
      for (const t of tags) {
        let pushed
        try {
          pushed = await images.push(t, {
            asDocker: true, signal, ...credentials(auth), onProgress: p => { if (p.status !== head) onMessage(toMessage(p)) },
          })
        } catch (e) {
          throw e instanceof RegistryError ? new DockerError('failed', e.reason === 'no-credentials' ? 'no basic auth credentials' : e.detail) : plain(e)
        }
        onMessage({ progressDetail: {}, aux: { Tag: t.slice(t.lastIndexOf(':') + 1), Digest: pushed.digest, Size: pushed.size } })
        emit('push', familiar(t), familiar(full), labelsOf(await images.details(t)))
      }
    },

    async import(source, { repo, tag, message, changes, platform }, onMessage) {
      const name = repo === undefined || repo === '' ? undefined : tag === undefined || tag === '' ? repo : `${repo}:${tag}`
      if (name !== undefined && parse(name).digest !== undefined) throw new DockerError('invalid', 'cannot import digest reference')
      const config = applyChanges({}, changes) as RuntimeConfig
      const { tar, from } = typeof source === 'string' ? await download(source, onMessage) : { tar: source, from: '-' }
      const comment = message !== undefined && message !== '' ? message : `Imported from ${from}`
      const options = { runtimeConfig: config, comment, keepReplaced: true, ...(platform ? { platform } : {}) }
      const { id } = await images.import(tar, name, {}, options).catch((e: unknown) => { throw plain(e) })
      onMessage({ status: id })
      emit('import', id, id, config.Labels)
    },

    async tag(ref, repo, tag) {
      const image = await find(ref)
      const name = tag === undefined || tag === '' ? repo : `${repo}:${tag}`
      const parsed = parse(name)
      if (parsed.digest !== undefined) throw new DockerError('invalid', 'refusing to create a tag with a digest reference')
      await images.tag(ref, name, { keepReplaced: true }).catch((e: unknown) => { throw plain(e) })
      emit('tag', image.id, familiar(`${repository(parsed)}:${parsed.tag ?? 'latest'}`), labelsOf(image))
    },

    remove: async (ref, options) => (await removeOne(ref, options)).map(toDeletion),

    async prune(filters) {
      const danglingOnly = booleanFilter(filters, 'dangling') ?? true
      const until = untilMs(filters)
      const before = await usage(await images.listDetails())
      const deleted: ImageDeletion[] = []
      for (const i of await images.listDetails()) {
        const used = users(i.id).length > 0 || i.children.length > 0
        if (used || (danglingOnly && !isDangling(i))) continue
        if ((until !== undefined && createdMs(i) > until) || !pruneMatches(filters, labelsOf(i))) continue
        // One that somebody began to use meanwhile stays.
        const names = [...i.tags, ...i.repoDigests].map(familiar)
        for (const ref of names.length === 0 ? [i.id] : names) {
          deleted.push(...(await removeOne(ref, { force: false, noPrune: false }).catch((e: unknown) => {
            if (e instanceof DockerError && (e.kind === 'conflict' || e.kind === 'not-found')) return []
            throw e
          })).map(toDeletion))
        }
      }
      const reclaimed = Math.max(0, before.layersBytes - (await usage(await images.listDetails())).layersBytes)
      events.emit('image', 'prune', '', { reclaimed: String(reclaimed) })
      return { ImagesDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: reclaimed }
    },

    async save(refs) {
      const found = await Promise.all(refs.map(r => find(r, `No such image: ${r}`)))
      const tar = await images.save(refs).catch((e: unknown) => { throw plain(e) })
      for (const i of new Map(found.map(i => [i.id, i])).values()) emit('save', i.id, i.id, labelsOf(i))
      return tar
    },

    async load(tar, { quiet, platform }, onMessage) {
      const onProgress = (p: Progress): void => { if (!quiet || p.stream !== undefined) onMessage(toMessage(p)) }
      const names = await images.load(tar, onProgress, { keepReplaced: true, ...(platform ? { platform } : {}) }).catch((e: unknown) => { throw plain(e) })
      for (const id of new Set(await Promise.all(names.map(async n => (await find(n)).id)))) emit('load', id, id, labelsOf(await images.details(id)))
    },

    async search(term, { limit, filters, auth }) {
      const official = booleanFilter(filters, 'is-official')
      const automated = booleanFilter(filters, 'is-automated')
      const stars = Math.max(0, ...(filters['stars'] ?? []).map(s => {
        if (!/^\d+$/.test(s)) throw new DockerError('invalid', `invalid filter 'stars=[${s}]'`)
        return Number(s)
      }))
      const options = { ...(limit === undefined ? {} : { limit }), ...credentials(auth) }
      const found = await images.registries.search(term, options).catch((e: unknown) => { throw plain(e) })
      return found
        .filter(r => r.stars >= stars && (official === undefined || r.official === official) && (automated === undefined || r.automated === automated))
        .map(r => ({ name: r.name, description: r.description, star_count: r.stars, is_official: r.official, is_automated: r.automated }))
    },

    async distribution(reference, auth) {
      parse(reference)
      const { mediaType, digest, sizeBytes, platforms } = await images.registries.inspect(reference, credentials(auth).auth).catch((e: unknown) => {
        if (!(e instanceof RegistryError) || e.reason === 'no-credentials') throw plain(e)
        throw new DockerError(e.reason === 'unauthorized' ? 'unauthorized' : e.reason === 'denied' ? 'forbidden' : e.code === 'not-found' ? 'not-found' : 'failed', e.detail)
      })
      return {
        Descriptor: { mediaType, digest, size: sizeBytes },
        Platforms: platforms.map(({ architecture, os, variant }) => ({ architecture, os, ...(variant === undefined ? {} : { variant }) })),
      }
    },

    async login(auth) {
      const token = await images.registries.login(auth.serveraddress ?? '', credentials(auth).auth ?? {}).catch((e: unknown) => {
        if (e instanceof RegistryError && e.reason === 'unauthorized') throw new DockerError('unauthorized', e.detail)
        throw e instanceof EngineError && / 401 /.test(e.message) ? new DockerError('unauthorized', e.message) : plain(e)
      })
      return { Status: 'Login Succeeded', IdentityToken: token }
    },

    async diskUsage() {
      const all = await images.listDetails()
      const { layersBytes, shared } = await usage(all)
      const shown = await selectImages(all, { all: false, filters: {} satisfies Filters }, find)
      return { layersBytes, images: shown.map(i => summaryOf(i, { sharedBytes: shared.get(i.id) ?? 0, containers: users(i.id).length })) }
    },
  }
}

/** The engine's failures under the same kinds; its `unavailable` is a registry that cannot be reached, for which Docker says 500. */
function plain(e: unknown): unknown {
  if (!(e instanceof EngineError)) return e
  return new DockerError(e.code === 'unavailable' ? 'failed' : e.code, e.message)
}

/** Why a pull failed, as dockerd tells it. */
function pullError(e: unknown, reference: string): unknown {
  if (!(e instanceof RegistryError)) return plain(e)
  const parsed = parse(reference)
  const name = familiar(repository(parsed))
  switch (e.reason) {
    case 'manifest-unknown': return new DockerError('not-found', `manifest for ${familiar(parsed.digest === undefined ? `${repository(parsed)}:${parsed.tag}` : reference)} not found: ${e.detail}`)
    case 'name-unknown': return new DockerError('not-found', `repository ${name} not found: ${e.detail}`)
    case 'denied': return new DockerError('not-found', `pull access denied for ${name}, repository does not exist or may require 'docker login': ${e.detail}`)
    default: return new DockerError('failed', e.detail)
  }
}

function parse(reference: string): ReturnType<typeof parseReference> {
  try {
    return parseReference(reference)
  } catch (e) {
    const message = (e as Error).message
    throw new DockerError('invalid', message.includes('must be lowercase') ? 'invalid reference format: repository name must be lowercase' : 'invalid reference format')
  }
}

const repository = (r: { host: string; path: string }): string => `${r.host}/${r.path}`

function hasTag(reference: string): boolean {
  return reference.includes('@') || reference.lastIndexOf(':') > reference.lastIndexOf('/')
}

/** As dockerd repeats what it did not find. */
function withTag(ref: string): string {
  if (/^sha256:/.test(ref) || /^[0-9a-f]{64}$/.test(ref)) return ref
  return hasTag(ref) ? ref : `${ref}:latest`
}

function credentials(auth: AuthConfig | undefined): { auth?: RegistryAuth } {
  if (auth === undefined) return {}
  const { username, password, identitytoken, registrytoken } = auth
  if (registrytoken) return { auth: { token: registrytoken } }
  if (identitytoken) return { auth: { identityToken: identitytoken } }
  return username ? { auth: { username, password: password ?? '' } } : {}
}

function toDeletion(s: ImageRemoval): ImageDeletion {
  return 'untagged' in s ? { Untagged: s.untagged } : { Deleted: 'deletedImage' in s ? s.deletedImage : s.deletedLayer }
}

async function download(source: string, onMessage: OnMessage): Promise<{ tar: Readable; from: string }> {
  const text = /^https?:\/\//.test(source) ? source : `http://${source}`
  if (text.length > MAX_IMPORT_ADDRESS || !URL.canParse(text)) throw new DockerError('invalid', `invalid URL "${source.slice(0, 100)}"`)
  const url = new URL(text)
  const answer = await http({ method: 'GET', url }).catch((e: unknown) => { throw plain(e) })
  if (answer.status !== 200) {
    answer.body.destroy()
    throw new DockerError('failed', `failed to GET ${url.href} with status ${answer.status} ${answer.statusText}`)
  }
  onMessage({ status: `Downloading from ${url.href}` })
  const totalBytes = Number(answer.headers['content-length'] ?? 0)
  const id = 'Importing'
  return {
    from: source,
    tar: Readable.from(async function* () {
      let currentBytes = 0
      let said = 0
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        currentBytes += chunk.length
        if (Date.now() - said > 100) {
          said = Date.now()
          onMessage(toMessage({ id, status: 'Importing', currentBytes, totalBytes }))
        }
        yield chunk
      }
    }(), { objectMode: false }),
  }
}
