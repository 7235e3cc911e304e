/**
 * What the API's versions differ in. Backends speak the newest alone: a gate `below` a version lifts an older client's request to it, or
 * lowers an answer to what that client knows. Source: moby's API history, 1.24 to 1.50; the sheet's section 4.1.
 */
import type {
  ContainerConfig, ContainerInspect, ContainerSummary, CreateContainer, CreateNetwork, DiskUsage, EndpointSettings, ExecConfig, HostResources,
  ImageInspect, ImageSummary, JsonMessage, MountSpec, NetworkInspect,
} from '../model.ts'
import { DockerError } from '../errors.ts'
import type { Filters } from '../backend.ts'
import type { ApiMinor } from './version-number.ts'

interface Gate<T> {
  /** Applies to clients of versions below 1.`below`; `from`: to those of 1.`from` and above. */
  below?: ApiMinor
  from?: ApiMinor
  change(value: T): void
}

function apply<T>(gates: readonly Gate<T>[], version: ApiMinor, value: T): T {
  for (const g of gates) if (version < (g.below ?? Infinity) && version >= (g.from ?? 0)) g.change(value)
  return value
}

/** Single facts that routes ask for. */
export const gate = {
  waitAnswersAtOnce: (v: ApiMinor) => v >= 30,
  buildAux: (v: ApiMinor) => v >= 30,
  platform: (v: ApiMinor) => v >= 32,
  createPlatform: (v: ApiMinor) => v >= 41,
  oneShotStats: (v: ApiMinor) => v >= 41,
  multiplexedType: (v: ApiMinor) => v >= 42,
  stopSignal: (v: ApiMinor) => v >= 42,
  sharedSize: (v: ApiMinor) => v >= 42,
  diskUsageTypes: (v: ApiMinor) => v >= 42,
  imagePlatform: (v: ApiMinor) => v >= 48,
  keepBytesNames: (v: ApiMinor) => v >= 48,
} as const

interface Create extends CreateContainer { warnings: string[] }

const mountsOf = (r: CreateContainer): MountSpec[] => r.hostConfig.Mounts ?? []
const INTERFACE_SYSCTL = /^(net\.ipv[46]\.(?:conf|neigh))\.(eth\d+)\.(.+)$/
const SYSCTLS_OPTION = 'com.docker.network.endpoint.sysctls'

const createGates: readonly Gate<Create>[] = [
  { below: 25, change: r => { delete r.hostConfig.AutoRemove } },
  {
    below: 40, change(r) {
      if (!r.hostConfig.IpcMode) r.hostConfig.IpcMode = 'shareable'
      delete r.hostConfig.PidsLimit
      for (const m of mountsOf(r)) delete m.BindOptions?.NonRecursive
    },
  },
  {
    below: 42, change(r) {
      for (const m of mountsOf(r)) {
        delete m.BindOptions?.CreateMountpoint
        // Options of another type of mount were passed over.
        if (m.Type !== 'bind') delete m.BindOptions
        if (m.Type !== 'volume') delete m.VolumeOptions
        if (m.Type !== 'tmpfs') delete m.TmpfsOptions
      }
    },
  },
  { below: 43, change: r => { delete r.hostConfig.Annotations } },
  {
    below: 44, change(r) {
      delete r.config.Healthcheck?.StartInterval
      const names = Object.keys(r.endpoints)
      if (names.length > 1) throw new DockerError('invalid', `Container cannot be connected to network endpoints: ${names.join(', ')}`)
      for (const m of mountsOf(r)) {
        if (m.BindOptions === undefined) continue
        delete m.BindOptions.ReadOnlyForceRecursive
        if (m.ReadOnly === true) m.BindOptions.ReadOnlyNonRecursive = true
      }
      for (const e of Object.values(r.endpoints)) delete e.MacAddress
      if (r.config.MacAddress) endpointOfMode(r).MacAddress = r.config.MacAddress
    },
  },
  {
    from: 44, change(r) {
      const mac = r.config.MacAddress
      if (!mac) return
      const endpoint = endpointOfMode(r)
      if (endpoint.MacAddress && endpoint.MacAddress !== mac) {
        throw new DockerError('invalid', 'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty')
      }
      endpoint.MacAddress = mac
      r.warnings.push('The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.')
    },
  },
  { below: 45, change: r => { for (const m of mountsOf(r)) delete m.VolumeOptions?.Subpath } },
  {
    below: 48, change(r) {
      if (mountsOf(r).some(m => m.Type === 'image')) throw new DockerError('invalid', 'Mount type "Image" needs API v1.48 or newer')
      for (const e of Object.values(r.endpoints)) delete e.GwPriority
      moveInterfaceSysctls(r)
    },
  },
  {
    from: 48, change(r) {
      const wrong = Object.keys(r.hostConfig.Sysctls ?? {}).find(k => INTERFACE_SYSCTL.test(k))
      if (wrong === undefined) return
      throw new DockerError('invalid', `interface specific sysctl setting "${wrong}" must be supplied using driver option '${SYSCTLS_OPTION}'`)
    },
  },
]

