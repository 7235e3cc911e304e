/**
 * One machine's containers. Usable without a cluster. Nothing here knows Pods: the node agent and, later, the Docker front
 * are its users. Implementation: `index.ts` (`openEngine`).
 */
import type { Duplex, Readable } from 'node:stream'
import type { ConfigFile, RuntimeConfig } from './images/media-types.ts'
import type { Registries, RegistryOptions } from './registry/registries.ts'

export interface EngineOptions {
  /** Where containerd, images, logs and records live, e.g. `/var/lib/gantry/engine`. Mode 0700. */
  dataDir: string
  /** Sockets, FIFOs, runc state, e.g. `/run/gantry/engine`. Lost at reboot. */
  runDir: string
  /** containerd's socket; the engine connects, waits for it and reconnects; it does not start it. */
  containerdSocket: string
  /** The log daemon's socket (see `logger/`). */
  loggerSocket: string
  /** containerd namespace; default `gantry`. */
  namespace?: string
  /** Control group of containers that name no parent, and of build steps; default `/gantry`. */
  cgroupRoot?: string
  registries?: RegistryOptions
}

export interface Mount {
  type: 'bind' | 'tmpfs'
  /** Host path, for `bind`. */
  source?: string
  target: string
  readOnly?: boolean
  propagation?: 'private' | 'rprivate' | 'slave' | 'rslave' | 'shared' | 'rshared'
  /** Bind only: leave out mounts below the source; make those below read-only too (kernel ≥ 5.12). */
  nonRecursive?: boolean
  recursiveReadOnly?: boolean
  /** tmpfs only. */
  sizeBytes?: number
  mode?: number
  /** tmpfs only: more mount options, e.g. `exec`, `uid=1000`; they win over the defaults (nosuid, nodev, noexec). */
  options?: string[]
}

export interface Device {
  hostPath: string
  containerPath: string
  /** Of `rwm`. A directory stands for all devices in it. */
  permissions: string
}

export interface BlkioLimit { path: string; rate: number }

export interface Resources {
  /** CPU shares (cgroup v1 scale, 2–262144; 1024 is one share of a CPU); converted to a weight on v2. */
  cpuShares?: number
  cpuQuotaUs?: number
  cpuPeriodUs?: number
  memoryBytes?: number
  memorySwapBytes?: number
  pidsMax?: number
  oomScoreAdj?: number
  memoryReservationBytes?: number
  /** 0–100; version 1 only. */
  memorySwappiness?: number
  oomKillDisable?: boolean
  cpusetCpus?: string
  cpusetMems?: string
  cpuRealtimePeriodUs?: number
  cpuRealtimeRuntimeUs?: number
  /** 10–1000. */
  blkioWeight?: number
  blkioWeightDevices?: { path: string; weight: number }[]
  blkioReadBps?: BlkioLimit[]
  blkioWriteBps?: BlkioLimit[]
  blkioReadIops?: BlkioLimit[]
  blkioWriteIops?: BlkioLimit[]
  /** Devices rules in cgroup's own words, e.g. `c 1:3 rwm`, added to the default list. */
  deviceRules?: string[]
}

/**
 * Where output goes. `local` (default): this engine's rotated files. `none`: nowhere. `syslog` and `fluentd`: to their server,
 * and the last part into local files too, so that `logs` works.
 */
export interface LogConfig {
  driver?: 'local' | 'none' | 'syslog' | 'fluentd'
  /** Rotation of local files: default 10 MiB × 5. */
  maxBytes?: number
  maxFiles?: number
  /** Of syslog and fluentd, as Docker names them (`syslog-address`, `fluentd-address`, `tag` with its template filled in …). */
  options?: Record<string, string>
}

