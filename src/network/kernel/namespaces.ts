/**
 * Makes, finds and removes pods' network namespaces: a file bound to the namespace, `eth0` inside with its address and routes,
 * and the other end of the pair in this machine's bridge. Pods have a /32 address and reach everything through the gateway, so
 * that every packet passes this machine's IP rules (services, policy) whether or not bridges are filtered (`br_netfilter`).
 */
import { readFile, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cidr } from '../ipv4.ts'
import { contains, formatIPv4, isIPv4, macOf, parseIPv4 } from '../ipv4.ts'
import type { Names } from '../names.ts'
import { run, runAny } from '../run.ts'

export interface NamespaceContext {
  runDir: string
  names: Names
  range: Cidr
  /** Gateway address. */
  gateway: string
  mtu: number
}

/** A namespace that is complete: addressed, and its host end up in the bridge. */
export interface Namespace {
  offset: number
  ip: string
  path: string
  veth: string
}

export function namespaceAt(context: NamespaceContext, offset: number): Namespace {
  const ip = formatIPv4(context.range.base + offset)
  return { offset, ip, path: join(context.runDir, `pod-${ip}`), veth: context.names.veth(offset) }
}

// One process for a whole batch: each `unshare` becomes the `ip` that configures the new namespace from within. The host ends
// come last, so an end that is up says that its namespace is complete, wherever a kill struck. No IPv6 addresses of the kernel's
// own making: their upkeep would go to every pod, from every pod.
const makeScript = `
host=$1 bridge=$2 gateway=$3 mtu=$4
shift 4
ends=
while [ $# -ge 4 ]; do
  : > "$1" || exit 1
  unshare --net="$1" ip -batch - <<END || exit 1
link set lo up
link add eth0 mtu $mtu address $3 type veth peer name $2 mtu $mtu netns $host
link set dev eth0 addrgenmode none
addr add $4/32 dev eth0
link set eth0 up
route add $gateway dev eth0 scope link
route add default via $gateway dev eth0
END
  ends="\${ends}link set dev $2 master $bridge
link set dev $2 type bridge_slave hairpin on
link set dev $2 addrgenmode none
link set dev $2 up
"
  shift 4
done
printf '%s' "$ends" | ip -batch -
`

/** All or none: on an error what was begun is removed again. */
export async function makeNamespaces(context: NamespaceContext, offsets: number[]): Promise<Namespace[]> {
  const made = offsets.map((offset) => namespaceAt(context, offset))
  const args = made.flatMap(({ path, veth, ip, offset }) => [path, veth, macOf('pod', context.range.base + offset), ip])
  try {
    const { names: { bridge }, gateway, mtu } = context
    await run('sh', ['-c', makeScript, 'make-namespaces', String(process.pid), bridge, gateway, String(mtu), ...args])
  } catch (error) {
    await removeNamespaces(made)
    throw error
  }
  return made
}

/** Links of this group are about to be removed: the kernel removes a group in one step, many times faster than one by one. */
const doomedGroup = 0x67747278

/** Resolves also for what is not there, or only half. */
export async function removeNamespaces(namespaces: Pick<Namespace, 'path' | 'veth'>[]): Promise<void> {
  if (namespaces.length === 0) return
  const doom = namespaces.map(({ veth }) => `link set dev ${veth} group ${doomedGroup}\n`).join('') + `link del group ${doomedGroup}\n`
  // Statuses say nothing here: half-made namespaces lack the one or the other.
  await runAny('ip', ['-force', '-batch', '-'], { input: doom })
  const mounted = await boundFiles()
  const bound = namespaces.map(({ path }) => path).filter((path) => mounted.has(path))
  if (bound.length > 0) await runAny('umount', ['-l', '--', ...bound])
  await Promise.all(namespaces.map(({ path }) => rm(path, { force: true })))
}

export interface Found {
  complete: Namespace[]
  /** Remains of an interrupted step. */
  broken: Pick<Namespace, 'path' | 'veth'>[]
}

/** What exists in the kernel. */
export async function findNamespaces(context: NamespaceContext): Promise<Found> {
  const [entries, mounted, links] = await Promise.all([
    readdir(context.runDir), boundFiles(), run('ip', ['-j', 'link', 'show', 'master', context.names.bridge]),
  ])
  const attached = new Set<string>()
  for (const link of JSON.parse(links || '[]') as { ifname: string; flags: string[] }[]) {
    if (link.flags.includes('UP')) attached.add(link.ifname)
  }
  const found: Found = { complete: [], broken: [] }
  const offsets = new Set<number>()
  for (const entry of entries) {
    const ip = entry.startsWith('pod-') ? entry.slice('pod-'.length) : ''
    if (!isIPv4(ip)) continue
    const address = parseIPv4(ip)
    if (!contains(context.range, address)) {
      found.broken.push({ path: join(context.runDir, entry), veth: context.names.veth(0) })
      continue
    }
    const namespace = namespaceAt(context, address - context.range.base)
    offsets.add(namespace.offset)
    if (mounted.has(namespace.path) && attached.has(namespace.veth)) found.complete.push(namespace)
    else found.broken.push(namespace)
  }
  for (const name of await interfaceNames()) {
    const offset = context.names.offsetOf(name)
    if (offset !== undefined && !offsets.has(offset)) found.broken.push({ path: namespaceAt(context, offset).path, veth: name })
  }
  return found
}

/** Of this process' namespace, whichever one /sys shows. */
async function interfaceNames(): Promise<string[]> {
  return [...(await interfaceCounters()).keys()]
}

/** By interface name, as the kernel counts: `rx` is what the host end received, so what the pod sent. */
export async function interfaceCounters(): Promise<Map<string, { rxBytes: number; txBytes: number }>> {
  const counters = new Map<string, { rxBytes: number; txBytes: number }>()
  for (const line of (await readFile('/proc/self/net/dev', 'utf8')).split('\n')) {
    const colon = line.indexOf(':')
    if (colon < 0) continue
    const fields = line.slice(colon + 1).trim().split(/\s+/)
    counters.set(line.slice(0, colon).trim(), { rxBytes: Number(fields[0]), txBytes: Number(fields[8]) })
  }
  return counters
}

/** Files that a namespace is bound to. */
async function boundFiles(): Promise<Set<string>> {
  const files = new Set<string>()
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')) {
    if (!line.includes(' - nsfs ')) continue
    const path = line.split(' ')[4]
    // The kernel writes blanks and the like as octal escapes.
    if (path !== undefined) files.add(path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))))
  }
  return files
}