/** The endpoint of the network the container is made in. */
function endpointOfMode(r: CreateContainer): EndpointSettings {
  const mode = r.hostConfig.NetworkMode ?? ''
  if (/^(host|none|container:.*)$/.test(mode)) {
    throw new DockerError('invalid', 'conflicting options: mac-address and the network mode')
  }
  const name = mode === '' ? 'default' : mode
  const found = ['default', 'bridge'].includes(name) ? r.endpoints['default'] ?? r.endpoints['bridge'] : r.endpoints[name]
  return found ?? (r.endpoints[name] = {})
}

/** `net.ipv4.conf.eth0.x` is the endpoint's since 1.48: only the first interface can be meant. */
function moveInterfaceSysctls(r: CreateContainer): void {
  const moved: string[] = []
  for (const [key, value] of Object.entries(r.hostConfig.Sysctls ?? {})) {
    const m = INTERFACE_SYSCTL.exec(key)
    if (m?.[2] !== 'eth0') continue
    moved.push(`${m[1]}.IFNAME.${m[3]}=${value}`)
    delete r.hostConfig.Sysctls![key]
  }
  if (moved.length === 0) return
  const endpoint = endpointOfMode(r)
  endpoint.DriverOpts = { ...endpoint.DriverOpts, [SYSCTLS_OPTION]: [endpoint.DriverOpts?.[SYSCTLS_OPTION], ...moved].filter(Boolean).join(',') }
}

/** Changes the request in place; answers warnings for the client. */
export function liftCreate(version: ApiMinor, request: CreateContainer): string[] {
  return apply(createGates, version, Object.assign(request, { warnings: [] as string[] })).warnings
}

export function liftUpdate(version: ApiMinor, resources: HostResources): void {
  if (version < 40) delete resources.PidsLimit
}

export function liftExec(version: ApiMinor, exec: Pick<ExecConfig, 'ConsoleSize'>): void {
  if (version < 42) delete exec.ConsoleSize
}

export function liftCreateNetwork(version: ApiMinor, request: CreateNetwork): void {
  if (version < 48) delete request.EnableIPv4
}

export function liftEndpoint(version: ApiMinor, endpoint: EndpointSettings): void {
  if (version < 44) delete endpoint.MacAddress
  if (version < 48) delete endpoint.GwPriority
}

/** Before 1.42 all unused volumes were pruned, since then those without a name alone unless `all` is set. */
export function liftVolumePrune(version: ApiMinor, filters: Filters): void {
  if (version < 42) filters['all'] = ['true']
}

const summaryGates: readonly Gate<ContainerSummary>[] = [
  { below: 46, change: s => { delete s.HostConfig.Annotations } },
]
export function lowerSummaries(version: ApiMinor, all: ContainerSummary[]): ContainerSummary[] {
  return version >= 46 ? all : all.map(s => apply(summaryGates, version, { ...s, HostConfig: { ...s.HostConfig } }))
}

const inspectGates: readonly Gate<ContainerInspect>[] = [
  {
    below: 44, change(c) {
      c.Config = { ...c.Config, MacAddress: c.NetworkSettings.Networks[c.HostConfig.NetworkMode ?? '']?.MacAddress ?? c.NetworkSettings.MacAddress }
    },
  },
  {
    below: 45, change(c) {
      const short = c.Id.slice(0, 12)
      const networks = Object.entries(c.NetworkSettings.Networks).map(([name, e]): [string, EndpointSettings] => {
        if (['bridge', 'default', 'host', 'none'].includes(name)) return [name, e]
        return [name, { ...e, Aliases: [...new Set([...e.Aliases ?? [], short, c.Config.Hostname ?? ''])].filter(Boolean) }]
      })
      c.NetworkSettings = { ...c.NetworkSettings, Networks: Object.fromEntries(networks) }
    },
  },
]
export function lowerInspect(version: ApiMinor, c: ContainerInspect): ContainerInspect { return apply(inspectGates, version, { ...c }) }

