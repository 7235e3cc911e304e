/** `docker build` on this machine's builder. */
import type { Readable } from 'node:stream'
import { parseDuration } from '../../../engine/build/instructions.ts'
import { EngineError } from '../../../engine/engine.ts'
import type { BuildOptions, Engine, Progress, Resources } from '../../../engine/engine.ts'
import type { BuildRequest, BuildsBackend } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { DockerErrorKind } from '../errors.ts'
import type { AuthConfig, BuildCacheRecord, JsonMessage } from '../model.ts'
import type { EventSink } from './parts.ts'
import { openRemote } from './remote-context.ts'

/** What `docker login` writes for Docker Hub, and the host that references of it name. */
const HUB = { config: 'https://index.docker.io/v1/', host: 'docker.io' }

export function createBuilds({ engine, events }: { engine: Engine; events: EventSink }): BuildsBackend {
  const { builder } = engine
  return {
    async build(request, onMessage, signal) {
      if (request.squash) throw new DockerError('invalid', 'squash is only supported with experimental mode')
      const remote = request.remote === undefined ? undefined : await openRemote(request.remote, signal)
      const context = remote?.context ?? request.context
      if (context === undefined) throw new DockerError('invalid', 'a build needs a context: a tar as the request\'s body, or remote')
      /** What a quiet build would have said: told if it fails. */
      const unsaid: JsonMessage[] = []
      const say = request.quiet ? (m: JsonMessage) => { unsaid.push(m) } : onMessage
      try {
        const options = toOptions(request, context, remote?.dockerfile ?? request.dockerfile)
        const image = await builder.build({ ...options, signal, onProgress: p => say(toMessage(p)) })
        if (request.quiet) onMessage({ stream: `${image.id}\n` })
        for (const t of request.tags) events.emit('image', 'tag', image.id, { name: t })
      } catch (e) {
        for (const m of unsaid) onMessage(m)
        throw toDockerError(e)
      } finally {
        await remote?.close()
      }
    },

    async prune({ all, filters, keepBytes }) {
      const until = filters['until']?.[0]
      const limits = {
        ...(until === undefined ? {} : { olderThanMs: Date.now() - durationMs(until) }), ...(keepBytes === undefined || keepBytes === 0 ? {} : { keepBytes }),
      }
      // Every step is of an image or of none: there are no others to spare without `all`.
      const { ids, bytes } = await builder.prune(all || Object.keys(limits).length === 0 ? {} : limits)
      events.emit('builder', 'prune', '', { reclaimed: String(bytes) })
      return { CachesDeleted: ids, SpaceReclaimed: bytes }
    },

    async cache() {
      return (await builder.cache()).map((e): BuildCacheRecord => ({
        ID: e.id, Type: e.description.includes('type=cache') ? 'exec.cachemount' : 'regular', Description: e.description, InUse: e.inUse, Shared: false,
        Size: e.sizeBytes, CreatedAt: new Date(e.createdAtMs).toISOString(), LastUsedAt: new Date(e.usedAtMs).toISOString(), UsageCount: 1,
      }))
    },
  }
}

function toOptions(r: BuildRequest, context: Readable, dockerfile: string | undefined): BuildOptions {
  const resources: Resources = {
    ...(r.memoryBytes ? { memoryBytes: r.memoryBytes } : {}), ...(r.memorySwapBytes ? { memorySwapBytes: r.memorySwapBytes } : {}),
    ...(r.cpuShares ? { cpuShares: r.cpuShares } : {}), ...(r.cpuPeriodUs ? { cpuPeriodUs: r.cpuPeriodUs } : {}),
    ...(r.cpuQuotaUs ? { cpuQuotaUs: r.cpuQuotaUs } : {}),
    ...(r.cpusetCpus ? { cpusetCpus: r.cpusetCpus } : {}), ...(r.cpusetMems ? { cpusetMems: r.cpusetMems } : {}),
  }
  return {
    context, tags: r.tags, keepReplaced: true,
    buildArgs: r.buildArgs, labels: r.labels, noCache: r.noCache, pull: r.pull, cacheFrom: r.cacheFrom, extraHosts: r.extraHosts,
    auths: Object.fromEntries(Object.entries(r.auths).map(([host, auth]) => [registryHost(host), toAuth(auth)])),
    limits: {
      resources, ulimits: r.ulimits.map(u => ({ name: u.Name, soft: u.Soft, hard: u.Hard })),
      ...(r.shmSizeBytes ? { shmSizeBytes: r.shmSizeBytes } : {}), ...(r.cgroupParent ? { cgroupParent: r.cgroupParent } : {}),
    },
    ...(dockerfile === undefined || dockerfile === 'Dockerfile' ? {} : { dockerfile }), ...(r.target ? { target: r.target } : {}),
    ...(r.platform ? { platform: r.platform } : {}), ...(r.networkMode ? { network: r.networkMode } : {}),
  }
}

function registryHost(key: string): string {
  return key === HUB.config ? HUB.host : key.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
}

function toAuth(a: AuthConfig): { username?: string; password?: string; token?: string } {
  const token = a.registrytoken ?? a.identitytoken
  return {
    ...(a.username === undefined ? {} : { username: a.username }), ...(a.password === undefined ? {} : { password: a.password }), ...(token ? { token } : {}),
  }
}

function toMessage(p: Progress): JsonMessage {
  if (p.imageId !== undefined) return { aux: { ID: p.imageId } }
  // dockerd shows what came from stderr in red, whoever looks at it.
  if (p.stream !== undefined) return { stream: p.stderr === true ? `\x1b[91m${p.stream}\x1b[0m` : p.stream }
  const progressDetail = p.currentBytes === undefined ? undefined : { current: p.currentBytes, ...(p.totalBytes === undefined ? {} : { total: p.totalBytes }) }
  return { status: p.status, ...(p.id === undefined ? {} : { id: p.id }), ...(progressDetail && { progressDetail }) }
}

const KINDS: Record<EngineError['code'], DockerErrorKind> = {
  'not-found': 'not-found', conflict: 'conflict', invalid: 'invalid', unavailable: 'unavailable', failed: 'failed',
}

/** A step's exit code goes into the stream beside the message: its error stays as it is. */
function toDockerError(e: unknown): unknown {
  return e instanceof EngineError && !('exitCode' in e) ? new DockerError(KINDS[e.code], e.message) : e
}

/** Go's durations, as `--filter until=24h` has them. */
function durationMs(text: string): number {
  const ns = parseDuration(text)
  if (ns === undefined) throw new DockerError('invalid', `invalid filter 'until=${text}': a duration such as 24h is wanted`)
  return ns / 1e6
}
