/** What dockerd refuses when a container is made, in its words. Nothing here looks at the machine: facts of it are given. */
import { isIP } from 'node:net'
import { DockerError } from '../errors.ts'
import type { ContainerConfig, CreateContainer, EndpointSettings, HostConfig, HostResources, RestartPolicy } from '../model.ts'
import { parseNetworkMode } from './network-mode.ts'
import { isHostPort, parsePort } from './ports.ts'
import { normalizeCapabilities, parseSecurityOptions } from './security.ts'

/** `cpus` and `memoryNodes` are sets, by number, of what containers may use. */
export interface HostFacts { cpus: ReadonlySet<number>; memoryNodes: ReadonlySet<number>; runtimes: readonly string[] }

const MS = 1_000_000
const MIN_MEMORY = 6 * 2 ** 20
const LOG_OPTIONS: Record<string, readonly string[]> = {
  'json-file': ['max-size', 'max-file', 'compress', 'labels', 'labels-regex', 'env', 'env-regex', 'tag', 'mode', 'max-buffer-size'],
  local: ['max-size', 'max-file', 'compress', 'mode', 'max-buffer-size'],
  none: [],
  syslog: [
    'syslog-address', 'syslog-facility', 'syslog-format', 'syslog-tls-ca-cert', 'syslog-tls-cert', 'syslog-tls-key', 'syslog-tls-skip-verify', 'labels',
    'labels-regex', 'env', 'env-regex', 'tag', 'mode', 'max-buffer-size', 'cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress',
  ],
  fluentd: [
    'fluentd-address', 'fluentd-async', 'fluentd-async-connect', 'fluentd-async-reconnect-interval', 'fluentd-buffer-limit', 'fluentd-max-retries',
    'fluentd-request-ack', 'fluentd-retry-wait', 'fluentd-sub-second-precision', 'fluentd-write-timeout', 'labels', 'labels-regex', 'env', 'env-regex',
    'tag', 'mode', 'max-buffer-size', 'cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress',
  ],
}
export const LOG_DRIVERS = Object.keys(LOG_OPTIONS)

const invalid = (message: string): DockerError => new DockerError('invalid', message)

/** Answers warnings; throws `invalid` for the first thing that is wrong. */
export function validateCreate(request: CreateContainer, host: HostFacts): string[] {
  const { config, hostConfig } = request
  const warnings: string[] = []
  validateModes(config, hostConfig)
  validateConfig(config)
  validateHostConfig(hostConfig, host)
  warnings.push(...validateResources(hostConfig, host, undefined))
  validateNetwork(config, hostConfig, request.endpoints)
  if (parseNetworkMode(hostConfig.NetworkMode).kind === 'host' && Object.keys(hostConfig.PortBindings ?? {}).length > 0) {
    warnings.push('Published ports are discarded when using host network mode')
  }
  return warnings
}

