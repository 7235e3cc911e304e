/**
 * The shapes of Docker's Engine API, version 1.50, as they go over the wire (hence the capitals). The front (`api/`) lifts requests
 * of older versions to these and lowers answers from them; backends know only these. Source: moby v28's API reference.
 * Durations are nanoseconds, sizes bytes, times RFC 3339 with nanoseconds (`0001-01-01T00:00:00Z` is "never") unless said otherwise.
 */

export type StringMap = Record<string, string>
export type StringSet = Record<string, Record<string, never>>

export interface HealthConfig {
  /** `[]` inherits, `['NONE']`, `['CMD', …]`, `['CMD-SHELL', text]`. */
  Test?: string[] | null
  Interval?: number
  Timeout?: number
  StartPeriod?: number
  StartInterval?: number
  Retries?: number
}

/** What is the image's or moves with the container. */
export interface ContainerConfig {
  Hostname?: string
  Domainname?: string
  User?: string
  AttachStdin?: boolean
  AttachStdout?: boolean
  AttachStderr?: boolean
  ExposedPorts?: StringSet | null
  Tty?: boolean
  OpenStdin?: boolean
  StdinOnce?: boolean
  Env?: string[] | null
  Cmd?: string[] | null
  Healthcheck?: HealthConfig | null
  Image?: string
  Volumes?: StringSet | null
  WorkingDir?: string
  Entrypoint?: string[] | null
  NetworkDisabled?: boolean
  MacAddress?: string
  OnBuild?: string[] | null
  Labels?: StringMap | null
  StopSignal?: string
  /** Seconds. */
  StopTimeout?: number | null
  Shell?: string[] | null
}

export interface PortBinding { HostIp?: string; HostPort?: string }
export interface RestartPolicy { Name?: '' | 'no' | 'always' | 'unless-stopped' | 'on-failure'; MaximumRetryCount?: number }
export interface Ulimit { Name: string; Soft: number; Hard: number }
export interface WeightDevice { Path: string; Weight: number }
export interface ThrottleDevice { Path: string; Rate: number }
export interface DeviceMapping { PathOnHost: string; PathInContainer: string; CgroupPermissions: string }
export interface DeviceRequest { Driver?: string; Count?: number; DeviceIDs?: string[]; Capabilities?: string[][]; Options?: StringMap }

export interface MountSpec {
  Type: 'bind' | 'volume' | 'tmpfs' | 'image' | 'npipe' | 'cluster'
  Source?: string
  Target: string
  ReadOnly?: boolean
  Consistency?: string
  BindOptions?: {
    Propagation?: string; NonRecursive?: boolean; CreateMountpoint?: boolean; ReadOnlyNonRecursive?: boolean; ReadOnlyForceRecursive?: boolean
  }
  VolumeOptions?: { NoCopy?: boolean; Labels?: StringMap; Subpath?: string; DriverConfig?: { Name?: string; Options?: StringMap } }
  ImageOptions?: { Subpath?: string }
  TmpfsOptions?: { SizeBytes?: number; Mode?: number; Options?: string[][] }
}

/** Limits; what `POST /containers/ID/update` may change, with RestartPolicy. */
export interface HostResources {
  CpuShares?: number
  Memory?: number
  NanoCpus?: number
  CgroupParent?: string
  BlkioWeight?: number
  BlkioWeightDevice?: WeightDevice[] | null
  BlkioDeviceReadBps?: ThrottleDevice[] | null
  BlkioDeviceWriteBps?: ThrottleDevice[] | null
  BlkioDeviceReadIOps?: ThrottleDevice[] | null
  BlkioDeviceWriteIOps?: ThrottleDevice[] | null
  CpuPeriod?: number
  CpuQuota?: number
  CpuRealtimePeriod?: number
  CpuRealtimeRuntime?: number
  CpusetCpus?: string
  CpusetMems?: string
  Devices?: DeviceMapping[] | null
  DeviceCgroupRules?: string[] | null
  DeviceRequests?: DeviceRequest[] | null
  MemoryReservation?: number
  MemorySwap?: number
  MemorySwappiness?: number | null
  OomKillDisable?: boolean | null
  PidsLimit?: number | null
  Ulimits?: Ulimit[] | null
}

