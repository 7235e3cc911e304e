/** The files every container of a Pod finds in /etc: hosts, hostname, resolv.conf. */
import type { Pod } from '../../core/types/index.ts'

/** The name the Pod's processes see. */
export function podHostname(pod: Pod, nodeName: string): string {
  if (pod.spec.hostNetwork === true) return nodeName
  return (pod.spec.hostname ?? pod.metadata.name).slice(0, 63).replace(/[-.]+$/, '')
}

export function hostsFile(pod: Pod, podIP: string, clusterDomain: string): string {
  const { hostname, subdomain } = pod.spec
  const name = podHostname(pod, '')
  const names = hostname !== undefined && subdomain !== undefined
    ? `${name}.${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}\t${name}`
    : name
  const lines = [
    '# Written by Gantry; hostAliases of the Pod add entries.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet', 'fe00::0\tip6-mcastprefix', 'fe00::1\tip6-allnodes', 'fe00::2\tip6-allrouters',
    `${podIP}\t${names}`,
    ...aliasLines(pod),
  ]
  return lines.join('\n') + '\n'
}

/** For a Pod on the machine's network: the machine's own file with the Pod's aliases added. */
export function hostNetworkHostsFile(pod: Pod, machineHosts: string): string {
  const aliases = aliasLines(pod)
  return aliases.length === 0 ? machineHosts : `${machineHosts.replace(/\n*$/, '\n')}${aliases.join('\n')}\n`
}

function aliasLines(pod: Pod): string[] {
  return (pod.spec.hostAliases ?? []).map(a => `${a.ip}\t${(a.hostnames ?? []).join('\t')}`)
}

/** resolv.conf by dnsPolicy; `machine` is the machine's own file. Options of dnsConfig replace those of the same name. */
export function resolvConf(pod: Pod, dnsAddress: string, clusterDomain: string, machine: string): string {
  const policy = pod.spec.dnsPolicy ?? 'ClusterFirst'
  const own = parseResolv(machine)
  const cluster = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && pod.spec.hostNetwork !== true)
  let servers = cluster ? [dnsAddress] : policy === 'None' ? [] : own.servers
  let searches = cluster
    ? [`${pod.metadata.namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain, ...own.searches]
    : policy === 'None' ? [] : own.searches
  const options = new Map<string, string | undefined>(cluster ? [['ndots', '5']] : policy === 'None' ? [] : own.options)
  const c = pod.spec.dnsConfig
  servers = [...new Set([...servers, ...(c?.nameservers ?? [])])]
  searches = [...new Set([...searches, ...(c?.searches ?? [])])]
  for (const o of c?.options ?? []) options.set(o.name, o.value)
  const lines = servers.slice(0, 3).map(s => `nameserver ${s}`)
  if (searches.length > 0) lines.push(`search ${searches.slice(0, 32).join(' ')}`)
  if (options.size > 0) lines.push(`options ${[...options].map(([k, v]) => v === undefined ? k : `${k}:${v}`).join(' ')}`)
  return lines.join('\n') + '\n'
}

function parseResolv(text: string): { servers: string[]; searches: string[]; options: [string, string | undefined][] } {
  const servers: string[] = []
  let searches: string[] = []
  const options: [string, string | undefined][] = []
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.trim().split(/\s+/)
    if (word === 'nameserver' && rest[0] !== undefined) servers.push(rest[0])
    else if (word === 'search' || word === 'domain') searches = rest.filter(s => s !== '.')
    else if (word === 'options') for (const o of rest) options.push([o.split(':')[0]!, o.includes(':') ? o.slice(o.indexOf(':') + 1) : undefined])
  }
  return { servers, searches, options }
}