/** Options that exclude each other. */
function validateModes(config: ContainerConfig, host: HostConfig): void {
  const mode = parseNetworkMode(host.NetworkMode)
  const hasHostname = (config.Hostname ?? '') !== ''
  if (hasHostname && host.UTSMode === 'host') throw invalid('conflicting options: hostname and the UTS mode')
  if (mode.kind === 'host' && (host.Links?.length ?? 0) > 0) {
    throw invalid('conflicting options: host type networking can\'t be used with links. This would result in undefined behavior')
  }
  if (mode.kind === 'container') {
    if (mode.name === '') throw invalid('invalid container format container:<name|id>')
    const conflict = hasHostname ? 'hostname and the network mode'
      : (host.Links?.length ?? 0) > 0 ? 'container type network can\'t be used with links. This would result in undefined behavior'
        : (host.Dns?.length ?? 0) > 0 ? 'dns and the network mode'
          : (host.ExtraHosts?.length ?? 0) > 0 ? 'custom host-to-IP mapping and the network mode'
            : (config.MacAddress ?? '') !== '' ? 'mac-address and the network mode'
              : Object.keys(host.PortBindings ?? {}).length > 0 || host.PublishAllPorts === true ? 'port publishing and the container type network mode'
                : Object.keys(config.ExposedPorts ?? {}).length > 0 ? 'port exposing and the container type network mode' : undefined
    if (conflict !== undefined) throw invalid(`conflicting options: ${conflict}`)
  }
  for (const [kind, value, allowed] of [
    ['IPC', host.IpcMode, ['private', 'host', 'shareable', 'none']], ['PID', host.PidMode, ['host']], ['UTS', host.UTSMode, ['host']],
    ['user namespace', host.UsernsMode, ['host']],
  ] as const) {
    if (value === undefined || value === '' || (allowed as readonly string[]).includes(value)) continue
    const shared = kind === 'IPC' || kind === 'PID' ? /^container:.+/.test(value) : false
    if (!shared) throw invalid(`invalid ${kind} mode: ${value}`)
  }
  if (host.CgroupnsMode !== undefined && !['', 'private', 'host'].includes(host.CgroupnsMode)) {
    throw invalid(`invalid cgroup namespace mode: ${host.CgroupnsMode}`)
  }
}

function validateConfig(config: ContainerConfig): void {
  if (config.WorkingDir !== undefined && config.WorkingDir !== '' && !config.WorkingDir.startsWith('/')) {
    throw invalid(`the working directory '${config.WorkingDir}' is invalid, it needs to be an absolute path`)
  }
  if (Buffer.byteLength(config.Hostname ?? '') > 64) {
    throw invalid(`hostname ${JSON.stringify(config.Hostname)} is too long (maximum 64 bytes)`)
  }
  for (const entry of config.Env ?? []) {
    if (entry === '' || entry.startsWith('=')) throw invalid(`invalid environment variable: ${entry}`)
  }
  for (const port of Object.keys(config.ExposedPorts ?? {})) if (parsePort(port) === undefined) throw invalid(`invalid port specification: "${port}"`)
  const health = config.Healthcheck
  if (health == null) return
  for (const [name, value] of [
    ['Interval', health.Interval], ['Timeout', health.Timeout], ['StartPeriod', health.StartPeriod], ['StartInterval', health.StartInterval],
  ] as const) {
    if (value !== undefined && value !== 0 && value < MS) throw invalid(`${name} in Healthcheck cannot be less than 1ms`)
  }
  if ((health.Retries ?? 0) < 0) throw invalid('Retries in Healthcheck cannot be negative')
  const kind = health.Test?.[0]
  if (kind !== undefined && !['', 'NONE', 'CMD', 'CMD-SHELL'].includes(kind)) throw invalid(`Unknown healthcheck type '${kind}'`)
}

export function validateRestartPolicy(policy: RestartPolicy | undefined): void {
  const name = policy?.Name ?? ''
  const count = policy?.MaximumRetryCount ?? 0
  if (!['', 'no', 'always', 'unless-stopped', 'on-failure'].includes(name)) {
    throw invalid(`invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`)
  }
  if (name === 'on-failure') {
    if (count < 0) throw invalid('invalid restart policy: maximum retry count cannot be negative')
  } else if (count !== 0) {
    throw invalid(`invalid restart policy: maximum retry count can only be used with 'on-failure'${count < 0 ? ' and cannot be negative' : ''}`)
  }
}