/** Everything needed to make a container. Left-out process fields come from the image's configuration. */
export interface ContainerSpec {
  /** At most 76 characters of `[A-Za-z0-9._-]`. */
  id: string
  /** Image reference as the user wrote it; it must be present (see ImageService). */
  image: string
  labels?: Record<string, string>
  entrypoint?: string[]
  /** Arguments after the entrypoint. Setting `entrypoint` alone drops the image's own command, as Docker does. */
  args?: string[]
  /** `NAME=value`, added over the image's. */
  env?: string[]
  workingDir?: string
  /** `uid`, `uid:gid`, `name` or `name:group`; names are looked up in the image's own passwd and group. */
  user?: string
  supplementalGroups?: number[]
  /** Group names or numbers, looked up in the image's own group file. */
  additionalGroups?: string[]
  hostname?: string
  domainname?: string
  tty?: boolean
  /** Rows and columns the terminal begins with. */
  consoleSize?: { rows: number; columns: number }
  stdin?: boolean
  /** The end of an attached client's input is the process's end of file (default). Without it stdin stays open for the next client. */
  stdinOnce?: boolean
  mounts?: Mount[]
  /** Path of a bound network namespace; `host` for the machine's. */
  network: { path: string } | 'host'
  pid?: 'private' | 'host' | { container: string }
  /** `shareable`: private, with a /dev/shm that containers which join it share. `none`: private and without /dev/shm. */
  ipc?: 'private' | 'shareable' | 'host' | 'none' | { container: string }
  uts?: 'private' | 'host'
  /** Default: private on cgroup v2, the host's on v1. */
  cgroupNamespace?: 'private' | 'host'
  /** Default 64 MiB. */
  shmSizeBytes?: number
  devices?: Device[]
  /** e.g. `{ name: 'nofile', soft: 1024, hard: 4096 }`. */
  ulimits?: { name: string; soft: number; hard: number }[]
  /** Default: the runtime's usual lists; an empty array hides nothing. */
  maskedPaths?: string[]
  readonlyPaths?: string[]
  /** A small init as process 1 that reaps and passes signals on; `initPath` is where the machine has it. */
  init?: boolean
  /** OCI annotations, given to the runtime. */
  annotations?: Record<string, string>
  /** Take the image's defaults (env, user, command …) as given here, not from the image: its caller has merged them. */
  noImageDefaults?: boolean
  /** Containers with the same group share one shim (a Pod's uid). */
  group?: string
  /** Absolute cgroup path of the parent, e.g. `/gantry-a1b2/node-1/UID`; the container is `PARENT/ID`. Default: the engine's. */
  cgroupParent?: string
  resources?: Resources
  privileged?: boolean
  capAdd?: string[]
  capDrop?: string[]
  noNewPrivileges?: boolean
  /** `profile`: JSON text of Docker's seccomp format. */
  seccomp?: 'default' | 'unconfined' | { profile: string }
  readOnlyRootfs?: boolean
  sysctls?: Record<string, string>
  /** Signal name or number; default: the image's STOPSIGNAL, else SIGTERM. */
  stopSignal?: string
  log?: LogConfig
  runtime?: 'runc' | 'crun'
}

export type ContainerState = 'created' | 'running' | 'paused' | 'exited'

export interface ContainerInfo {
  id: string
  labels: Record<string, string>
  image: string
  /** Digest of the image's configuration: Docker's image id. */
  imageId: string
  state: ContainerState
  pid?: number
  exitCode?: number
  oomKilled?: boolean
  /** Milliseconds since the epoch. */
  createdAtMs: number
  startedAtMs?: number
  finishedAtMs?: number
  /** The failure text of the last start, in the words docker users know. */
  error?: string
}

/** Exits are reported at least once, also those that happened while the engine was away; identical repeats carry the same finishedAtMs. */
export type EngineEvent =
  | { type: 'start'; id: string; pid: number; atMs: number }
  | { type: 'exit'; id: string; exitCode: number; oomKilled: boolean; atMs: number }
  | { type: 'oom'; id: string; atMs: number }
  | { type: 'delete'; id: string; atMs: number }

export interface LogOptions {
  follow?: boolean
  /** Only the last N lines; all when left out. */
  tail?: number
  sinceMs?: number
  untilMs?: number
}

export interface LogLine {
  stream: 'stdout' | 'stderr'
  /** RFC 3339 with nanoseconds. */
  time: string
  /** Without its newline; `partial` says that none was there. */
  text: Buffer
  partial: boolean
}

/** A log as Docker's clients get it. */
export interface LogStreamOptions {
  follow: boolean
  /** One frame a line, which clients expect of a log they follow; always so with `follow`. */
  frameLines?: boolean
  stdout: boolean
  stderr: boolean
  /** Unix time in nanoseconds; both ends belong to it. */
  sinceNs?: bigint
  untilNs?: bigint
  /** A time with nine digits before each line. */
  timestamps?: boolean
  /** Last lines; all if undefined. */
  tail?: number
  /** Text between time and line, its blank included. */
  details?: string
}

