/**
 * What the Docker API (`api/`) asks of whoever has the containers. Two backends: this machine's engine (`local/`), and later the
 * whole cluster. Nothing here says where a container is; all that flows is bytes or plain objects.
 *
 * All methods reject with a DockerError whose message is the one docker's users know. `ref` is what a user typed: a full id, a name, or a
 * unique prefix of an id. Long work takes an AbortSignal: the client has gone.
 */
import type { Readable, Writable } from 'node:stream'
import type {
  AuthConfig, BuildCacheRecord, ContainerConfig, ContainerInspect, ContainerSummary, CreateContainer, CreateNetwork, DiskUsage, EndpointSettings,
  EventMessage, ExecConfig, ExecInspect, FilesystemChange, HistoryItem, HostResources, ImageDeletion, ImageInspect, ImageSummary, JsonMessage,
  NetworkInspect, PathStat, RestartPolicy, Stats, StringMap, Ulimit, Volume,
} from './model.ts'

/** Decoded `filters`: key → values. The front has refused unknown keys (`invalid filter '…'`). `label!` is a key of its own. */
export type Filters = Record<string, string[]>

export type OnMessage = (message: JsonMessage) => void

/**
 * Streams of an attach or exec. `output` carries Docker's frames (8 byte header: stream number, three zeros, big-endian length), or plain
 * bytes (an attach to a `tty`, an exec started `raw`): see `frames.ts`. It ends when the process has closed its output, or after `close()`.
 */
export interface Streams {
  tty: boolean
  output: Readable
  /** Undefined if there is none to attach. Ending it closes the process's stdin where Docker does so. */
  input?: Writable
  /** Lets go of the process and leaves it running; `detached` says that the user typed the detach keys. */
  close(detached?: boolean): void
}

export interface LogsOptions {
  follow: boolean
  stdout: boolean
  stderr: boolean
  /** Unix time in nanoseconds. */
  sinceNs?: bigint
  untilNs?: bigint
  timestamps: boolean
  /** Last lines; all if undefined. */
  tail?: number
  details: boolean
}

export interface AttachOptions { stream: boolean; stdin: boolean; stdout: boolean; stderr: boolean; logs: boolean }

export type WaitCondition = 'not-running' | 'next-exit' | 'removed'

export interface ContainersBackend {
  /** Newest first. Filters: ancestor, before, since, exited, expose, publish, health, id, is-task, label, name, network, status, volume. */
  list(options: { all: boolean; limit?: number; size: boolean; filters: Filters }): Promise<ContainerSummary[]>
  create(request: CreateContainer): Promise<{ Id: string; Warnings: string[] }>
  inspect(ref: string, options: { size: boolean }): Promise<ContainerInspect>
  /** `not-modified` if it runs. */
  start(ref: string): Promise<void>
  /** `timeoutS` −1 waits for ever; left out: the container's own, else 10. `not-modified` if it does not run. */
  stop(ref: string, options: { timeoutS?: number; signal?: string }): Promise<void>
  restart(ref: string, options: { timeoutS?: number; signal?: string }): Promise<void>
  kill(ref: string, signal?: string): Promise<void>
  pause(ref: string): Promise<void>
  unpause(ref: string): Promise<void>
  rename(ref: string, name: string): Promise<void>
  update(ref: string, changes: HostResources & { RestartPolicy?: RestartPolicy }): Promise<{ Warnings: string[] }>
  /** Resolves at once with `result`, so that the front can send its header: the wait has begun. */
  wait(ref: string, condition: WaitCondition, signal: AbortSignal): Promise<{ result: Promise<{ StatusCode: number; Error?: { Message: string } }> }>
  remove(ref: string, options: { volumes: boolean; force: boolean; link: boolean }): Promise<void>
  prune(filters: Filters): Promise<{ ContainersDeleted: string[]; SpaceReclaimed: number }>
  /** Legal before the start. */
  attach(ref: string, options: AttachOptions): Promise<Streams>
  resize(ref: string, size: { height: number; width: number }): Promise<void>
  /** Bytes as in `Streams.output`. */
  logs(ref: string, options: LogsOptions): Promise<{ tty: boolean; output: Readable }>
  top(ref: string, psArgs: string): Promise<{ Titles: string[]; Processes: string[][] }>
  /** One sample, or one a second while read. `oneShot` leaves `precpu_stats` empty. */
  stats(ref: string, options: { stream: boolean; oneShot: boolean }): Promise<AsyncIterable<Stats>>
  changes(ref: string): Promise<FilesystemChange[]>
  export(ref: string): Promise<Readable>
  archiveStat(ref: string, path: string): Promise<PathStat>
  archiveGet(ref: string, path: string): Promise<{ stat: PathStat; tar: Readable }>
  archivePut(ref: string, path: string, tar: Readable, options: { noOverwriteDirNonDir: boolean; copyUIDGID: boolean }): Promise<void>
  commit(ref: string, options: {
    repo?: string; tag?: string; comment?: string; author?: string; pause: boolean; changes: string[]; config?: ContainerConfig
  }): Promise<{ Id: string }>
}

export interface ExecsBackend {
  create(containerRef: string, config: ExecConfig): Promise<{ Id: string }>
  /** Undefined when `detach`: resolves when the process runs. */
  start(id: string, options: { detach: boolean; raw?: boolean; consoleSize?: [number, number] }): Promise<Streams | undefined>
  /** Waits up to 10 s for the exec to start. */
  resize(id: string, size: { height: number; width: number }): Promise<void>
  inspect(id: string): Promise<ExecInspect>
}