function validateHostConfig(host: HostConfig, facts: HostFacts): void {
  validateRestartPolicy(host.RestartPolicy)
  if (host.AutoRemove === true && !['', 'no'].includes(host.RestartPolicy?.Name ?? '')) throw invalid('can\'t create \'AutoRemove\' container with restart policy')
  for (const entry of host.ExtraHosts ?? []) {
    const at = entry.indexOf(':')
    if (at <= 0 || at === entry.length - 1) throw invalid(`invalid extra host: bad format for add-host: "${entry}"`)
    const ip = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
    if (ip !== 'host-gateway' && isIP(ip) === 0) throw invalid(`invalid IP address in add-host: "${ip}"`)
  }
  for (const [key, bindings] of Object.entries(host.PortBindings ?? {})) {
    if (parsePort(key) === undefined) throw invalid(`invalid port specification: "${key}"`)
    for (const b of bindings ?? []) if (!isHostPort(b.HostPort ?? '')) throw invalid(`invalid port specification: "${b.HostPort}"`)
    for (const b of bindings ?? []) {
      if ((b.HostIp ?? '') !== '' && isIP(b.HostIp!) === 0) throw invalid(`invalid IP address: ${b.HostIp}`)
    }
  }
  for (const ip of host.Dns ?? []) if (isIP(ip) === 0) throw invalid(`invalid IP address: ${ip}`)
  normalizeCapabilities(host.CapAdd)
  normalizeCapabilities(host.CapDrop)
  parseSecurityOptions(host.SecurityOpt ?? [])
  if (host.Isolation !== undefined && !['', 'default'].includes(host.Isolation)) throw invalid(`invalid isolation '${host.Isolation}' on linux`)
  if (Object.keys(host.Annotations ?? {}).includes('')) throw invalid('invalid Annotations: the empty string is not permitted as an annotation key')
  if ((host.ShmSize ?? 0) < 0) throw invalid('SHM size can not be less than 0')
  if (Math.abs(host.OomScoreAdj ?? 0) > 1000) throw invalid(`Invalid value ${host.OomScoreAdj}, range for oom score adj is [-1000, 1000]`)
  if (host.Runtime !== undefined && host.Runtime !== '' && !facts.runtimes.includes(host.Runtime)) throw invalid(`unknown or invalid runtime name: ${host.Runtime}`)
  if (Object.keys(host.StorageOpt ?? {}).length > 0) {
    throw invalid('--storage-opt is supported only for overlay over xfs with \'pquota\' mount option')
  }
  validateLog(host)
}

function validateLog(host: HostConfig): void {
  const type = host.LogConfig?.Type ?? ''
  const known = LOG_OPTIONS[type === '' ? 'json-file' : type]
  if (known === undefined) throw invalid(`error looking up logging plugin ${type}: plugin "${type}" not found`)
  for (const key of Object.keys(host.LogConfig?.Config ?? {})) {
    if (!known.includes(key)) throw invalid(`unknown log opt '${key}' for ${type === '' ? 'json-file' : type} log driver`)
  }
  const { 'max-size': size, 'max-file': files } = host.LogConfig?.Config ?? {}
  if (size !== undefined && logBytes(size) === undefined) throw invalid(`invalid value for max-size: ${size}`)
  if (files !== undefined && !(Number.isInteger(Number(files)) && Number(files) >= 1)) throw invalid('max-file cannot be less than 1')
}

