/** What is left in this machine's kernel when its daemons have stopped: containers, mounts, namespaces, interfaces, rules. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { thaw } from '../engine/containers/cgroups.ts'
import { unpassFirewalls } from '../network/cnm/machine.ts'
import { namesOf as cnmNamesOf } from '../network/cnm/names.ts'
import { namesOf } from '../network/names.ts'
import { hierarchies } from './cgroups.ts'
import type { ClusterFile } from './cluster-file.ts'
import { run } from './exec.ts'
import { clusterCgroup, type Layout } from './layout.ts'
import { unmountBelow } from './mounts.ts'
import { identify, type ProcessId, signal, waitForEnd } from './process.ts'

/** Ends an instance's containers and shims on this machine itself, after its agent and containerd have stopped, and unmounts their files. */
export async function stopContainers(l: Layout, instance: string, dataDir: string = l.dataDir): Promise<void> {
  const containers = processesOf(clusterCgroup(instance))
  // Shims are told apart by the socket of the containerd they were started by.
  const shims = processesWith(join(l.runDir, 'containerd.sock'))
  for (const p of [...containers, ...shims]) signal(p, 'SIGKILL')
  thaw(clusterCgroup(instance))
  await Promise.all([...containers, ...shims].map(p => waitForEnd(p, 5_000)))
  await unmountBelow(l.runDir)
  await unmountBelow(dataDir)
}

/** Removes this instance's interfaces and tables from this machine's network. */
export async function removeNetwork(l: Layout, f: ClusterFile): Promise<void> {
  const names = namesOf(f.cluster.instance)
  await unmountBelow(l.runDir)
  await run('nft', ['-f', '-'], `add table ip ${names.table}\ndelete table ip ${names.table}\n`)
  const links = (JSON.parse(await run('ip', ['-j', 'link', 'show'])) as { ifname: string }[]).map(x => x.ifname)
  const own = links.filter(n => n === names.bridge || n === names.vxlan || names.offsetOf(n) !== undefined)
  // A pod's interface goes with its namespace, which the kernel takes down in its own time: one that is gone already is no failure.
  for (const name of own) await run('ip', ['link', 'del', name]).catch(() => { /* gone */ })
}

/** Removes the Docker networks of this instance: rules, bridges and all that hangs on them. */
export async function removeDockerNetworks(instance: string): Promise<void> {
  const names = cnmNamesOf(instance)
  await unpassFirewalls(names, instance)
  await run('nft', ['-f', '-'], `add table inet ${names.table}\ndelete table inet ${names.table}\n`)
  // A group without members is no failure.
  for (const group of [names.group, names.doomedGroup]) await run('ip', ['link', 'del', 'group', String(group)]).catch(() => { /* none */ })
}

/** Every process in a control group or below it. */
function processesOf(path: string): ProcessId[] {
  const pids = new Set<number>()
  const collect = (dir: string): void => {
    let entries
    try {
      for (const pid of readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n')) if (pid !== '') pids.add(Number(pid))
      entries = readdirSync(dir, { withFileTypes: true })
    } catch {
      return
    }
    for (const e of entries) if (e.isDirectory()) collect(join(dir, e.name))
  }
  for (const h of hierarchies()) collect(join(h, path))
  return [...pids].map(identify).filter(p => p !== undefined)
}

/** Every process that has `argument` on its command line. */
function processesWith(argument: string): ProcessId[] {
  return readdirSync('/proc').filter(d => /^\d+$/.test(d)).flatMap(pid => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(argument) ? [identify(Number(pid))] : []
    } catch {
      return []
    }
  }).filter(p => p !== undefined)
}