export interface WriteArchiveOptions { noOverwriteDirNonDir: boolean; keepOwner: boolean; mounts?: Mount[] }

export interface ExecSpec {
  command: string[]
  tty?: boolean
  /** Rows and columns the terminal begins with. */
  consoleSize?: { rows: number; columns: number }
  stdin?: boolean
  /** Added over the container's. */
  env?: string[]
  workingDir?: string
  user?: string
  privileged?: boolean
}

/** A running exec or attach. stdout and stderr end when the process closed them; with a tty stderr is undefined. */
export interface ProcessStreams {
  stdin?: Duplex | NodeJS.WritableStream
  stdout: Readable
  stderr?: Readable
  resize(columns: number, rows: number): Promise<void>
  /** Exit code; 128+n for signal n. */
  exit: Promise<number>
  /** Ends the streams, not the process. */
  close(): void
  /** Of an exec; undefined for attach. */
  pid?: number
  /** Of an exec that could not be started: why. Its streams say so too. */
  failure?: string
  /** Of an exec: a signal to its process. Resolves also if it has ended. */
  kill?(signal: string | number): Promise<void>
}

/** What a path in a container is. `mode` is st_mode with its type bits. */
export interface PathInfo { name: string; sizeBytes: number; mode: number; mtimeMs: number; linkTarget: string }

export interface CommitOptions {
  /** Full image configuration of the new image, as the image specification has it (`config` of the configuration JSON). */
  config: Record<string, unknown>
  author?: string
  comment?: string
  /** `created_by` of its history entry. */
  createdBy?: string
  /** Configuration of the container it is made from, which Docker keeps in the image. */
  containerConfig?: Record<string, unknown>
  /** Names to give it; none makes a dangling image. */
  tags: string[]
}

/** All that Docker's stats show, straight from the kernel; times in nanoseconds. Fields the cgroup version lacks are left out. */
export interface DetailedStats {
  atMs: number
  cpu: { totalNs: bigint; userNs: bigint; systemNs: bigint; perCpuNs?: bigint[]; periods: number; throttledPeriods: number; throttledNs: bigint }
  memory: { usageBytes: number; maxUsageBytes?: number; limitBytes?: number; failCount?: number; stats: Record<string, number> }
  pids: { current: number; limit?: number }
  /** Docker's names (`io_service_bytes_recursive`, …) → entries. */
  blkio: Record<string, { major: number; minor: number; op: string; value: number }[]>
}

export interface ContainerStats {
  atMs: number
  cpuNs: bigint
  memoryBytes: number
  /** memoryBytes less inactive file cache: what `kubectl top` shows. */
  workingSetBytes: number
  memoryLimitBytes?: number
  pids: number
  rxBytes?: number
  txBytes?: number
  readBytes: number
  writeBytes: number
}

/** Errors of the engine carry a code every front can map. */
export class EngineError extends Error {
  readonly code: 'not-found' | 'conflict' | 'invalid' | 'unavailable' | 'failed'
  constructor(code: EngineError['code'], message: string) {
    super(message)
    this.name = 'EngineError'
    this.code = code
  }
}