/** What binds the container to its host. */
export interface HostConfig extends HostResources {
  Binds?: string[] | null
  ContainerIDFile?: string
  LogConfig?: { Type?: string; Config?: StringMap | null }
  NetworkMode?: string
  PortBindings?: Record<string, PortBinding[] | null> | null
  RestartPolicy?: RestartPolicy
  AutoRemove?: boolean
  VolumeDriver?: string
  VolumesFrom?: string[] | null
  Mounts?: MountSpec[] | null
  /** [height, width] */
  ConsoleSize?: [number, number]
  Annotations?: StringMap | null
  CapAdd?: string[] | null
  CapDrop?: string[] | null
  CgroupnsMode?: '' | 'private' | 'host'
  Dns?: string[] | null
  DnsOptions?: string[] | null
  DnsSearch?: string[] | null
  ExtraHosts?: string[] | null
  GroupAdd?: string[] | null
  IpcMode?: string
  Cgroup?: string
  Links?: string[] | null
  OomScoreAdj?: number
  PidMode?: string
  Privileged?: boolean
  PublishAllPorts?: boolean
  ReadonlyRootfs?: boolean
  SecurityOpt?: string[] | null
  StorageOpt?: StringMap | null
  Tmpfs?: StringMap | null
  UTSMode?: string
  UsernsMode?: string
  ShmSize?: number
  Sysctls?: StringMap | null
  Runtime?: string
  Isolation?: string
  MaskedPaths?: string[] | null
  ReadonlyPaths?: string[] | null
  Init?: boolean | null
}

export interface EndpointSettings {
  IPAMConfig?: { IPv4Address?: string; IPv6Address?: string; LinkLocalIPs?: string[] } | null
  Links?: string[] | null
  Aliases?: string[] | null
  MacAddress?: string
  DriverOpts?: StringMap | null
  GwPriority?: number
  NetworkID?: string
  EndpointID?: string
  Gateway?: string
  IPAddress?: string
  IPPrefixLen?: number
  IPv6Gateway?: string
  GlobalIPv6Address?: string
  GlobalIPv6PrefixLen?: number
  DNSNames?: string[] | null
}

export interface CreateContainer {
  /** Without the slash; made up when left out. */
  name?: string
  /** `os/arch[/variant]` */
  platform?: string
  config: ContainerConfig
  hostConfig: HostConfig
  endpoints: Record<string, EndpointSettings>
}

export interface HealthResult { Start: string; End: string; ExitCode: number; Output: string }
export interface Health { Status: 'none' | 'starting' | 'healthy' | 'unhealthy'; FailingStreak: number; Log: HealthResult[] | null }

export interface ContainerState {
  Status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  Running: boolean
  Paused: boolean
  Restarting: boolean
  OOMKilled: boolean
  Dead: boolean
  Pid: number
  ExitCode: number
  Error: string
  StartedAt: string
  FinishedAt: string
  Health?: Health
}

/** A mount as `inspect` and `ps` show it. */
export interface MountPoint {
  Type: string
  Name?: string
  Source: string
  Destination: string
  Driver?: string
  Mode: string
  RW: boolean
  Propagation: string
}

export interface NetworkSettings {
  Bridge: string
  SandboxID: string
  SandboxKey: string
  Ports: Record<string, PortBinding[] | null>
  HairpinMode: boolean
  LinkLocalIPv6Address: string
  LinkLocalIPv6PrefixLen: number
  SecondaryIPAddresses: null
  SecondaryIPv6Addresses: null
  EndpointID: string
  Gateway: string
  GlobalIPv6Address: string
  GlobalIPv6PrefixLen: number
  IPAddress: string
  IPPrefixLen: number
  IPv6Gateway: string
  MacAddress: string
  Networks: Record<string, EndpointSettings>
}

