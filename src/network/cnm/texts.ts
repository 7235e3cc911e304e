/** Texts of a container's /etc/hosts and /etc/resolv.conf, as Docker writes them. */
import { readFileSync } from 'node:fs'
import { withoutPrefix } from './ip.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'

export const embeddedServer = '127.0.0.11'

const loopbackLines = ['127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback', 'fe00::\tip6-localnet', 'ff00::\tip6-mcastprefix',
  'ff02::1\tip6-allnodes', 'ff02::2\tip6-allrouters']

export interface ResolvConf { nameservers: string[]; search: string[]; options: string[] }

export function parseResolvConf(text: string): ResolvConf {
  const parsed: ResolvConf = { nameservers: [], search: [], options: [] }
  for (const line of text.split('\n')) {
    const [key, ...values] = line.replace(/[#;].*$/, '').trim().split(/\s+/)
    if (key === 'nameserver' && values[0] !== undefined) parsed.nameservers.push(values[0])
    else if (key === 'search' || key === 'domain') parsed.search = values
    else if (key === 'options') parsed.options.push(...values)
  }
  return parsed
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

/** This machine's. Where all its servers are stubs on loopback, systemd-resolved keeps the real ones in another file. */
export function machineResolvConf(read: (path: string) => string | undefined = readIfThere): { text: string; parsed: ResolvConf } {
  const text = read('/etc/resolv.conf') ?? ''
  const parsed = parseResolvConf(text)
  if (parsed.nameservers.length > 0 && parsed.nameservers.every(isLoopback)) {
    const real = read('/run/systemd/resolve/resolv.conf')
    if (real !== undefined) return { text: real, parsed: parseResolvConf(real) }
  }
  return { text, parsed }
}

/** What this process itself can ask, stubs on loopback too. */
export function machineResolvers(): string[] {
  return parseResolvConf(readIfThere('/etc/resolv.conf') ?? '').nameservers
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** Servers that a container can reach through its own interfaces. */
export function reachableServers(machine: ResolvConf, asked: string[], ipv6: boolean): string[] {
  if (asked.length > 0) return asked
  const usable = machine.nameservers.filter((server) => !isLoopback(server) && (ipv6 || !server.includes(':')))
  return usable.length > 0 ? usable : ['8.8.8.8', '8.8.4.4']
}

type Wishes = Pick<SandboxRecord, 'dns' | 'dnsSearch' | 'dnsOptions'>

/** Docker: `--dns-search .` asks for no search list at all. */
function searchOf(machine: ResolvConf, { dnsSearch }: Wishes): string[] {
  const search = dnsSearch.length > 0 ? dnsSearch : machine.search
  return search.length === 1 && search[0] === '.' ? [] : search
}

export function resolvConfText(machine: { text: string; parsed: ResolvConf }, wishes: Wishes, mode: 'host' | 'plain' | 'embedded', ipv6: boolean): string {
  const untouched = wishes.dns.length === 0 && wishes.dnsSearch.length === 0 && wishes.dnsOptions.length === 0
  if (mode === 'host' && untouched) return machine.text
  const { parsed } = machine
  const options = wishes.dnsOptions.length > 0 ? [...wishes.dnsOptions] : [...parsed.options]
  const servers = mode === 'embedded' ? [embeddedServer]
    : mode === 'host' ? (wishes.dns.length > 0 ? wishes.dns : parsed.nameservers) : reachableServers(parsed, wishes.dns, ipv6)
  if (mode === 'embedded' && !options.some((option) => option.startsWith('ndots:'))) options.push('ndots:0')
  const search = searchOf(parsed, wishes)
  return [
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
  ].join('\n') + '\n'
}

/** `hostGateway` stands for itself in `NAME:host-gateway`. */
export function hostsText(sandbox: SandboxRecord, endpoints: EndpointRecord[], hostGateway: string): string {
  const lines = sandbox.mode === 'host' ? [(readIfThere('/etc/hosts') ?? loopbackLines.join('\n')).trimEnd()] : [...loopbackLines]
  for (const entry of sandbox.extraHosts) {
    // `name:ip` of before, or `name=ip`; an IPv6 address has more colons.
    const at = entry.search(/[:=]/)
    const ip = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
    lines.push(`${ip === 'host-gateway' ? hostGateway : ip}\t${entry.slice(0, at)}`)
  }
  for (const { names, ip } of sandbox.hostsLinks) lines.push(`${ip}\t${names.join(' ')}`)
  const names = sandbox.domainname === '' ? sandbox.hostname : `${sandbox.hostname}.${sandbox.domainname} ${sandbox.hostname}`
  for (const { ipv4, ipv6 } of endpoints) for (const ip of [ipv4, ipv6]) if (ip !== '' && names !== '') lines.push(`${withoutPrefix(ip)}\t${names}`)
  return lines.join('\n') + '\n'
}
