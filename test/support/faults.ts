/** Ends and halts the daemons of a test's own cluster, and looks at its containers from outside. */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { hierarchies } from '../../src/machines/cgroups.ts'
import { identify, isAlive, type ProcessId } from '../../src/machines/process.ts'
import { type TestCluster, waitFor } from './gantry.ts'

export type Daemon = 'server' | 'router' | 'haproxy' | 'etcd' | 'agent' | 'containerd' | 'logger'

/** Folder of the supervisor that keeps a daemon: this machine's, or that of one of its hosts. */
function servicesDir(c: TestCluster, node?: string): string {
  return node === undefined ? join(c.home, 'run/services') : join(c.home, 'lib/machines', node, 'services')
}

/** The process of a daemon as this machine sees it; undefined while it does not run. */
export function processOf(c: TestCluster, daemon: Daemon, node?: string): ProcessId | undefined {
  let pid: number
  try {
    pid = Number(readFileSync(join(servicesDir(c, node), `${daemon}.pid`), 'utf8'))
  } catch {
    return undefined
  }
  return node === undefined ? identify(pid) : outerProcess(hostInit(c, node), pid)
}

/** Process 1 of a host. */
function hostInit(c: TestCluster, node: string): number {
  return (JSON.parse(readFileSync(join(c.home, 'lib/machines', node, 'host.json'), 'utf8')) as { process: ProcessId }).process.pid
}

/** What a pid of a host's namespace is called outside of it. */
function outerProcess(init: number, inner: number): ProcessId | undefined {
  const namespace = readlinkSync(`/proc/${init}/ns/pid`)
  for (const pid of readdirSync('/proc').filter(d => /^\d+$/.test(d))) {
    try {
      const pids = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!.split(/\s+/)
      if (pids.length === 2 && Number(pids[1]) === inner && readlinkSync(`/proc/${pid}/ns/pid`) === namespace) return identify(Number(pid))
    } catch {
      // It ended meanwhile.
    }
  }
  return undefined
}

/** Sends a signal to a daemon; resolves with the process it went to. */
export function signalDaemon(c: TestCluster, name: NodeJS.Signals, daemon: Daemon, node?: string): ProcessId {
  const p = processOf(c, daemon, node)
  if (p === undefined) throw new Error(`${daemon} ${node === undefined ? '' : `of ${node} `}does not run`)
  process.kill(p.pid, name)
  return p
}

/** kill -9; resolves when its supervisor has started it again. */
export async function killDaemon(c: TestCluster, daemon: Daemon, node?: string): Promise<void> {
  const killed = signalDaemon(c, 'SIGKILL', daemon, node)
  await waitFor(`${daemon} to be started again`, 20_000, () => {
    const now = processOf(c, daemon, node)
    return now !== undefined && (now.pid !== killed.pid || now.startTicks !== killed.startTicks)
  })
}

/** kill -9, and nothing is started in its place until the returned function is called. */
export async function keepDown(c: TestCluster, daemon: Daemon, node?: string): Promise<() => void> {
  const file = join(servicesDir(c, node), `${daemon}.args`)
  const args = readFileSync(file, 'utf8')
  // The supervisor reads the command anew each time: it now keeps a program that does nothing.
  writeFileSync(file, 'sleep\n600\n')
  await killDaemon(c, daemon, node)
  return () => {
    writeFileSync(file, args)
    signalDaemon(c, 'SIGKILL', daemon, node)
  }
}

/** All processes in a Pod's containers, by its control groups on a node, with their start times. */
export function podProcesses(c: TestCluster, node: string, uid: string): ProcessId[] {
  const base = join(hierarchies().find(h => /memory$|cgroup$/.test(h))!, `gantry-${c.file().cluster.instance}`, node, uid)
  const pids = readdirSync(base, { withFileTypes: true }).filter(e => e.isDirectory())
    .flatMap(e => readFileSync(join(base, e.name, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number))
  return pids.map(identify).filter(p => p !== undefined)
}

export { isAlive }
