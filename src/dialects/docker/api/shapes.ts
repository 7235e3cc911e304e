/**
 * What request bodies may hold. As Go's decoder, that dockerd uses, field names are matched in any case, unknown fields are passed over, and
 * null is "left out"; a value of the wrong type is refused with the field's name.
 */
import { DockerError } from '../errors.ts'

export type Shape = (value: unknown, path: string) => unknown

function wrong(path: string, wanted: string, value: unknown): DockerError {
  const is = Array.isArray(value) ? 'an array' : typeof value === 'object' ? 'an object' : `a ${typeof value}`
  return new DockerError('invalid', `invalid JSON: ${path === '' ? 'the body' : path} must be ${wanted}, not ${is}`)
}

export const text: Shape = (v, path) => {
  if (typeof v !== 'string') throw wrong(path, 'a string', v)
  return v
}
export const flag: Shape = (v, path) => {
  if (typeof v !== 'boolean') throw wrong(path, 'true or false', v)
  return v
}
export const integer: Shape = (v, path) => {
  if (typeof v !== 'number') throw wrong(path, 'an integer', v)
  if (!Number.isInteger(v)) throw new DockerError('invalid', `invalid JSON: ${path} must be an integer, not ${v}`)
  return v
}
export const list = (item: Shape): Shape => (v, path) => {
  if (!Array.isArray(v)) throw wrong(path, 'an array', v)
  return v.map((x, i) => item(x, `${path}[${i}]`))
}
/** Values that are null stay null: an exposed port without a binding. */
export const map = (item: Shape): Shape => (v, path) => {
  if (typeof v !== 'object' || v === null || Array.isArray(v)) throw wrong(path, 'an object', v)
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, x === null ? null : item(x, `${path}.${k}`)]))
}
/** A command: an array, or one string that stands for an array of one. */
export const words: Shape = (v, path) => typeof v === 'string' ? [v] : list(text)(v, path)
const set = map(v => v ?? {})
const texts = list(text)
const textMap = map(text)

export function object(fields: Record<string, Shape>): Shape {
  const byLower = new Map(Object.keys(fields).map(k => [k.toLowerCase(), k]))
  return (v, path) => {
    if (typeof v !== 'object' || v === null || Array.isArray(v)) throw wrong(path, 'an object', v)
    const out: Record<string, unknown> = {}
    for (const [k, x] of Object.entries(v)) {
      const name = byLower.get(k.toLowerCase())
      if (name !== undefined && x !== null) out[name] = fields[name]!(x, path === '' ? name : `${path}.${name}`)
    }
    return out
  }
}

const health = object({
  Test: words, Interval: integer, Timeout: integer, StartPeriod: integer, StartInterval: integer, Retries: integer,
})
const configFields: Record<string, Shape> = {
  Hostname: text, Domainname: text, User: text, AttachStdin: flag, AttachStdout: flag, AttachStderr: flag, ExposedPorts: set, Tty: flag,
  OpenStdin: flag, StdinOnce: flag, Env: texts, Cmd: words, Healthcheck: health, Image: text, Volumes: set, WorkingDir: text,
  Entrypoint: words, NetworkDisabled: flag, MacAddress: text, OnBuild: texts, Labels: textMap, StopSignal: text, StopTimeout: integer, Shell: words,
}
export const configShape = object(configFields)

const weights = list(object({ Path: text, Weight: integer }))
const rates = list(object({ Path: text, Rate: integer }))
const ulimits = list(object({ Name: text, Soft: integer, Hard: integer }))
export const ulimitsShape = ulimits
const restartPolicy = object({ Name: text, MaximumRetryCount: integer })
const resourceFields: Record<string, Shape> = {
  CpuShares: integer, Memory: integer, NanoCpus: integer, CgroupParent: text, BlkioWeight: integer, BlkioWeightDevice: weights,
  BlkioDeviceReadBps: rates, BlkioDeviceWriteBps: rates, BlkioDeviceReadIOps: rates, BlkioDeviceWriteIOps: rates, CpuPeriod: integer,
  CpuQuota: integer, CpuRealtimePeriod: integer, CpuRealtimeRuntime: integer, CpusetCpus: text, CpusetMems: text,
  Devices: list(object({ PathOnHost: text, PathInContainer: text, CgroupPermissions: text })), DeviceCgroupRules: texts,
  DeviceRequests: list(object({ Driver: text, Count: integer, DeviceIDs: texts, Capabilities: list(texts), Options: textMap })),
  MemoryReservation: integer, MemorySwap: integer, MemorySwappiness: integer, OomKillDisable: flag, PidsLimit: integer, Ulimits: ulimits,
}
export const updateShape = object({ ...resourceFields, RestartPolicy: restartPolicy })

