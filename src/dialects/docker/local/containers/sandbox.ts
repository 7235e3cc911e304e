/** A container's part in networks: its sandbox while it runs, its endpoints always, and the three files that speak of it. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { hostname as machineName } from 'node:os'
import { dirname, join } from 'node:path'
import { CnmError } from '../../../../network/cnm/cnm.ts'
import type { EndpointSpec, SandboxInfo, SandboxSpec } from '../../../../network/cnm/cnm.ts'
import { DockerError } from '../../errors.ts'
import type { EndpointSettings } from '../../model.ts'
import { shortId } from '../../shared/names.ts'
import { parseNetworkMode } from '../../shared/network-mode.ts'
import { publishedPorts } from '../../shared/ports.ts'
import { validateEndpoint } from '../../shared/validate.ts'
import type { ContainerEndpoints } from '../parts.ts'
import type { Container } from './container.ts'
import { dockerError, saveSoon } from './context.ts'
import type { Context } from './context.ts'
import { linkAddress, linkEnvironment, liveLinks, parseLink } from './links.ts'

export const SETUP_FAILED = 'failed to set up container networking: '

export interface Opened {
  network: { path: string } | 'host'
  files: { source: string; target: string }[]
  /** Variables of links. */
  env: string[]
  /** The kernel is set up: until then its processes must not run. Rejects in Docker's words. */
  ready: Promise<void>
}

export interface ContainerFiles { resolvConf: string; hosts: string; hostname: string }

export function filesOf(x: Context, c: Container): ContainerFiles {
  const owner = networkOwner(x, c) ?? c
  const dir = join(x.filesDir, owner.id)
  return { resolvConf: join(dir, 'resolv.conf'), hosts: join(dir, 'hosts'), hostname: join(dir, 'hostname') }
}

/** The container whose network another shares, at the end of the chain; undefined if it has its own, or the other is gone. */
export function networkOwner(x: Context, c: Container): Container | undefined {
  let at: Container | undefined = c
  for (let i = 0; i < 32 && at !== undefined; i++) {
    const mode = parseNetworkMode(at.record.hostConfig.NetworkMode)
    if (mode.kind !== 'container') return at
    at = x.registry.find(mode.name)
  }
  return undefined
}

/** All or nothing. */
export async function openSandbox(x: Context, c: Container): Promise<Opened> {
  const mode = parseNetworkMode(c.record.hostConfig.NetworkMode)
  if (mode.kind === 'container') return joinOther(x, c, mode.name)
  const env: string[] = []
  try {
    const spec = sandboxSpec(x, c)
    if (mode.kind === 'bridge') {
      const hostsLinks: NonNullable<SandboxSpec['hostsLinks']> = []
      for (const link of liveLinks(x, c)) {
        const ip = linkAddress(x, link.target)
        const { Hostname: host = '' } = link.target.record.config
        hostsLinks.push({ ip, names: [...new Set([link.alias, host, link.target.name].filter((n) => n !== ''))] })
        env.push(...linkEnvironment(c.name, link, ip))
      }
      if (hostsLinks.length > 0) spec.hostsLinks = hostsLinks
    }
    const { promise: known, resolve } = Promise.withResolvers<SandboxInfo>()
    // Sysctls, which the runtime sets, may name links that are only being made.
    const early = Object.keys(c.record.hostConfig.Sysctls ?? {}).length === 0 ? resolve : undefined
    const made = x.cnm.createSandbox(spec, early)
    const info = await Promise.race([known, made])
    const ready = made.then(() => undefined, (e: unknown) => { throw setupError(c, e) })
    // Whoever waits for it comes later.
    ready.catch(() => undefined)
    writeFiles(x, c, info)
    return { network: info.netnsPath === undefined ? 'host' : { path: info.netnsPath }, files: mountedFiles(x, c), env, ready }
  } catch (e) {
    throw setupError(c, e)
  }
}

function setupError(c: Container, e: unknown): DockerError {
  if (e instanceof CnmError && /port is already allocated|Bind for/.test(e.message)) {
    return new DockerError('failed', `${SETUP_FAILED}driver failed programming external connectivity on endpoint ${c.name}: ${e.message}`)
  }
  return dockerError(e, SETUP_FAILED)
}

function joinOther(x: Context, c: Container, ref: string): Opened {
  const prefix = `${SETUP_FAILED}joining network namespace of container: `
  const other = x.registry.find(ref)
  if (other === undefined) throw new DockerError('failed', `${prefix}No such container: ${ref}`)
  if (other === c) throw new DockerError('failed', `${prefix}cannot join own network namespace`)
  if (!other.running) {
    throw new DockerError('conflict', `cannot join network namespace of a non running container: container ${other.name} is ${other.status}`)
  }
  if (other.restarting) throw new DockerError('conflict', `${prefix}Container ${other.id} is restarting, wait until the container is running`)
  const owner = networkOwner(x, other)
  const sandbox = owner === undefined ? undefined : x.cnm.sandbox(owner.id)
  if (sandbox === undefined) throw new DockerError('conflict', `${prefix}container ${other.name} has no network namespace`)
  // Whoever shares a network has its name in it.
  const { Hostname = '', Domainname = '' } = owner!.record.config
  Object.assign(c.record.config, { Hostname, Domainname })
  return { network: sandbox.netnsPath === undefined ? 'host' : { path: sandbox.netnsPath }, files: mountedFiles(x, c), env: [], ready: Promise.resolve() }
}