export interface ContainerInspect {
  Id: string
  Created: string
  Path: string
  Args: string[]
  State: ContainerState
  Image: string
  ResolvConfPath: string
  HostnamePath: string
  HostsPath: string
  LogPath: string
  /** With the slash. */
  Name: string
  RestartCount: number
  Driver: string
  Platform: string
  MountLabel: string
  ProcessLabel: string
  AppArmorProfile: string
  ExecIDs: string[] | null
  HostConfig: HostConfig
  GraphDriver: { Name: string; Data: StringMap | null }
  SizeRw?: number
  SizeRootFs?: number
  Mounts: MountPoint[]
  Config: ContainerConfig
  NetworkSettings: NetworkSettings
}

export interface Port { IP?: string; PrivatePort: number; PublicPort?: number; Type: string }

/** One row of `docker ps`. */
export interface ContainerSummary {
  Id: string
  Names: string[]
  Image: string
  ImageID: string
  Command: string
  /** Unix seconds. */
  Created: number
  Ports: Port[]
  Labels: StringMap
  State: ContainerState['Status']
  Status: string
  HostConfig: { NetworkMode: string; Annotations?: StringMap }
  NetworkSettings: { Networks: Record<string, EndpointSettings> }
  Mounts: MountPoint[]
  SizeRw?: number
  SizeRootFs?: number
}

export interface ExecConfig {
  User?: string
  Privileged?: boolean
  Tty?: boolean
  ConsoleSize?: [number, number]
  AttachStdin?: boolean
  AttachStdout?: boolean
  AttachStderr?: boolean
  DetachKeys?: string
  Env?: string[] | null
  WorkingDir?: string
  Cmd: string[]
}

export interface ExecInspect {
  ID: string
  Running: boolean
  ExitCode: number | null
  ProcessConfig: { tty: boolean; entrypoint: string; arguments: string[]; privileged: boolean; user?: string }
  OpenStdin: boolean
  OpenStdout: boolean
  OpenStderr: boolean
  CanRemove: boolean
  ContainerID: string
  DetachKeys: string
  Pid: number
}

/** What `docker cp` learns of a path. `mode` is Go's FileMode number. */
export interface PathStat { name: string; size: number; mode: number; mtime: string; linkTarget: string }

/** 0 changed, 1 added, 2 deleted. */
export interface FilesystemChange { Path: string; Kind: 0 | 1 | 2 }

export interface CpuStats {
  cpu_usage: { total_usage: number; percpu_usage?: number[]; usage_in_kernelmode: number; usage_in_usermode: number }
  system_cpu_usage?: number
  online_cpus?: number
  throttling_data: { periods: number; throttled_periods: number; throttled_time: number }
}
export interface BlkioEntry { major: number; minor: number; op: string; value: number }
export interface Stats {
  name: string
  id: string
  read: string
  preread: string
  pids_stats: { current?: number; limit?: number }
  blkio_stats: Record<string, BlkioEntry[] | null>
  num_procs: number
  storage_stats: Record<string, never>
  cpu_stats: CpuStats
  precpu_stats: CpuStats
  memory_stats: { usage?: number; max_usage?: number; stats?: Record<string, number>; failcnt?: number; limit?: number }
  networks?: Record<string, {
    rx_bytes: number; rx_packets: number; rx_errors: number; rx_dropped: number
    tx_bytes: number; tx_packets: number; tx_errors: number; tx_dropped: number
  }>
}

export interface ImageSummary {
  Id: string
  ParentId: string
  RepoTags: string[]
  RepoDigests: string[]
  /** Unix seconds. */
  Created: number
  Size: number
  /** −1: not asked for. */
  SharedSize: number
  Containers: number
  Labels: StringMap | null
}