/** `10m` → bytes; undefined if it is none. −1 is no limit. */
export function logBytes(text: string): number | undefined {
  const match = /^(-1|\d+(?:\.\d+)?)\s*([kKmMgG]?)[iI]?[bB]?$/.exec(text)
  if (match === null) return undefined
  return Math.floor(Number(match[1]) * { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[match[2]!.toLowerCase() as '' | 'k' | 'm' | 'g'])
}

/** `before`: what holds already, for an update. */
export function validateResources(r: HostResources, host: HostFacts, before: HostResources | undefined): string[] {
  const warnings: string[] = []
  const memory = r.Memory || before?.Memory || 0
  const swap = r.MemorySwap || before?.MemorySwap || 0
  if ((r.Memory ?? 0) !== 0 && r.Memory! < MIN_MEMORY) throw invalid('Minimum memory limit allowed is 6MB')
  if (memory > 0 && swap > 0 && swap < memory) {
    throw before === undefined
      ? invalid('Minimum memoryswap limit should be larger than memory limit, see usage')
      : new DockerError('conflict', 'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time')
  }
  if (memory === 0 && swap > 0) throw invalid('You should always set the Memory limit when using Memoryswap limit, see usage')
  const swappiness = r.MemorySwappiness
  if (swappiness != null && swappiness !== -1 && (swappiness < 0 || swappiness > 100)) {
    throw invalid(`Invalid value: ${swappiness}, valid memory swappiness range is 0-100`)
  }
  const reservation = r.MemoryReservation ?? 0
  if (reservation !== 0 && reservation < MIN_MEMORY) throw invalid('Minimum memory reservation allowed is 6MB')
  if (memory > 0 && reservation > memory) throw invalid('Minimum memory limit can not be less than memory reservation limit, see usage')
  if (r.OomKillDisable === true && memory === 0) {
    warnings.push('OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.')
  }
  validateCpu(r, host, before)
  const weight = r.BlkioWeight ?? 0
  if (weight !== 0 && (weight < 10 || weight > 1000)) throw invalid('Range of blkio weight is from 10 to 1000')
  for (const request of r.DeviceRequests ?? []) {
    const capabilities = JSON.stringify(request.Capabilities ?? []).replaceAll(',', ' ').replaceAll('"', '')
    throw new DockerError('failed', `could not select device driver ${JSON.stringify(request.Driver ?? '')} with capabilities: ${capabilities}`)
  }
  for (const rule of r.DeviceCgroupRules ?? []) {
    if (!/^[acb] (\d+|\*):(\d+|\*) [rwm]{1,3}$/.test(rule)) throw invalid(`invalid device cgroup rule format: '${rule}'`)
  }
  for (const d of r.Devices ?? []) {
    if (!/^[rwm]{0,3}$/.test(d.CgroupPermissions)) throw invalid(`invalid device mode: ${d.CgroupPermissions}`)
  }
  for (const u of r.Ulimits ?? []) {
    if (u.Soft > u.Hard && u.Hard !== -1) throw invalid(`ulimit soft limit must be less than or equal to hard limit: ${u.Soft} > ${u.Hard}`)
  }
  return warnings
}

function validateCpu(r: HostResources, host: HostFacts, before: HostResources | undefined): void {
  const nano = r.NanoCpus ?? 0
  if (nano !== 0 && (r.CpuPeriod ?? 0) !== 0) throw invalid('Conflicting options: Nano CPUs and CPU Period cannot both be set')
  if (nano !== 0 && (r.CpuQuota ?? 0) !== 0) throw invalid('Conflicting options: Nano CPUs and CPU Quota cannot both be set')
  if (before !== undefined) {
    const conflict = (what: string): DockerError => new DockerError('conflict', `Conflicting options: ${what}`)
    if (nano !== 0 && ((before.CpuPeriod ?? 0) !== 0 || (before.CpuQuota ?? 0) !== 0)) {
      throw conflict('Nano CPUs cannot be updated as CPU Period/CPU Quota have already been set')
    }
    if ((before.NanoCpus ?? 0) !== 0 && ((r.CpuPeriod ?? 0) !== 0 || (r.CpuQuota ?? 0) !== 0)) {
      throw conflict('CPU Period/CPU Quota cannot be updated as NanoCPUs has already been set')
    }
  }
  if (nano < 0 || nano > host.cpus.size * 1e9 || (nano > 0 && nano < 1e7)) {
    throw invalid(`range of CPUs is from 0.01 to ${host.cpus.size}.00, as there are only ${host.cpus.size} CPUs available`)
  }
  if ((r.CpuShares ?? 0) < 0) throw invalid(`invalid CPU shares (${r.CpuShares}): value must be a positive integer`)
  const period = r.CpuPeriod ?? 0
  if (period !== 0 && (period < 1000 || period > 1_000_000)) {
    throw invalid('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)')
  }
  const quota = r.CpuQuota ?? 0
  if (quota > 0 && quota < 1000) throw invalid('CPU cfs quota can not be less than 1ms (i.e. 1000)')
  if ((r.CpuRealtimePeriod ?? 0) !== 0 && (r.CpuRealtimeRuntime ?? 0) > r.CpuRealtimePeriod!) {
    throw invalid('cpu real-time runtime cannot be higher than cpu real-time period')
  }
  checkSet('cpuset cpus', 'CPUs', r.CpusetCpus, host.cpus)
  checkSet('cpuset mems', 'memory nodes', r.CpusetMems, host.memoryNodes)
}

function checkSet(what: string, plural: string, text: string | undefined, available: ReadonlySet<number>): void {
  if (text === undefined || text === '') return
  const asked = parseSet(text)
  if (asked === undefined) throw invalid(`Invalid value ${text} for ${what}`)
  if (asked.some((n) => !available.has(n))) throw invalid(`Requested ${plural} are not available - requested ${text}, available: ${formatSet(available)}`)
}

/** `0-2,5` → numbers; undefined if it is none. */
export function parseSet(text: string): number[] | undefined {
  const out: number[] = []
  for (const part of text.split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim())
    if (match === null) return undefined
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])]
    if (to < from || to > 8192) return undefined
    for (let n = from; n <= to; n++) out.push(n)
  }
  return out
}