function mountedFiles(x: Context, c: Container): Opened['files'] {
  const files = filesOf(x, c)
  return [
    { source: files.resolvConf, target: '/etc/resolv.conf' }, { source: files.hostname, target: '/etc/hostname' }, { source: files.hosts, target: '/etc/hosts' },
  ]
}

/** The same files, empty until the container's first start has written them. */
export function madeFiles(x: Context, c: Container): Opened['files'] {
  const files = mountedFiles(x, c)
  mkdirSync(dirname(files[0]!.source), { recursive: true, mode: 0o711 })
  for (const f of files) if (!existsSync(f.source)) writeFileSync(f.source, '', { mode: 0o644 })
  return files
}

/** In place, since containers have the files themselves mounted. */
function writeFiles(x: Context, c: Container, texts: { resolvConf: string; hosts: string }): void {
  const dir = join(x.filesDir, c.id)
  mkdirSync(dir, { recursive: true, mode: 0o711 })
  const write = (name: string, text: string): void => { writeFileSync(join(dir, name), text, { mode: 0o644 }) }
  write('resolv.conf', texts.resolvConf)
  write('hosts', texts.hosts)
  const { Hostname: host, Domainname: domain } = c.record.config
  write('hostname', `${host ?? ''}${domain === undefined || domain === '' ? '' : `.${domain}`}\n`)
}

/** An endpoint came or went while the container runs. */
export function rewriteFiles(x: Context, id: string, texts: { resolvConf: string; hosts: string }): void {
  const c = x.registry.get(id)
  if (c?.alive === true) writeFiles(x, c, texts)
}

export function sandboxSpec(x: Context, c: Container): SandboxSpec {
  const { config, hostConfig: h, id, name } = c.record
  const mode = parseNetworkMode(config.NetworkDisabled === true ? 'none' : h.NetworkMode)
  const endpoints = Object.entries(c.record.endpoints)
    .sort(([an, a], [bn, b]) => (b.GwPriority ?? 0) - (a.GwPriority ?? 0) || (an < bn ? -1 : 1))
    .map(([network, settings]) => ({ network: joinedAs(network, settings), spec: endpointSpec(x, c, network, settings) }))
  return {
    id, name,
    hostname: config.Hostname || (mode.kind === 'host' ? machineName() : shortId(id)),
    ...(config.Domainname ? { domainname: config.Domainname } : {}),
    endpoints: config.NetworkDisabled === true ? [{ network: 'none', spec: {} }] : endpoints,
    ports: mode.kind === 'host' || mode.kind === 'none' ? [] : publishedPorts(h, config.ExposedPorts),
    ...((h.Dns?.length ?? 0) > 0 ? { dns: h.Dns! } : {}),
    ...((h.DnsSearch?.length ?? 0) > 0 ? { dnsSearch: h.DnsSearch! } : {}),
    ...((h.DnsOptions?.length ?? 0) > 0 ? { dnsOptions: h.DnsOptions! } : {}),
    ...((h.ExtraHosts?.length ?? 0) > 0 ? { extraHosts: h.ExtraHosts! } : {}),
  }
}

/** Predefined networks by their names: their ids are another machine's, or another day's. */
function joinedAs(network: string, settings: EndpointSettings): string {
  return parseNetworkMode(network).kind === 'user' ? settings.NetworkID || network : network
}

/** How a container joins a network, by name. */
export function endpointSpec(x: Context, c: Container, network: string, e: EndpointSettings): EndpointSpec {
  const { config, hostConfig: h, id } = c.record
  const own = parseNetworkMode(h.NetworkMode)
  const user = parseNetworkMode(network).kind === 'user'
  const links = [...e.Links ?? [], ...(user && own.kind === 'user' && own.name === network ? h.Links ?? [] : [])].map((text) => {
    const { name, alias } = parseLink(text)
    return { target: x.registry.find(name)?.name ?? name, alias }
  })
  const mac = e.MacAddress || (network === own.name ? config.MacAddress : undefined)
  return {
    ...(e.IPAMConfig?.IPv4Address ? { ipv4: e.IPAMConfig.IPv4Address } : {}),
    ...(e.IPAMConfig?.IPv6Address ? { ipv6: e.IPAMConfig.IPv6Address } : {}),
    ...((e.IPAMConfig?.LinkLocalIPs?.length ?? 0) > 0 ? { linkLocal: e.IPAMConfig!.LinkLocalIPs! } : {}),
    ...(mac ? { mac } : {}),
    ...(user ? { aliases: [...new Set([...e.Aliases ?? [], shortId(id), ...(config.Hostname ? [config.Hostname] : [])])] } : {}),
    ...(links.length > 0 ? { links } : {}),
    ...(e.DriverOpts != null ? { driverOptions: e.DriverOpts } : {}),
    ...(e.GwPriority ? { gatewayPriority: e.GwPriority } : {}),
  }
}

