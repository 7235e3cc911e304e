/** `docker info`, `version`, `system df`. */
import { readFileSync } from 'node:fs'
import { arch, availableParallelism, hostname, release, totalmem } from 'node:os'
import type { ImagesBackend, BuildsBackend, ContainersBackend, SystemBackend } from '../backend.ts'
import type { DiskUsage } from '../model.ts'
import { LOG_DRIVERS } from '../shared/validate.ts'
import type { LocalContainers } from './containers/index.ts'
import { findProgram, readHostFacts } from './containers/host-facts.ts'
import type { Parts } from './parts.ts'
import type { LocalVolumes } from './volumes.ts'

/** The Docker version whose behaviour this engine has. */
export const DOCKER_VERSION = '28.2.2'
const ARCH: Record<string, string> = { x64: 'amd64', arm64: 'arm64', arm: 'arm' }
const MACHINE: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', arm: 'armv7l' }

export interface SystemDeps {
  parts: Parts
  containers: LocalContainers
  images: ImagesBackend
  builds: BuildsBackend
  volumes: LocalVolumes
  /** Name of this engine; default the machine's. */
  name?: string
  /** 64 hex digits, the same as long as the data directory lives. */
  id: string
}

export function createSystem(d: SystemDeps): SystemBackend {
  const { engine } = d.parts
  const versions = (): ReturnType<typeof engine.version> => engine.version().catch(() => ({ containerd: 'unknown', runc: 'unknown' }))
  const mirrors = engine.images.registries.mirrors.map(m => m.href)
  return {
    async info() {
      const [images, versionsNow, drivers] = await Promise.all([
        d.images.list({ all: true, sharedSize: false, filters: {} }), versions(), d.parts.volumes.drivers(),
      ])
      const counts = d.containers.counts()
      const facts = readHostFacts()
      const v2 = facts.cgroupV2
      return {
        ID: d.id, Containers: counts.all, ContainersRunning: counts.running, ContainersPaused: counts.paused, ContainersStopped: counts.stopped,
        Images: images.length, Driver: 'overlay2', DriverStatus: [['Backing Filesystem', 'extfs'], ['Supports d_type', 'true'], ['Native Overlay Diff', 'true']],
        Plugins: { Volume: drivers, Network: ['bridge', 'host', 'ipvlan', 'macvlan', 'null'], Authorization: null, Log: LOG_DRIVERS },
        MemoryLimit: true, SwapLimit: facts.swapLimit, CpuCfsPeriod: true, CpuCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
        IPv4Forwarding: readFlag('/proc/sys/net/ipv4/ip_forward'), BridgeNfIptables: false, BridgeNfIp6tables: false, Debug: false,
        NFd: 0, OomKillDisable: !v2, NGoroutines: 0, SystemTime: new Date().toISOString(), LoggingDriver: 'json-file', CgroupDriver: 'cgroupfs',
        CgroupVersion: v2 ? '2' : '1', NEventsListener: 0, KernelVersion: release(), OperatingSystem: operatingSystem().name,
        OSVersion: operatingSystem().version, OSType: 'linux', Architecture: MACHINE[arch()] ?? arch(), IndexServerAddress: 'https://index.docker.io/v1/',
        RegistryConfig: {
          IndexConfigs: { 'docker.io': { Name: 'docker.io', Mirrors: mirrors, Secure: true, Official: true } },
          InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8'], Mirrors: mirrors.length === 0 ? null : mirrors,
        },
        NCPU: availableParallelism(), MemTotal: totalmem(), GenericResources: null, DockerRootDir: d.parts.dataDir, HttpProxy: '', HttpsProxy: '', NoProxy: '',
        Name: d.name ?? hostname(), Labels: [], ExperimentalBuild: false, ServerVersion: DOCKER_VERSION,
        Runtimes: Object.fromEntries(facts.runtimes.map((r) => [r, { path: r.startsWith('io.') ? 'runc' : r }])), DefaultRuntime: 'runc',
        Swarm: { NodeID: '', NodeAddr: '', LocalNodeState: 'inactive', ControlAvailable: false, Error: '', RemoteManagers: null },
        LiveRestoreEnabled: true, Isolation: '', InitBinary: findProgram('docker-init') === undefined ? 'tini' : 'docker-init',
        ContainerdCommit: { ID: versionsNow.containerd }, RuncCommit: { ID: versionsNow.runc }, InitCommit: { ID: '' },
        SecurityOptions: ['name=seccomp,profile=builtin', ...(v2 ? ['name=cgroupns'] : [])], FirewallBackend: { Driver: 'nftables' }, CDISpecDirs: [],
        Warnings: facts.swapLimit ? null : ['WARNING: No swap limit support'],
      }
    },
    async version() {
      const v = await versions()
      const common = { GitCommit: 'gantry', GoVersion: `node ${process.version}`, Os: 'linux', Arch: ARCH[arch()] ?? arch(), KernelVersion: release() }
      return {
        Platform: { Name: 'Gantry' },
        Components: [
          { Name: 'Engine', Version: DOCKER_VERSION, Details: { ...common, ApiVersion: '1.50', MinAPIVersion: '1.24', BuildTime: '', Experimental: 'false' } },
          { Name: 'containerd', Version: v.containerd, Details: { GitCommit: '' } },
          { Name: 'runc', Version: v.runc, Details: { GitCommit: '' } },
        ],
        Version: DOCKER_VERSION, ...common, BuildTime: '',
      }
    },
    async diskUsage(kinds) {
      const wants = (kind: (typeof kinds)[number]): boolean => kinds.length === 0 || kinds.includes(kind)
      const [images, containers, volumes, cache] = await Promise.all([
        wants('image') ? d.images.list({ all: true, sharedSize: true, filters: {} }) : null,
        wants('container') ? rows(d.containers.backend) : null,
        wants('volume') ? d.volumes.diskUsage() : null,
        wants('build-cache') ? d.builds.cache() : null,
      ])
      const used = new Map<string, number>()
      for (const i of images ?? []) used.set(i.Id, d.containers.index.byImage(i.Id).length)
      const out: DiskUsage = {
        // What several images share counts once for the one that is largest without it.
        LayersSize: (images ?? []).reduce((sum, i) => sum + i.Size - Math.max(0, i.SharedSize), 0) + Math.max(0, ...(images ?? []).map((i) => i.SharedSize)),
        Images: images?.map((i) => ({ ...i, Containers: used.get(i.Id) ?? 0 })) ?? null,
        Containers: containers, Volumes: volumes, BuildCache: cache,
      }
      return out
    },
  }
}

const rows = (c: ContainersBackend): ReturnType<ContainersBackend['list']> => c.list({ all: true, size: true, filters: {} })

function readFlag(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').trim() === '1'
  } catch {
    return false
  }
}

function operatingSystem(): { name: string; version: string } {
  try {
    const fields = new Map(readFileSync('/etc/os-release', 'utf8').split('\n').map((l) => {
      const [k = '', v = ''] = l.split('=', 2)
      return [k, v.replace(/^"|"$/g, '')] as const
    }))
    return { name: fields.get('PRETTY_NAME') ?? 'Linux', version: fields.get('VERSION_ID') ?? '' }
  } catch {
    return { name: 'Linux', version: '' }
  }
}