export interface ImagesBackend {
  /** Filters: before, since, dangling, label, label!, reference, until. */
  list(options: { all: boolean; sharedSize: boolean; filters: Filters }): Promise<ImageSummary[]>
  inspect(ref: string): Promise<ImageInspect>
  history(ref: string): Promise<HistoryItem[]>
  /** `reference` with tag or digest; without either, and with `allTags`, every tag. Rejects before the first message, or after. */
  pull(reference: string, options: { platform?: string; auth?: AuthConfig; allTags: boolean }, onMessage: OnMessage, signal: AbortSignal): Promise<void>
  /** Without a tag: all tags of the repository. */
  push(name: string, options: { tag?: string; auth?: AuthConfig }, onMessage: OnMessage, signal: AbortSignal): Promise<void>
  /** A root file system as an image. `source`: the request's body, or a URL. */
  import(source: Readable | string, options: {
    repo?: string; tag?: string; message?: string; changes: string[]; platform?: string
  }, onMessage: OnMessage): Promise<void>
  tag(ref: string, repo: string, tag?: string): Promise<void>
  remove(ref: string, options: { force: boolean; noPrune: boolean }): Promise<ImageDeletion[]>
  prune(filters: Filters): Promise<{ ImagesDeleted: ImageDeletion[] | null; SpaceReclaimed: number }>
  save(refs: string[], options: { platform?: string }): Promise<Readable>
  load(tar: Readable, options: { quiet: boolean; platform?: string }, onMessage: OnMessage): Promise<void>
  search(term: string, options: { limit?: number; filters: Filters; auth?: AuthConfig }): Promise<{
    name: string; description: string; star_count: number; is_official: boolean; is_automated: boolean
  }[]>
  /** The registry's word on a reference, nothing pulled. */
  distribution(reference: string, auth?: AuthConfig): Promise<{
    Descriptor: { mediaType: string; digest: string; size: number }; Platforms: { architecture: string; os: string; variant?: string }[]
  }>
  /** `POST /auth`: tries the credentials against their registry. */
  login(auth: AuthConfig): Promise<{ Status: string; IdentityToken: string }>
}

export interface BuildRequest {
  /** The context as a tar, compressed or not; undefined with `remote`. */
  context?: Readable
  /** URL of a Dockerfile or a context archive. */
  remote?: string
  dockerfile?: string
  tags: string[]
  quiet: boolean
  noCache: boolean
  removeIntermediate: boolean
  forceRemove: boolean
  pull: boolean
  target?: string
  platform?: string
  buildArgs: Record<string, string | null>
  labels: StringMap
  cacheFrom: string[]
  extraHosts: string[]
  networkMode?: string
  shmSizeBytes?: number
  ulimits: Ulimit[]
  cgroupParent?: string
  memoryBytes?: number
  memorySwapBytes?: number
  cpuShares?: number
  cpuPeriodUs?: number
  cpuQuotaUs?: number
  cpusetCpus?: string
  cpusetMems?: string
  squash: boolean
  /** Registry host → credentials, decoded `X-Registry-Config`. */
  auths: Record<string, AuthConfig>
}

export interface BuildsBackend {
  /** Messages as the legacy builder's; rejects with the error to be put into the stream (a `BuildError` carries an exit code). */
  build(request: BuildRequest, onMessage: OnMessage, signal: AbortSignal): Promise<void>
  prune(options: { all: boolean; filters: Filters; keepBytes?: number }): Promise<{ CachesDeleted: string[]; SpaceReclaimed: number }>
  cache(): Promise<BuildCacheRecord[]>
}

export interface NetworksBackend {
  /** Filters: dangling, driver, id, label, name, scope, type. */
  list(filters: Filters): Promise<NetworkInspect[]>
  inspect(ref: string, options: { scope?: string }): Promise<NetworkInspect>
  create(request: CreateNetwork): Promise<{ Id: string; Warning: string }>
  connect(ref: string, container: string, endpoint: EndpointSettings): Promise<void>
  disconnect(ref: string, container: string, force: boolean): Promise<void>
  remove(ref: string): Promise<void>
  prune(filters: Filters): Promise<{ NetworksDeleted: string[] }>
}

export interface VolumesBackend {
  list(filters: Filters): Promise<{ Volumes: Volume[]; Warnings: string[] | null }>
  inspect(name: string): Promise<Volume>
  create(request: { Name?: string; Driver?: string; DriverOpts?: StringMap; Labels?: StringMap }): Promise<Volume>
  remove(name: string, force: boolean): Promise<void>
  /** Only anonymous ones, unless filter `all`. */
  prune(filters: Filters): Promise<{ VolumesDeleted: string[]; SpaceReclaimed: number }>
}

export interface SystemBackend {
  /** `GET /info`, whole. */
  info(): Promise<Record<string, unknown>>
  /** `GET /version` less what the front itself knows (ApiVersion, MinAPIVersion). */
  version(): Promise<Record<string, unknown>>
  /** Kinds asked for; all if empty. */
  diskUsage(kinds: ('container' | 'image' | 'volume' | 'build-cache')[]): Promise<DiskUsage>
}

export interface EventsBackend {
  /** First what the ring holds of the past (if `sinceNs` or `untilNs` is given), then what comes, until `untilNs` or `signal`. */
  subscribe(options: { sinceNs?: bigint; untilNs?: bigint; filters: Filters }, signal: AbortSignal): AsyncIterable<EventMessage>
}

export interface DockerBackend {
  readonly containers: ContainersBackend
  readonly execs: ExecsBackend
  readonly images: ImagesBackend
  readonly builds: BuildsBackend
  readonly networks: NetworksBackend
  readonly volumes: VolumesBackend
  readonly system: SystemBackend
  readonly events: EventsBackend
}
