/** `docker inspect` of a container. */
import type { SandboxInfo } from '../../../../network/cnm/cnm.ts'
import type { ContainerConfig, ContainerInspect, EndpointSettings, HostConfig, MountPoint, NetworkSettings, PortBinding } from '../../model.ts'
import { commandLine } from '../../shared/image-defaults.ts'
import { parsePort } from '../../shared/ports.ts'
import { rfc3339Nano } from '../../shared/time.ts'
import type { Container } from './container.ts'
import type { Context } from './context.ts'
import { filesOf } from './sandbox.ts'

export async function inspectContainer(x: Context, c: Container, size: boolean): Promise<ContainerInspect> {
  const { record: r } = c
  const { path, args } = commandLine(r.config)
  const files = filesOf(x, c)
  const made = r.startedAtMs !== 0 || c.running
  const sizes = size ? await x.engine.containers.sizes(c.id) : undefined
  return {
    Id: c.id,
    Created: rfc3339Nano(r.createdAtMs),
    Path: path,
    Args: args,
    State: {
      Status: c.status, Running: c.running, Paused: c.paused, Restarting: c.restarting, OOMKilled: r.oomKilled, Dead: c.dead, Pid: c.alive ? c.pid : 0,
      ExitCode: r.exitCode, Error: r.error, StartedAt: rfc3339Nano(r.startedAtMs),
      // While it runs for the second time, the end of the first is still told.
      FinishedAt: rfc3339Nano(r.finishedAtMs),
      ...(c.health === undefined ? {} : { Health: c.health.inspect() }),
    },
    Image: r.imageId,
    ResolvConfPath: made ? files.resolvConf : '',
    HostnamePath: made ? files.hostname : '',
    HostsPath: made ? files.hosts : '',
    LogPath: ['json-file', 'local'].includes(r.hostConfig.LogConfig?.Type ?? '') ? x.engine.containers.logDir(c.id) : '',
    Name: `/${r.name}`,
    RestartCount: r.restartCount,
    Driver: 'overlay2',
    Platform: r.platform,
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: '',
    ExecIDs: c.execIds.size === 0 ? null : [...c.execIds],
    HostConfig: fullHostConfig(r.hostConfig),
    GraphDriver: { Name: 'overlay2', Data: null },
    ...(sizes === undefined ? {} : { SizeRw: sizes.writableBytes, SizeRootFs: sizes.rootBytes }),
    Mounts: mountPoints(c),
    Config: fullConfig(r.config),
    NetworkSettings: networkSettings(x, c),
  }
}

/** Every field there is, so that clients that index them find them. */
function fullConfig(c: ContainerConfig): ContainerConfig {
  return {
    Hostname: '', Domainname: '', User: '', AttachStdin: false, AttachStdout: false, AttachStderr: false, Tty: false, OpenStdin: false, StdinOnce: false,
    Env: [], Cmd: null, Image: '', Volumes: null, WorkingDir: '', Entrypoint: null, OnBuild: null, Labels: {},
    ...Object.fromEntries(Object.entries(c).filter(([, v]) => v !== undefined)),
  }
}

function fullHostConfig(h: HostConfig): HostConfig {
  return {
    Binds: null, ContainerIDFile: '', LogConfig: { Type: 'json-file', Config: {} }, NetworkMode: 'bridge', PortBindings: {},
    RestartPolicy: { Name: 'no', MaximumRetryCount: 0 }, AutoRemove: false, VolumeDriver: '', VolumesFrom: null, ConsoleSize: [0, 0], CapAdd: null, CapDrop: null,
    CgroupnsMode: 'host', Dns: [], DnsOptions: [], DnsSearch: [], ExtraHosts: null, GroupAdd: null, IpcMode: 'private', Cgroup: '', Links: null,
    OomScoreAdj: 0, PidMode: '', Privileged: false, PublishAllPorts: false, ReadonlyRootfs: false, SecurityOpt: null, UTSMode: '', UsernsMode: '',
    ShmSize: 67108864, Runtime: 'runc', Isolation: '', CpuShares: 0, Memory: 0, NanoCpus: 0, CgroupParent: '', BlkioWeight: 0, BlkioWeightDevice: [],
    BlkioDeviceReadBps: [], BlkioDeviceWriteBps: [], BlkioDeviceReadIOps: [], BlkioDeviceWriteIOps: [], CpuPeriod: 0, CpuQuota: 0, CpuRealtimePeriod: 0,
    CpuRealtimeRuntime: 0, CpusetCpus: '', CpusetMems: '', Devices: [], DeviceCgroupRules: null, DeviceRequests: null, MemoryReservation: 0, MemorySwap: 0,
    MemorySwappiness: null, OomKillDisable: false, PidsLimit: null, Ulimits: [], MaskedPaths: null, ReadonlyPaths: null,
    ...Object.fromEntries(Object.entries(h).filter(([, v]) => v !== undefined)),
  }
}

