/** A Pod's surroundings on this machine: network sandbox, files of /etc, volumes; and their removal. */
import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Pod, Volume } from '../../core/types/index.ts'
import type { PortMapping } from '../../network/network.ts'
import type { NodeContext } from './context.ts'
import { podCgroup } from './container-spec.ts'
import { hostNetworkHostsFile, hostsFile, podHostname, resolvConf } from './files.ts'
import { isContent, resolveVolume } from './volume-content.ts'
import type { ContentContext } from './volume-content.ts'

export function podFilesDir(c: NodeContext, uid: string): string { return join(c.dataDir, 'podfiles', uid) }
export function etcDir(c: NodeContext, uid: string): string { return join(podFilesDir(c, uid), 'etc') }

export function hostPorts(pod: Pod): PortMapping[] {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].flatMap(x => x.ports ?? [])
  return all.filter(p => p.hostPort !== undefined && p.hostPort > 0 && p.protocol !== 'SCTP').map(p => ({
    ...(p.hostIP !== undefined && p.hostIP !== '' && { hostIP: p.hostIP }),
    hostPort: p.hostPort!, containerPort: p.containerPort, protocol: p.protocol === 'UDP' ? 'udp' : 'tcp',
  }))
}

/** Ids of other sandboxes that publish one of the Pod's host ports. */
export function portHolders(c: NodeContext, pod: Pod): string[] {
  if (pod.spec.hostNetwork === true) return []
  const wanted = hostPorts(pod)
  const clash = (a: PortMapping, b: PortMapping): boolean => a.hostPort === b.hostPort && a.protocol === b.protocol
    && (isAnyAddress(a.hostIP) || isAnyAddress(b.hostIP) || a.hostIP === b.hostIP)
  return wanted.length === 0 ? [] : c.network.sandboxes()
    .filter(s => s.id !== pod.metadata.uid && s.ports.some(a => wanted.some(b => clash(a, b)))).map(s => s.id)
}

function isAnyAddress(ip: string | undefined): boolean { return ip === undefined || ip === '0.0.0.0' }

/** Resolves with the Pod's address. Rejects with NetworkError; `conflict` means that a host port is taken. */
export async function makeSandbox(c: NodeContext, pod: Pod): Promise<string> {
  const uid = pod.metadata.uid!
  let ip = c.hostIP
  if (pod.spec.hostNetwork !== true) {
    const found = c.network.sandboxes().find(s => s.id === uid)
    const ports = hostPorts(pod)
    ip = (found ?? await c.network.createSandbox(uid, ports.length > 0 ? { ports } : {})).ip
  }
  await writeEtc(c, pod, ip)
  return ip
}

async function writeEtc(c: NodeContext, pod: Pod, ip: string): Promise<void> {
  const dir = etcDir(c, pod.metadata.uid!)
  const [machineHosts, machineResolv] = await Promise.all([
    pod.spec.hostNetwork === true ? readFile('/etc/hosts', 'utf8').catch(() => '') : '',
    readFile('/etc/resolv.conf', 'utf8').catch(() => ''),
  ])
  // These are a few hundred bytes in memory-cached files: faster at once than through the thread pool.
  mkdirSync(dir, { recursive: true, mode: 0o755 })
  const hosts = pod.spec.hostNetwork === true ? hostNetworkHostsFile(pod, machineHosts) : hostsFile(pod, ip, c.clusterDomain)
  writeFileSync(join(dir, 'hosts'), hosts, { mode: 0o644 })
  writeFileSync(join(dir, 'hostname'), `${podHostname(pod, c.nodeName)}\n`, { mode: 0o644 })
  writeFileSync(join(dir, 'resolv.conf'), resolvConf(pod, c.network.dnsAddress, c.clusterDomain, machineResolv), { mode: 0o644 })
}

export interface MountedVolumes {
  /** Volume name → host path. */
  paths: Map<string, string>
  /** When some content has to be made anew. */
  renewAtMs?: number
}

function contentContext(c: NodeContext, pod: Pod): ContentContext {
  return {
    downward: { pod, podIP: pod.status?.podIP ?? '', hostIP: c.hostIP, nodeName: c.nodeName, allocatable: c.allocatable },
    refs: c.refs, tokens: c.tokens, nowMs: Date.now(),
  }
}

/** Rejects with an Error that names the volume. */
export async function mountVolumes(c: NodeContext, pod: Pod): Promise<MountedVolumes> {
  const fsGroup = pod.spec.securityContext?.fsGroup
  const out: MountedVolumes = { paths: new Map() }
  await Promise.all((pod.spec.volumes ?? []).map(async v => {
    try {
      const { source, renewAtMs } = await resolveVolume(pod, v, contentContext(c, pod))
      out.paths.set(v.name, await c.volumes.mount(pod.metadata.uid!, v.name, source, fsGroup === undefined ? {} : { fsGroup }))
      if (renewAtMs !== undefined) out.renewAtMs = Math.min(out.renewAtMs ?? Infinity, renewAtMs)
    } catch (e) {
      throw new Error(`MountVolume.SetUp failed for volume "${v.name}" : ${e instanceof Error ? e.message : String(e)}`, { cause: e })
    }
  }))
  return out
}

/** Where the volumes of a Pod that is mounted already are. */
export function mountedPaths(c: NodeContext, pod: Pod): Map<string, string> {
  return new Map((pod.spec.volumes ?? []).map(v =>
    [v.name, v.hostPath?.path ?? join(c.dataDir, 'pods', pod.metadata.uid!, 'volumes', v.name)]))
}

/** Brings the files of ConfigMaps, Secrets, tokens and the downward API up to date. Resolves with the next renewal's time. */
export async function refreshVolumes(c: NodeContext, pod: Pod): Promise<number | undefined> {
  let next: number | undefined
  await Promise.all((pod.spec.volumes ?? []).filter((v: Volume) => isContent(v)).map(async v => {
    const { source, renewAtMs } = await resolveVolume(pod, v, contentContext(c, pod))
    if (source.type === 'content') await c.volumes.update(pod.metadata.uid!, v.name, source.files)
    if (renewAtMs !== undefined) next = Math.min(next ?? Infinity, renewAtMs)
  }))
  return next
}

/** Everything but the containers. Resolves also if parts are gone already. */
export async function removeSurroundings(c: NodeContext, uid: string): Promise<void> {
  await Promise.all([c.network.deleteSandbox(uid), c.volumes.unmountPod(uid)])
  await rm(podFilesDir(c, uid), { recursive: true, force: true })
  removeCgroup(podCgroup(c.cgroup, uid))
}

/** The runtime removes containers' cgroups, and leaves their parent. */
function removeCgroup(path: string): void {
  const root = '/sys/fs/cgroup'
  let controllers: string[]
  try {
    controllers = readdirSync(root, { withFileTypes: true }).filter(d => d.isDirectory()).map(d => join(root, d.name))
  } catch {
    return
  }
  for (const dir of [root, ...controllers]) {
    try {
      rmdirSync(join(dir, path))
    } catch {
      // Absent in this hierarchy, or still in use by a process that is going away: an empty cgroup costs nothing.
    }
  }
}

/** Up to `maxBytes` of a container's termination message; undefined if it left none. */
export function readTerminationMessage(path: string, maxBytes: number): string | undefined {
  try {
    const data = readFileSync(path)
    return data.length === 0 ? undefined : data.subarray(0, maxBytes).toString('utf8')
  } catch {
    return undefined
  }
}