export interface ContainerService {
  /** Prepares the snapshot and records the container; nothing runs. `conflict` if the id is taken. */
  create(spec: ContainerSpec): Promise<void>
  /**
   * Starts a created or exited container (again, on the same file system). `changes` are kept as part of its spec: what only the
   * start knows (network, mounts, env). `ready`: its process does not begin before. Resolves with its pid when it runs.
   */
  start(id: string, changes?: Partial<Omit<ContainerSpec, 'id' | 'image'>>, ready?: Promise<void>): Promise<number>
  /** `not-found` if unknown; sending a signal to an exited container resolves. */
  kill(id: string, signal: string | number, all?: boolean): Promise<void>
  /** Stop signal, then SIGKILL after `graceMs`. Resolves when it has exited. */
  stop(id: string, graceMs: number): Promise<void>
  /**
   * Removes record, snapshot and logs; kills it first with `force`. Removing what is gone resolves. `inBackground`: resolves when nobody sees
   * the container any more and no restart brings it back; what it leaves goes soon after, after a kill at the next opening.
   */
  remove(id: string, force?: boolean, options?: { inBackground?: boolean }): Promise<void>
  /** Resolves when all that is being removed in the background is gone. */
  cleared(): Promise<void>
  inspect(id: string): ContainerInfo | undefined
  list(): ContainerInfo[]
  exec(id: string, spec: ExecSpec): Promise<ProcessStreams>
  /** Of a running container; or of a created or exited one, whose next run's output then flows from its first byte. */
  attach(id: string): Promise<ProcessStreams>
  logs(id: string, options: LogOptions): AsyncIterable<LogLine>
  /**
   * The log in Docker's wire format: frames (8 byte header, text), or plain text of a container with a terminal. Pieces of a long line
   * are joined. Lines share frames unless `follow`. A followed log ends when the container has stopped and all was delivered.
   */
  logStream(id: string, options: LogStreamOptions): Readable
  /** Directory of the container's current and rotated log files. */
  logDir(id: string): string
  stats(id: string): Promise<ContainerStats | undefined>
  update(id: string, resources: Resources): Promise<void>
  pause(id: string): Promise<void>
  resume(id: string): Promise<void>
  /** Host path under which the container's root can be read while it runs, or undefined. */
  rootPath(id: string): string | undefined
  detailedStats(id: string): Promise<DetailedStats | undefined>
  /** Processes of a running container, as the host numbers them. */
  pids(id: string): Promise<number[]>
  /** The terminal of a container made with `tty`. */
  resize(id: string, size: { rows: number; columns: number }): Promise<void>
  /** Bytes of the writable layer, and of all layers together. */
  sizes(id: string): Promise<{ writableBytes: number; rootBytes: number }>
  /** What differs from the image. `kind` as Docker numbers it: 0 changed, 1 added, 2 deleted. Sorted by path. */
  changes(id: string): Promise<{ path: string; kind: 0 | 1 | 2 }[]>
  /** The whole root as a tar, mounts left out. */
  export(id: string): Promise<Readable>
  /**
   * Runs `work` with the host path of a folder of the container's file system: links followed inside its root, mounts not seen, whether it
   * runs or not. undefined if there is no such folder. The path is good until `work` settles.
   */
  withFolder<T>(id: string, path: string, work: (hostPath: string | undefined) => Promise<T>): Promise<T>
  /** The container's file system as a new image on top of its own; pausing it is the caller's. Resolves with the image's id. */
  commit(id: string, options: CommitOptions): Promise<string>
  /**
   * Paths are seen as the container sees them, also while it does not run: its volumes and binds included, links followed
   * inside its root and never out of it. `not-found` names the path. `mounts`: what one that does not run would have mounted, if its last
   * start does not tell; they must stay until the work is over, for an archive until its tar has closed.
   */
  statPath(id: string, path: string, mounts?: Mount[]): Promise<PathInfo>
  /** A path as a tar whose entries begin with its base name; `PATH/.` is the contents only. */
  readArchive(id: string, path: string, mounts?: Mount[]): Promise<{ info: PathInfo; tar: Readable }>
  /**
   * Unpacks (plain or compressed) into an existing directory. `invalid` if it is none, or read-only. `keepOwner`: owners as in the
   * archive; otherwise all becomes the container's user's, if it has one (Docker's copyUIDGID).
   */
  writeArchive(id: string, path: string, tar: Readable, options: WriteArchiveOptions): Promise<void>
}

export interface ImageInfo {
  /** Digest of the configuration. */
  id: string
  /** Full references, e.g. `docker.io/library/redis:latest`. */
  names: string[]
  /** Digest of the manifest or index each name points to. */
  digests: string[]
  sizeBytes: number
  createdAtMs: number
  labels: Record<string, string>
  /** Where its names came from first: a registry, or the cluster itself (built, loaded, imported). */
  origin: 'registry' | 'local'
}

/** All that Docker shows of an image. */
export interface ImageDetails {
  id: string
  /** Full names with a tag, sorted: `docker.io/library/redis:latest`. */
  tags: string[]
  /** `host/path@sha256:…` of the registries it was pulled from or pushed to, sorted. */
  repoDigests: string[]
  /** Ids of the image it was built from and of those built from it, here. */
  parent?: string
  children: string[]
  config: ConfigFile
  /** Chain id of each layer, the lowest first, and the layer's bytes as Docker counts them. */
  chainIds: string[]
  layerBytes: number[]
  /** When a name was last given to it here. */
  taggedAtMs: number
}