const mounts = list(object({
  Type: text, Source: text, Target: text, ReadOnly: flag, Consistency: text,
  BindOptions: object({
    Propagation: text, NonRecursive: flag, CreateMountpoint: flag, ReadOnlyNonRecursive: flag, ReadOnlyForceRecursive: flag,
  }),
  VolumeOptions: object({ NoCopy: flag, Labels: textMap, Subpath: text, DriverConfig: object({ Name: text, Options: textMap }) }),
  ImageOptions: object({ Subpath: text }),
  TmpfsOptions: object({ SizeBytes: integer, Mode: integer, Options: list(texts) }),
}))
const portBindings = map(list(object({ HostIp: text, HostPort: text })))
const hostConfig = object({
  ...resourceFields,
  Binds: texts, ContainerIDFile: text, LogConfig: object({ Type: text, Config: textMap }), NetworkMode: text, PortBindings: portBindings,
  RestartPolicy: restartPolicy, AutoRemove: flag, VolumeDriver: text, VolumesFrom: texts, Mounts: mounts, ConsoleSize: list(integer),
  Annotations: textMap, CapAdd: words, CapDrop: words, CgroupnsMode: text, Dns: texts, DnsOptions: texts, DnsSearch: texts, ExtraHosts: texts,
  GroupAdd: texts, IpcMode: text, Cgroup: text, Links: texts, OomScoreAdj: integer, PidMode: text, Privileged: flag, PublishAllPorts: flag,
  ReadonlyRootfs: flag, SecurityOpt: texts, StorageOpt: textMap, Tmpfs: textMap, UTSMode: text, UsernsMode: text, ShmSize: integer,
  Sysctls: textMap, Runtime: text, Isolation: text, MaskedPaths: texts, ReadonlyPaths: texts, Init: flag,
})

const endpoint = object({
  IPAMConfig: object({ IPv4Address: text, IPv6Address: text, LinkLocalIPs: texts }), Links: texts, Aliases: texts, MacAddress: text,
  DriverOpts: textMap, GwPriority: integer, NetworkID: text, EndpointID: text, Gateway: text, IPAddress: text, IPPrefixLen: integer,
  IPv6Gateway: text, GlobalIPv6Address: text, GlobalIPv6PrefixLen: integer, DNSNames: texts,
})
export const createShape = object({
  ...configFields, HostConfig: hostConfig, NetworkingConfig: object({ EndpointsConfig: map(endpoint) }),
})

export const execShape = object({
  User: text, Privileged: flag, Tty: flag, ConsoleSize: list(integer), AttachStdin: flag, AttachStdout: flag, AttachStderr: flag,
  DetachKeys: text, Env: texts, WorkingDir: text, Cmd: words,
})
export const execStartShape = object({ Detach: flag, Tty: flag, ConsoleSize: list(integer) })

const ipamConfig = object({ Subnet: text, IPRange: text, Gateway: text, AuxiliaryAddresses: textMap })
export const createNetworkShape = object({
  Name: text, Driver: text, Scope: text, EnableIPv4: flag, EnableIPv6: flag,
  IPAM: object({ Driver: text, Options: textMap, Config: list(ipamConfig) }),
  Internal: flag, Attachable: flag, Ingress: flag, ConfigOnly: flag, ConfigFrom: object({ Network: text }), Options: textMap, Labels: textMap,
})
export const connectShape = object({ Container: text, EndpointConfig: endpoint })
export const disconnectShape = object({ Container: text, Force: flag })
export const createVolumeShape = object({ Name: text, Driver: text, DriverOpts: textMap, Labels: textMap })
export const authShape = object({
  username: text, password: text, auth: text, email: text, serveraddress: text, identitytoken: text, registrytoken: text,
})
