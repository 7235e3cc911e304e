/** Links between containers (`--link`): variables and names of the other container, as Docker has given them since its beginning. */
import { DockerError } from '../../errors.ts'
import { parseNetworkMode } from '../../shared/network-mode.ts'
import { parsePort } from '../../shared/ports.ts'
import type { Container } from './container.ts'
import type { Context } from './context.ts'

export interface Link { target: Container; alias: string }

/** `NAME[:ALIAS]`. */
export function parseLink(text: string): { name: string; alias: string } {
  const colon = text.lastIndexOf(':')
  const name = (colon < 0 ? text : text.slice(0, colon)).replace(/^\//, '')
  const alias = colon < 0 ? name : text.slice(colon + 1).replace(/^.*\//, '')
  if (name === '' || alias === '' || text.split(':').length > 2) throw new DockerError('invalid', `bad format for links: ${text}`)
  return { name, alias }
}

/** When the container is made: targets must exist, and share the network. */
export function checkLinks(x: Context, links: string[] | null | undefined): void {
  for (const text of links ?? []) {
    const { name, alias } = parseLink(text)
    const target = x.registry.find(name)
    if (target === undefined) throw new DockerError('invalid', `could not get container for ${name}: No such container: ${name}`)
    if (parseNetworkMode(target.record.hostConfig.NetworkMode).kind === 'host') {
      throw new DockerError('invalid', `conflicting options: host type networking can't be used with links. This would result in undefined behavior`)
    }
    if (alias === '') throw new DockerError('invalid', `bad format for links: ${text}`)
  }
}

/** Links of a container on the default bridge; their targets must run. */
export function liveLinks(x: Context, c: Container): Link[] {
  return (c.record.hostConfig.Links ?? []).map((text) => {
    const { name, alias } = parseLink(text)
    const target = x.registry.resolve(name)
    if (!target.running) throw new DockerError('failed', `Cannot link to a non running container: /${target.name} AS /${c.name}/${alias}`)
    return { target, alias }
  })
}

export function linkAddress(x: Context, target: Container): string {
  const endpoint = x.cnm.sandbox(target.id)?.endpoints.find((e) => e.networkName === 'bridge')
  if (endpoint === undefined) throw new DockerError('failed', `Cannot link to /${target.name}, as it does not belong to the default network`)
  return endpoint.ipv4.split('/', 1)[0]!
}

/** `ALIAS_PORT_80_TCP…` and the linked container's own environment. */
export function linkEnvironment(parent: string, link: Link, address: string): string[] {
  const alias = link.alias.toUpperCase().replaceAll('-', '_')
  const { config } = link.target.record
  const ports = Object.keys(config.ExposedPorts ?? {}).flatMap((key) => parsePort(key) ?? [])
    .sort((a, b) => a.first - b.first || (a.protocol < b.protocol ? -1 : 1))
  const out: string[] = []
  const url = (p: { first: number; protocol: string }): string => `${p.protocol}://${address}:${p.first}`
  const first = ports.find((p) => p.protocol === 'tcp') ?? ports[0]
  if (first !== undefined) out.push(`${alias}_PORT=${url(first)}`)
  for (const range of ports) {
    const name = (n: number): string => `${alias}_PORT_${n}_${range.protocol.toUpperCase()}`
    if (range.last > range.first) {
      out.push(`${name(range.first)}_START=${url(range)}`, `${name(range.first)}_PORT_START=${range.first}`,
        `${name(range.first)}_END=${url({ ...range, first: range.last })}`, `${name(range.first)}_PORT_END=${range.last}`)
    }
    for (let n = range.first; n <= range.last; n++) {
      out.push(`${name(n)}=${url({ first: n, protocol: range.protocol })}`, `${name(n)}_ADDR=${address}`, `${name(n)}_PORT=${n}`,
        `${name(n)}_PROTO=${range.protocol}`)
    }
  }
  out.push(`${alias}_NAME=/${parent}/${link.alias}`)
  for (const entry of config.Env ?? []) {
    const eq = entry.indexOf('=')
    if (eq > 0 && entry.slice(0, eq) !== 'PATH' && entry.slice(0, eq) !== 'HOME') out.push(`${alias}_ENV_${entry}`)
  }
  return out
}