/** What one removal did, in order. `id` is that of the image untagged. */
export type ImageRemoval = { untagged: string; id: string } | { deletedImage: string } | { deletedLayer: string }

export interface RemoveOptions {
  force?: boolean
  /** Leave untagged parents alone. */
  noPrune?: boolean
  /** More containers of an image (by its id) than the engine itself knows. */
  users?(id: string): { id: string; running: boolean }[]
}

export interface PullOptions {
  auth?: RegistryAuth
  onProgress?: OnProgress
  peersOnly?: boolean
  /** Plain HTTP, or TLS that is not verified. */
  insecure?: boolean
  /** Silence after which a transfer counts as stalled. */
  stallMs?: number
  signal?: AbortSignal
  /** `os/arch[/variant]`; default: this machine's. */
  platform?: string
  /** As Docker: the registry's digest becomes a name too, and what the tag pointed to before stays, untagged. */
  keepReplaced?: boolean
}

export interface PushOptions {
  auth?: RegistryAuth
  onProgress?: OnProgress
  insecure?: boolean
  signal?: AbortSignal
  /** Layers as gzip, which all clients can read, and the registry's digest as a name, as Docker does. */
  asDocker?: boolean
}

export interface ImportOptions {
  /** Docker's form; wins over the engine's. */
  runtimeConfig?: RuntimeConfig
  comment?: string
  platform?: string
  keepReplaced?: boolean
}

export interface ImageConfig {
  entrypoint: string[]
  cmd: string[]
  env: string[]
  workingDir: string
  user: string
  exposedPorts: string[]
  labels: Record<string, string>
  stopSignal?: string
  volumes: string[]
}

/** One step of long work, for a progress display: docker's JSON messages can be made from it. */
export interface Progress {
  id?: string
  status: string
  currentBytes?: number
  totalBytes?: number
  error?: string
  /** Text of a build; `stderr`: what a step wrote there. */
  stream?: string
  stderr?: boolean
  /** Of the image that was built, told before the words about it. */
  imageId?: string
}
export type OnProgress = (p: Progress) => void

/** `token` is sent as it is; `identityToken` buys such tokens (OAuth2's refresh token). */
export interface RegistryAuth { username?: string; password?: string; token?: string; identityToken?: string }

/**
 * Where else an image may be had before a registry is asked: the peers of this node. Given by the agent.
 * `sources` yields base URLs of servers that speak the distribution protocol (`GET BASE/v2/NAME/manifests/REF`), with a
 * function that opens a request (TLS identity included).
 */
export interface PeerSource {
  sources(reference: string): Promise<PeerEndpoint[]>
}
export interface PeerEndpoint {
  name: string
  fetch(path: string, headers: Record<string, string>): Promise<{ status: number; headers: Record<string, string>; body: Readable }>
}

export interface ImageService {
  /** `redis` → `docker.io/library/redis:latest`. Throws EngineError `invalid` for a malformed reference. */
  normalize(reference: string): string
  list(): Promise<ImageInfo[]>
  /** By any name, full reference, digest or id (prefix); undefined if absent. */
  find(reference: string): Promise<ImageInfo | undefined>
  config(reference: string): Promise<ImageConfig>
  /**
   * Makes the image present and unpacked: from peers, else from its registry. One pull per digest at a time. Rejects with
   * `not-found` (nobody has it), `unavailable` (could not be reached) or `failed` (wrong digest, bad layer …).
   */
  pull(reference: string, options?: PullOptions): Promise<ImageInfo>
  /** Resolves with digest and size of the manifest that the registry has now. */
  push(reference: string, options?: PushOptions): Promise<{ digest: string; size: number }>
  /** `docker save` (of any age) or OCI layout archives, plain or compressed. Returns the full names it made; the id of an image without. */
  load(tar: Readable, onProgress?: OnProgress, options?: { platform?: string; keepReplaced?: boolean }): Promise<string[]>
  save(references: string[]): Promise<Readable>
  /** A root file system as a one-layer image (`docker import`); without a reference it is untagged. */
  import(tar: Readable, reference: string | undefined, config?: Partial<ImageConfig>, options?: ImportOptions): Promise<ImageInfo>
  tag(source: string, target: string, options?: { keepReplaced?: boolean }): Promise<void>
  /** Names and ids that went; `steps` says the same in order, and which layers. `conflict` in Docker's words. */
  remove(reference: string, options?: RemoveOptions): Promise<{ untagged: string[]; deleted: string[]; steps: ImageRemoval[] }>
  /** As `find`, and all images, untagged ones too (newest first), with everything Docker shows of them. */
  details(reference: string): Promise<ImageDetails | undefined>
  listDetails(): Promise<ImageDetails[]>
  readonly registries: Registries
  /** Answers a peer's distribution request (`GET`/`HEAD /v2/…`) from local content. Read only. */
  serve(method: string, path: string, headers: Record<string, string>): Promise<{ status: number; headers: Record<string, string>; body?: Readable }>
  /** Called whenever the set of names changes. */
  onChange(handler: () => void): () => void
  /** Set once by the agent. */
  setPeers(peers: PeerSource): void
}

