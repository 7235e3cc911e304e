/** The backend of Docker's API on one machine: opens its parts over the engine, networks and volumes it is given. */
import { mkdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Engine } from '../../../engine/engine.ts'
import { EngineError } from '../../../engine/engine.ts'
import { replaceFileDurably } from '../../../files/replace.ts'
import type { DockerBackend } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { ContainerConfig } from '../model.ts'
import { newId } from '../shared/names.ts'
import { createBuilds } from './builds.ts'
import { openContainers } from './containers/index.ts'
import { Events } from './events.ts'
import { createImages } from './images.ts'
import { createNetworks } from './networks.ts'
import type { ImageFacts, Parts } from './parts.ts'
import { createSystem } from './system.ts'
import { createVolumes } from './volumes.ts'

export interface LocalBackendOptions extends Omit<Parts, 'events'> {
  /** What `docker info` calls this engine; default the machine's name. */
  name?: string
}

/**
 * Resolves when what an earlier process left is found again or cleared; containers whose restart policy wants it are started after that.
 * Engine, networks and volumes stay the caller's. Closing leaves containers running.
 */
export async function openLocalBackend(options: LocalBackendOptions): Promise<{ backend: DockerBackend; close(): Promise<void> }> {
  const { name, ...given } = options
  mkdirSync(given.dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(given.runDir, { recursive: true, mode: 0o711 })
  const events = new Events(join(given.dataDir, 'events.jsonl'))
  await events.open()
  const parts: Parts = { ...given, events }
  const id = await engineId(join(given.dataDir, 'engine-id'))
  // Before containers: what these do is told by them.
  const volumes = createVolumes(parts)
  const containers = await openContainers(parts, imageFacts(given.engine))
  const networks = createNetworks(parts, containers.endpoints)
  const images = createImages(parts, containers.index)
  const builds = createBuilds(parts)
  given.engine.setBuildNetwork({ open: (step, wish) => given.cnm.openBuild(step, wish) })
  const system = createSystem({ parts, containers, images, builds, volumes, id, ...(name === undefined ? {} : { name }) })
  const begun = containers.begin().catch((e: unknown) => { given.logger.error('restart policies', { error: String(e) }) })
  return {
    backend: { containers: containers.backend, execs: containers.execs, images, builds, networks, volumes, system, events },
    close: async () => {
      await containers.close()
      await begun
      await events.close()
    },
  }
}

/** What an image never changes is read once an id. */
function imageFacts(engine: Engine): (reference: string) => Promise<ImageFacts> {
  const known = new Map<string, ImageFacts>()
  return async (reference) => {
    const missing = (): DockerError => new DockerError('not-found', `No such image: ${withTag(reference)}`)
    if (reference === '') throw new DockerError('invalid', 'no image specified')
    const found = await engine.images.find(reference).catch((e: unknown) => {
      if (e instanceof EngineError && e.code === 'invalid') throw new DockerError('invalid', e.message)
      throw e
    })
    if (found === undefined) throw missing()
    const before = known.get(found.id)
    if (before !== undefined) return before
    const details = await engine.images.details(found.id)
    if (details === undefined) throw missing()
    const { config: file, parent = '' } = details
    const facts: ImageFacts = {
      id: found.id, parent, config: (file.config ?? {}) as ContainerConfig, os: file.os ?? 'linux', architecture: file.architecture ?? '',
    }
    known.set(found.id, facts)
    return facts
  }
}

/** Docker names the tag it looked for. */
function withTag(reference: string): string {
  return /@|:[^/]*$/.test(reference) || /^[0-9a-f]{12,64}$/.test(reference) ? reference : `${reference}:latest`
}

/** The same as long as the data lives. */
async function engineId(path: string): Promise<string> {
  const text = (await readFile(path, 'utf8').catch(() => '')).trim()
  if (/^[0-9a-f]{64}$/.test(text)) return text
  const id = newId()
  await replaceFileDurably(path, `${id}\n`)
  return id
}