type OldImageSummary = ImageSummary & { VirtualSize?: number }
const imageSummaryGates: readonly Gate<OldImageSummary>[] = [
  {
    below: 43, change(i) {
      if (i.RepoTags.length > 0) return
      i.RepoTags = ['<none>:<none>']
      if (i.RepoDigests.length === 0) i.RepoDigests = ['<none>@<none>']
    },
  },
  { below: 44, change: i => { i.VirtualSize = i.Size } },
]
export function lowerImages(version: ApiMinor, all: ImageSummary[]): ImageSummary[] {
  return version >= 44 ? all : all.map(i => apply(imageSummaryGates, version, { ...i }))
}

/** In an image's configuration only what a container takes over from it. */
const NOT_OF_IMAGES = [
  'Hostname', 'Domainname', 'AttachStdin', 'AttachStdout', 'AttachStderr', 'Tty', 'OpenStdin', 'StdinOnce', 'Image', 'NetworkDisabled',
  'MacAddress', 'StopTimeout',
] as const satisfies readonly (keyof ContainerConfig)[]
const EMPTY_OF_IMAGES = {
  Hostname: '', Domainname: '', AttachStdin: false, AttachStdout: false, AttachStderr: false, Tty: false, OpenStdin: false, StdinOnce: false, Image: '',
}
const imageInspectGates: readonly Gate<ImageInspect & { VirtualSize?: number }>[] = [
  { below: 44, change: i => { i.VirtualSize = i.Size } },
  { below: 50, change: i => { i.Config = { ...EMPTY_OF_IMAGES, ...i.Config } } },
  {
    from: 50, change(i) {
      i.Config = { ...i.Config }
      for (const key of NOT_OF_IMAGES) delete i.Config[key]
    },
  },
]
/** `Container` and `ContainerConfig` stay at every version: docker-compose 1.29 reads them. */
export function lowerImageInspect(version: ApiMinor, image: ImageInspect): ImageInspect { return apply(imageInspectGates, version, { ...image }) }

const networkGates: readonly Gate<Partial<NetworkInspect>>[] = [
  { below: 48, change: n => { delete n.EnableIPv4 } },
]
export function lowerNetwork(version: ApiMinor, n: NetworkInspect): Partial<NetworkInspect> { return apply(networkGates, version, { ...n }) }

const infoGates: readonly Gate<Record<string, unknown>>[] = [
  {
    below: 25, change(i) {
      const options = (i['SecurityOptions'] ?? []) as string[]
      i['SecurityOptions'] = options.map(o => o.replace(/^name=([^,]*).*$/, '$1'))
    },
  },
  { below: 46, change: i => { delete i['Containerd'] } },
  { below: 47, change: i => { delete i['CDISpecDirs'] } },
  { below: 49, change: i => { delete i['FirewallBackend'] } },
  { below: 50, change: i => { delete i['DiscoveredDevices'] } },
  {
    from: 50, change(i) {
      delete i['BridgeNfIptables']
      delete i['BridgeNfIp6tables']
    },
  },
]
export function lowerInfo(version: ApiMinor, info: Record<string, unknown>): Record<string, unknown> { return apply(infoGates, version, { ...info }) }

type OldDiskUsage = Omit<DiskUsage, 'Images'> & { Images: OldImageSummary[] | null; BuilderSize?: number }
export function lowerDiskUsage(version: ApiMinor, usage: DiskUsage): OldDiskUsage {
  const lowered: OldDiskUsage = { ...usage }
  if (usage.Images !== null) lowered.Images = lowerImages(version, usage.Images)
  if (usage.Containers !== null) lowered.Containers = lowerSummaries(version, usage.Containers)
  if (version < 42) lowered.BuilderSize = (usage.BuildCache ?? []).reduce((sum, r) => sum + r.Size, 0)
  return lowered
}

/** Undefined: not for this client. */
export function lowerBuildMessage(version: ApiMinor, m: JsonMessage): JsonMessage | undefined {
  return m.aux !== undefined && !gate.buildAux(version) ? undefined : m
}