export function mountPoints(c: Container): MountPoint[] {
  return c.record.mounts.filter((m) => m.type !== 'tmpfs' || m.structured === true).map((m) => ({
    Type: m.type,
    ...(m.type === 'volume' && m.volume !== undefined ? { Name: m.volume } : {}),
    Source: m.source ?? '',
    Destination: m.target,
    ...(m.type === 'volume' ? { Driver: m.driver ?? 'local' } : {}),
    Mode: m.type === 'volume' && m.mode === '' && m.structured !== true && m.anonymous !== true ? 'z' : m.mode,
    RW: !m.readOnly,
    Propagation: m.propagation,
  }))
}

function split(cidr: string): [string, number] {
  const [ip = '', length = '0'] = cidr.split('/')
  return [ip, Number(length)]
}

/** By network's name: what was asked for, and while it runs what it got. */
export function endpointSettings(x: Context, c: Container): Record<string, EndpointSettings> {
  const sandbox = c.alive ? x.cnm.sandbox(c.id) : undefined
  const out: Record<string, EndpointSettings> = {}
  for (const [network, wish] of Object.entries(c.record.endpoints)) {
    const live = sandbox?.endpoints.find((e) => e.networkName === network || e.networkId === network || e.networkId === wish.NetworkID)
    const [ip, prefix] = split(live?.ipv4 ?? '')
    const [ip6, prefix6] = split(live?.ipv6 ?? '')
    out[network] = {
      IPAMConfig: wish.IPAMConfig ?? null, Links: wish.Links ?? null, Aliases: wish.Aliases ?? null, MacAddress: live?.mac ?? '',
      DriverOpts: wish.DriverOpts ?? null, GwPriority: wish.GwPriority ?? 0, NetworkID: live?.networkId ?? wish.NetworkID ?? '', EndpointID: live?.id ?? '',
      Gateway: live?.gateway ?? '', IPAddress: ip, IPPrefixLen: prefix, IPv6Gateway: live?.gatewayV6 ?? '', GlobalIPv6Address: ip6,
      GlobalIPv6PrefixLen: prefix6, DNSNames: live === undefined || live.dnsNames.length === 0 ? null : live.dnsNames,
    }
  }
  return out
}

function networkSettings(x: Context, c: Container): NetworkSettings {
  const sandbox = c.alive ? x.cnm.sandbox(c.id) : undefined
  const networks = endpointSettings(x, c)
  const bridge = networks['bridge']
  return {
    Bridge: '', SandboxID: sandbox?.sandboxId ?? '', SandboxKey: sandbox?.netnsPath ?? '', Ports: portMap(c, sandbox),
    HairpinMode: false, LinkLocalIPv6Address: '', LinkLocalIPv6PrefixLen: 0, SecondaryIPAddresses: null, SecondaryIPv6Addresses: null,
    EndpointID: bridge?.EndpointID ?? '', Gateway: bridge?.Gateway ?? '', GlobalIPv6Address: bridge?.GlobalIPv6Address ?? '',
    GlobalIPv6PrefixLen: bridge?.GlobalIPv6PrefixLen ?? 0, IPAddress: bridge?.IPAddress ?? '', IPPrefixLen: bridge?.IPPrefixLen ?? 0,
    IPv6Gateway: bridge?.IPv6Gateway ?? '', MacAddress: bridge?.MacAddress ?? '', Networks: networks,
  }
}

/** Exposed but not published: null. */
function portMap(c: Container, sandbox: SandboxInfo | undefined): Record<string, PortBinding[] | null> {
  if (sandbox === undefined) return {}
  const out: Record<string, PortBinding[] | null> = {}
  for (const key of Object.keys(c.record.config.ExposedPorts ?? {})) {
    const range = parsePort(key)
    if (range === undefined) continue
    for (let n = range.first; n <= range.last; n++) out[`${n}/${range.protocol}`] = null
  }
  for (const p of sandbox.ports) {
    const list = out[`${p.containerPort}/${p.protocol}`] ??= []
    list.push({ HostIp: p.hostIP, HostPort: String(p.hostPort) })
  }
  return out
}
