/**
 * One machine's containers. Usable without a cluster. Nothing here knows Pods: the node agent and, later, the Docker front
 * are its users. Implementation: `index.ts` (`openEngine`).
 */
import type { Duplex, Readable } from 'node:stream'

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
}

export interface Mount {
  type: 'bind' | 'tmpfs'
  /** Host path, for `bind`. */
  source?: string
  target: string
  readOnly?: boolean
  propagation?: 'private' | 'rslave' | 'rshared'
  /** tmpfs only. */
  sizeBytes?: number
  mode?: number
}

export interface Resources {
  /** CPU shares (cgroup v1 scale, 2–262144; 1024 is one share of a CPU); converted to a weight on v2. */
  cpuShares?: number
  cpuQuotaUs?: number
  cpuPeriodUs?: number
  memoryBytes?: number
  memorySwapBytes?: number
  pidsMax?: number
  oomScoreAdj?: number
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
  hostname?: string
  tty?: boolean
  stdin?: boolean
  mounts?: Mount[]
  /** Path of a bound network namespace; `host` for the machine's. */
  network: { path: string } | 'host'
  pid?: 'private' | 'host' | { container: string }
  ipc?: 'private' | 'host' | { container: string }
  /** Containers with the same group share one shim (a Pod's uid). */
  group?: string
  /** Absolute cgroup path of the parent, e.g. `/gantry-a1b2/node-1/UID`; the container is `PARENT/ID`. Default: the engine's. */
  cgroupParent?: string
  resources?: Resources
  privileged?: boolean
  capAdd?: string[]
  capDrop?: string[]
  noNewPrivileges?: boolean
  seccomp?: 'default' | 'unconfined'
  readOnlyRootfs?: boolean
  sysctls?: Record<string, string>
  /** Signal name or number; default: the image's STOPSIGNAL, else SIGTERM. */
  stopSignal?: string
  /** Rotation: default 10 MiB × 5. */
  log?: { maxBytes?: number; maxFiles?: number }
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

export interface ExecSpec {
  command: string[]
  tty?: boolean
  stdin?: boolean
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
  /** Starts a created or exited container (again, on the same file system). Resolves with its pid when it runs. */
  start(id: string): Promise<number>
  /** `not-found` if unknown; sending a signal to an exited container resolves. */
  kill(id: string, signal: string | number, all?: boolean): Promise<void>
  /** Stop signal, then SIGKILL after `graceMs`. Resolves when it has exited. */
  stop(id: string, graceMs: number): Promise<void>
  /** Removes record, snapshot and logs; kills it first with `force`. Removing what is gone resolves. */
  remove(id: string, force?: boolean): Promise<void>
  inspect(id: string): ContainerInfo | undefined
  list(): ContainerInfo[]
  exec(id: string, spec: ExecSpec): Promise<ProcessStreams>
  attach(id: string): Promise<ProcessStreams>
  logs(id: string, options: LogOptions): AsyncIterable<LogLine>
  /** Directory of the container's current and rotated log files. */
  logDir(id: string): string
  stats(id: string): Promise<ContainerStats | undefined>
  update(id: string, resources: Resources): Promise<void>
  pause(id: string): Promise<void>
  resume(id: string): Promise<void>
  /** Host path under which the container's root can be read while it runs, or undefined. */
  rootPath(id: string): string | undefined
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
export interface Progress { id?: string; status: string; currentBytes?: number; totalBytes?: number; error?: string; stream?: string }
export type OnProgress = (p: Progress) => void

export interface RegistryAuth { username?: string; password?: string; token?: string }

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
  pull(reference: string, options?: { auth?: RegistryAuth; onProgress?: OnProgress; peersOnly?: boolean; insecure?: boolean }): Promise<ImageInfo>
  push(reference: string, options?: { auth?: RegistryAuth; onProgress?: OnProgress; insecure?: boolean }): Promise<{ digest: string }>
  /** `docker save` or OCI layout archives, plain or gzip/zstd. Returns the names it made. */
  load(tar: Readable, onProgress?: OnProgress): Promise<string[]>
  save(references: string[]): Promise<Readable>
  /** A root file system as a one-layer image (`docker import`). */
  import(tar: Readable, reference: string, config?: Partial<ImageConfig>): Promise<ImageInfo>
  tag(source: string, target: string): Promise<void>
  remove(reference: string, options?: { force?: boolean }): Promise<{ untagged: string[]; deleted: string[] }>
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
  buildArgs?: Record<string, string>
  target?: string
  noCache?: boolean
  labels?: Record<string, string>
  onProgress?: OnProgress
  signal?: AbortSignal
}

export interface Builder {
  /** Resolves with the image; rejects with `invalid` (Dockerfile, with its line) or `failed` (a step's exit code). */
  build(options: BuildOptions): Promise<ImageInfo>
}

/** Network for build steps: the agent (or a test) gives a sandbox with a way out. `resolvConf` is the text of the file. */
export interface BuildNetwork { open(id: string): Promise<{ netnsPath: string; resolvConf: string; close(): Promise<void> }> }

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