/** For `docker network connect` and `disconnect`, and for who asks who is on a network. */
export function containerEndpoints(x: Context): ContainerEndpoints {
  /** Key of the record for a network: its name, or what the user wrote instead. */
  const keyOf = (c: Container, networkId: string): string | undefined => {
    const { name } = x.cnm.find(networkId)
    return Object.keys(c.record.endpoints).find((k) => c.record.endpoints[k]!.NetworkID === networkId || k === name || k === networkId)
  }
  return {
    connect: (ref, networkId, endpoint) => {
      const c = x.registry.resolve(ref)
      return c.locked(async () => {
        if (c.removing || c.dead) throw new DockerError('conflict', `Container ${c.id} is marked for removal and cannot be connected or disconnected to the network`)
        const network = x.cnm.find(networkId)
        checkConnectable(c, network.name)
        validateEndpoint(network.name, endpoint)
        if (keyOf(c, networkId) !== undefined && (!c.alive || onSandbox(x, c, networkId))) {
          throw new DockerError('forbidden', `endpoint with name ${c.name} already exists in network ${network.name}`)
        }
        const settings = { ...endpoint, NetworkID: networkId }
        try {
          const spec = endpointSpec(x, c, network.name, settings)
          if (c.alive) await x.cnm.connect(c.id, networkId, spec)
          else x.cnm.checkEndpoint(networkId, spec)
        } catch (e) {
          throw dockerError(e)
        }
        // `none` gives way to the first real network.
        if (parseNetworkMode(network.name).kind !== 'none') delete c.record.endpoints['none']
        c.record.endpoints[network.name] = settings
        c.changed()
        await x.records.save(c.record)
      })
    },
    disconnect: (ref, networkId, force) => {
      const c = x.registry.find(ref)
      const network = x.cnm.find(networkId)
      if (c === undefined) {
        if (!force) throw new DockerError('not-found', `No such container: ${ref}`)
        const stale = network.endpoints.find((e) => e.ownerName === ref || e.sandboxId.startsWith(ref))
        if (stale === undefined) throw new DockerError('not-found', `endpoint ${ref} not found`)
        return x.cnm.disconnect(stale.sandboxId, networkId, true).catch((e: unknown) => { throw dockerError(e) })
      }
      return c.locked(async () => {
        if (parseNetworkMode(c.record.hostConfig.NetworkMode).kind === 'host' && network.name === 'host') {
          throw new DockerError('conflict', 'container cannot be disconnected from host network or connected to host network')
        }
        const key = keyOf(c, networkId)
        if (key === undefined) throw new DockerError('forbidden', `container ${c.id} is not connected to network ${network.name}`)
        if (c.alive) await x.cnm.disconnect(c.id, networkId, force).catch((e: unknown) => { throw dockerError(e) })
        delete c.record.endpoints[key]
        c.changed()
        await x.records.save(c.record)
      })
    },
    onNetwork: (networkId) => {
      const out: { id: string; name: string; running: boolean }[] = []
      const { name } = x.cnm.find(networkId)
      for (const c of x.registry.all()) {
        const { endpoints } = c.record
        if (Object.entries(endpoints).some(([k, e]) => k === name || k === networkId || e.NetworkID === networkId)) {
          out.push({ id: c.id, name: c.name, running: c.running })
        }
      }
      return out
    },
  }
}

function onSandbox(x: Context, c: Container, networkId: string): boolean {
  return x.cnm.sandbox(c.id)?.endpoints.some((e) => e.networkId === networkId) === true
}

function checkConnectable(c: Container, network: string): void {
  const mode = parseNetworkMode(c.record.hostConfig.NetworkMode)
  if (mode.kind === 'container' || mode.kind === 'host') {
    throw new DockerError('invalid', mode.kind === 'host'
      ? 'container cannot be disconnected from host network or connected to host network'
      : 'container sharing network namespace with another container or host cannot be connected to any other network')
  }
  const kind = parseNetworkMode(network).kind
  if (kind === 'host' || kind === 'none') {
    throw new DockerError('invalid', kind === 'host' ? 'container cannot be disconnected from host network or connected to host network'
      : 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
  }
}

/** Ids of networks are known once it has joined them: kept for `inspect` of a stopped container. */
export function noteNetworks(x: Context, c: Container, info: SandboxInfo | undefined): void {
  let changed = false
  for (const e of info?.endpoints ?? []) {
    const key = c.record.endpoints[e.networkName] === undefined ? e.networkId : e.networkName
    const settings = c.record.endpoints[key]
    if (settings !== undefined && settings.NetworkID !== e.networkId) {
      settings.NetworkID = e.networkId
      changed = true
    }
  }
  if (changed) saveSoon(x, c)
}