export interface BuildOptions {
  /** The context as a tar stream, plain or gzip. */
  context: Readable
  /** Path of the Dockerfile inside the context; default `Dockerfile`. */
  dockerfile?: string
  tags: string[]
  /** An image that loses its last name to this build stays, untagged, as Docker has it. */
  keepReplaced?: boolean
  /** null takes nothing over a default: Docker's `--build-arg NAME` without a value of the client's. */
  buildArgs?: Record<string, string | null>
  target?: string
  noCache?: boolean
  /** Ask registries for base images also if they are here. */
  pull?: boolean
  labels?: Record<string, string>
  /** Images whose layers may be taken for steps that led to them. */
  cacheFrom?: string[]
  /** `os/arch[/variant]`; only this machine's can be built. */
  platform?: string
  /** Credentials by registry host. */
  auths?: Record<string, RegistryAuth>
  /** For `RUN --mount=type=secret`, by id. */
  secrets?: Record<string, Buffer>
  /** Network of RUN: `default`, `none`, `host`, or what the BuildNetwork knows. */
  network?: string
  /** `name:ip` for /etc/hosts of RUN. */
  extraHosts?: string[]
  /** Of each RUN. */
  limits?: Pick<ContainerSpec, 'resources' | 'ulimits' | 'shmSizeBytes' | 'cgroupParent'>
  /** `stream` holds text in the words of Docker's builder. */
  onProgress?: OnProgress
  signal?: AbortSignal
}

export interface BuildCacheEntry { id: string; description: string; sizeBytes: number; createdAtMs: number; usedAtMs: number; inUse: boolean }

export interface Builder {
  /** Resolves with the image; rejects with `invalid` (Dockerfile, with its line) or `failed` (a BuildFailure for a step's exit code). */
  build(options: BuildOptions): Promise<ImageInfo>
  /** Steps that need not be done again, and folders of cache mounts. */
  cache(): Promise<BuildCacheEntry[]>
  /** Forgets what was last used before the time, or everything; keeps the newest `keepBytes`. Resolves with ids and bytes let go. */
  prune(options?: { olderThanMs?: number; keepBytes?: number }): Promise<{ ids: string[]; bytes: number }>
}

/** A command of a RUN ended with another code than 0. */
export class BuildFailure extends EngineError {
  readonly exitCode: number
  constructor(message: string, exitCode: number) {
    super('failed', message)
    this.exitCode = exitCode
  }
}

/** What a RUN has of the network. `netnsPath` undefined: the machine's own. Texts are of /etc/resolv.conf and /etc/hosts. */
export interface BuildSandbox { netnsPath: string | undefined; resolvConf: string; hosts?: string; close(): Promise<void> }

/** Network for build steps: the agent, the Docker front or a test gives a sandbox with a way out, or what `network` names. */
export interface BuildNetwork { open(id: string, options?: { network?: string; extraHosts?: string[] }): Promise<BuildSandbox> }

export interface Engine {
  readonly containers: ContainerService
  readonly images: ImageService
  readonly builder: Builder
  /** Returns a function that unsubscribes. */
  onEvent(handler: (e: EngineEvent) => void): () => void
  setBuildNetwork(n: BuildNetwork): void
  version(): Promise<{ containerd: string; runc: string }>
  /** Lets go of containerd; containers go on. */
  close(): Promise<void>
}