export interface ImageInspect {
  Id: string
  RepoTags: string[]
  RepoDigests: string[]
  Parent: string
  Comment: string
  Created?: string
  /** Both are kept at every version: docker-compose 1.29 reads them. */
  Container: string
  ContainerConfig: ContainerConfig
  DockerVersion: string
  Author: string
  Config: ContainerConfig
  Architecture: string
  Variant?: string
  Os: string
  Size: number
  GraphDriver: { Name: string; Data: StringMap | null }
  RootFS: { Type: 'layers'; Layers: string[] }
  Metadata: { LastTagTime: string }
}

export interface HistoryItem { Id: string; Created: number; CreatedBy: string; Tags: string[] | null; Size: number; Comment: string }
export type ImageDeletion = { Untagged: string } | { Deleted: string }

/** Decoded `X-Registry-Auth`. */
export interface AuthConfig { username?: string; password?: string; serveraddress?: string; identitytoken?: string; registrytoken?: string }

/** One line of a progress stream. */
export interface JsonMessage {
  stream?: string
  status?: string
  id?: string
  progressDetail?: { current?: number; total?: number; units?: string; hidecounts?: boolean }
  progress?: string
  aux?: unknown
}

export interface IPAMConfig { Subnet?: string; IPRange?: string; Gateway?: string; AuxiliaryAddresses?: StringMap }
export interface IPAM { Driver?: string; Options?: StringMap | null; Config?: IPAMConfig[] | null }

export interface CreateNetwork {
  Name: string
  Driver?: string
  Scope?: string
  EnableIPv4?: boolean
  EnableIPv6?: boolean
  IPAM?: IPAM
  Internal?: boolean
  Attachable?: boolean
  Ingress?: boolean
  ConfigOnly?: boolean
  ConfigFrom?: { Network: string }
  Options?: StringMap
  Labels?: StringMap
}

export interface NetworkInspect {
  Name: string
  Id: string
  Created: string
  Scope: 'local' | 'global' | 'swarm'
  Driver: string
  EnableIPv4: boolean
  EnableIPv6: boolean
  IPAM: { Driver: string; Options: StringMap | null; Config: IPAMConfig[] }
  Internal: boolean
  Attachable: boolean
  Ingress: boolean
  ConfigFrom: { Network: string }
  ConfigOnly: boolean
  /** By container id. */
  Containers: Record<string, { Name: string; EndpointID: string; MacAddress: string; IPv4Address: string; IPv6Address: string }>
  Options: StringMap
  Labels: StringMap
}

export interface Volume {
  Name: string
  Driver: string
  Mountpoint: string
  CreatedAt?: string
  Status?: Record<string, unknown>
  Labels: StringMap | null
  Scope: 'local' | 'global'
  Options: StringMap | null
  UsageData?: { Size: number; RefCount: number } | null
}

/** `status`, `id` and `from` repeat what the newer fields say, for containers and images: old clients read them. */
export interface EventMessage {
  status?: string
  id?: string
  from?: string
  Type: 'container' | 'image' | 'network' | 'volume' | 'daemon' | 'plugin' | 'builder'
  Action: string
  Actor: { ID: string; Attributes: StringMap }
  scope: 'local' | 'swarm'
  /** Unix seconds. */
  time: number
  timeNano: number
}

export interface BuildCacheRecord {
  ID: string
  ' Parents'?: string[]
  Type: string
  Description: string
  InUse: boolean
  Shared: boolean
  Size: number
  CreatedAt: string
  LastUsedAt: string | null
  UsageCount: number
}

export interface DiskUsage {
  LayersSize: number
  Images: ImageSummary[] | null
  Containers: ContainerSummary[] | null
  Volumes: Volume[] | null
  BuildCache: BuildCacheRecord[] | null
}