function formatSet(numbers: ReadonlySet<number>): string {
  const sorted = [...numbers].sort((a, b) => a - b)
  const parts: string[] = []
  for (let i = 0; i < sorted.length;) {
    let end = i
    while (end + 1 < sorted.length && sorted[end + 1] === sorted[end]! + 1) end++
    parts.push(end === i ? String(sorted[i]) : `${sorted[i]}-${sorted[end]}`)
    i = end + 1
  }
  return parts.join(',')
}

function validateNetwork(config: ContainerConfig, host: HostConfig, endpoints: Record<string, EndpointSettings>): void {
  const mode = parseNetworkMode(host.NetworkMode)
  const names = Object.keys(endpoints)
  if (names.length > 1 && mode.kind === 'container') {
    throw invalid('conflicting options: cannot attach both user-defined and non-user-defined network-modes')
  }
  for (const [name, e] of Object.entries(endpoints)) {
    if (e === null) throw invalid(`invalid config for network ${name}: EndpointsConfig is nil`)
    validateEndpoint(name, e)
  }
  if ((config.MacAddress ?? '') !== '' && !isMac(config.MacAddress!)) throw invalid(`invalid MAC address: ${config.MacAddress}`)
  for (const key of Object.keys(host.Sysctls ?? {})) {
    if (mode.kind === 'host' && key.startsWith('net.')) {
      throw invalid(`sysctl "${key}" not allowed in host network namespace`)
    }
  }
}

const isMac = (text: string): boolean => /^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)

/** An endpoint's own fields; what its network allows is checked where networks are. */
export function validateEndpoint(network: string, e: EndpointSettings): void {
  const problems: string[] = []
  const { IPv4Address: v4, IPv6Address: v6, LinkLocalIPs: local } = e.IPAMConfig ?? {}
  if ((v4 ?? '') !== '' && isIP(v4!) !== 4) problems.push(`invalid IPv4 address: ${v4}`)
  if ((v6 ?? '') !== '' && isIP(v6!) !== 6) problems.push(`invalid IPv6 address: ${v6}`)
  for (const ip of local ?? []) if (isIP(ip) === 0) problems.push(`invalid link-local IP address: ${ip}`)
  if ((e.MacAddress ?? '') !== '' && !isMac(e.MacAddress!)) problems.push(`invalid MAC address: ${e.MacAddress}`)
  const kind = parseNetworkMode(network).kind
  if (kind !== 'user') {
    if ((v4 ?? '') !== '' || (v6 ?? '') !== '') problems.push('user specified IP address is supported on user defined networks only')
    if ((e.Aliases?.length ?? 0) > 0) problems.push('network-scoped alias is supported only for containers in user defined networks')
  }
  if (problems.length > 0) throw invalid(`invalid config for network ${network}: invalid endpoint settings:\n${problems.join('\n')}`)
}
