/** Opens the engine of one machine: `openEngine(options)`. */
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createBuilder } from './build/index.ts'
import { Code, connectContainerd, hasCode } from './containerd/index.ts'
import type { ContainerdClient } from './containerd/index.ts'
import { EventHub } from './containers/events.ts'
import { Containers } from './containers/service.ts'
import type { ResolvedImage } from './containers/service.ts'
import { EngineError } from './engine.ts'
import type { BuildNetwork, Engine, EngineOptions } from './engine.ts'
import { commitImage } from './filesystem/commit.ts'
import { createImageService } from './images/index.ts'
import type { EngineImages } from './images/index.ts'

export * from './engine.ts'
export { supportedResources } from './containers/oci-resources.ts'
export type { SupportedResources } from './containers/oci-resources.ts'

/** How long an engine waits for its containerd to come up. */
const CONTAINERD_MS = 30_000

/** For the compile cache: what is else loaded when it is first used. */
export async function loadLater(): Promise<void> { await import('./build/stages.ts') }

/**
 * Connects to containerd, brings records and tasks together, and resolves when `containers.list()` is the truth. Rejects with
 * `unavailable` if containerd does not answer within 30 s.
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const { dataDir, runDir, containerdSocket, loggerSocket, namespace = 'gantry', cgroupRoot = '/gantry' } = options
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(runDir, { recursive: true, mode: 0o711 })
  const client = connectContainerd({ socket: containerdSocket, namespace })
  try {
    await client.ready(CONTAINERD_MS)
  } catch {
    client.close()
    throw new EngineError('unavailable', `containerd does not answer on ${containerdSocket}; is it running?`)
  }
  await client.namespaces.create(namespace).catch((e: unknown) => { if (!hasCode(e, Code.alreadyExists)) throw e })
  const snapshotter = await chooseSnapshotter(client)
  const events = new EventHub()
  // eslint-disable-next-line prefer-const -- the containers ask for it before it is made
  let images: EngineImages | undefined
  const containers = new Containers({
    client, dataDir, runDir, containerdSocket, loggerSocket, snapshotter, cgroupRoot, events, resolveImage: (reference) => resolve(images, reference),
    commit: (imageId, containerId, layer, o) => {
      if (images === undefined) throw new EngineError('unavailable', 'the engine is starting')
      return commitImage(images.context, imageId, containerId, layer, o)
    },
  })
  await containers.open()
  const users = (): ReturnType<Containers['imageUsers']> => containers.imageUsers()
  images = await createImageService({
    containerd: client, snapshotter, dataDir: join(dataDir, 'images'), users, ...(options.registries === undefined ? {} : { registries: options.registries }),
  })
  let network: BuildNetwork | undefined
  const builder = await createBuilder({
    images, dataDir: join(dataDir, 'build'), runStep: (step) => containers.runStep(step), network: () => network,
  })
  const opened = images
  return {
    containers,
    images: opened,
    builder,
    onEvent: (handler) => events.subscribe(handler),
    setBuildNetwork: (n) => { network = n },
    version: async () => ({ containerd: (await client.version()).version, runc: await runcVersion() }),
    close: () => {
      containers.close()
      opened.close()
      client.close()
      return Promise.resolve()
    },
  }
}

async function resolve(images: EngineImages | undefined, reference: string): Promise<ResolvedImage> {
  if (images === undefined) throw new EngineError('unavailable', 'the engine is starting')
  const { id, chainId, config } = await images.resolve(reference)
  const c = config.config ?? {}
  return {
    id, chainId,
    config: {
      entrypoint: c.Entrypoint ?? [], cmd: c.Cmd ?? [], env: c.Env ?? [], workingDir: c.WorkingDir ?? '', user: c.User ?? '',
      ...(c.StopSignal === undefined || c.StopSignal === '' ? {} : { stopSignal: c.StopSignal }),
    },
  }
}

/** overlayfs, or plain copies where the file system below cannot carry it. */
async function chooseSnapshotter(client: ContainerdClient): Promise<string> {
  const usable = (await client.introspection.plugins(['type==io.containerd.snapshotter.v1'])).filter((p) => p.initErr === null)
  const found = ['overlayfs', 'native'].find((name) => usable.some((p) => p.id === name))
  if (found === undefined) throw new EngineError('unavailable', 'containerd offers neither the overlayfs nor the native snapshotter')
  return found
}

async function runcVersion(): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('runc', ['--version'])
    return /version (\S+)/.exec(stdout)?.[1] ?? stdout.trim()
  } catch (e) {
    throw new EngineError('unavailable', `runc cannot be run: ${(e as Error).message}`)
  }
}
