/**
 * One node of a real cluster: how soon Pods run, and what the node costs at rest. `node bench/node.ts [ROUNDS]` makes a cluster
 * of its own (`gantry up`) and removes it. Needs root, containerd, runc and busybox-static.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { pods } from '../src/core/kinds.ts'
import type { Pod } from '../src/core/types/index.ts'
import { serviceProcess } from '../src/machines/services.ts'
import { TestCluster } from '../test/support/gantry.ts'
import { median, row, sleep, spread } from './support.ts'

const MANY = 30
const SETTLE_MS = 8000
const IDLE_MS = 30_000

const rounds = Number(process.argv[2] ?? 15)
const cluster = new TestCluster()

function pod(name: string): Pod {
  return {
    apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', labels: { app: 'bench' } },
    spec: { terminationGracePeriodSeconds: 0, containers: [{ name: 'main', image: 'busybox:1', command: ['sleep', '100000'] }] },
  }
}

async function timePods(): Promise<void> {
  const client = cluster.client()
  const informer = client.informer(pods, { namespace: 'default' })
  let changed = (): void => undefined
  informer.on(() => changed())
  await informer.synced
  const until = (done: (all: Pod[]) => boolean): Promise<void> => new Promise(resolve => {
    changed = () => { if (done([...informer.list()])) resolve() }
    changed()
  })
  const start = async (names: string[]): Promise<number> => {
    const from = performance.now()
    const running = until(all => all.filter(p => p.status?.phase === 'Running').length === names.length)
    await Promise.all(names.map(n => client.create(pods, pod(n))))
    await running
    const ms = performance.now() - from
    await Promise.all(names.map(name => client.delete(pods, { namespace: 'default', name }, { gracePeriodSeconds: 0 })))
    await until(all => all.length === 0)
    return ms
  }
  try {
    const [one, many]: number[][] = [[], []]
    for (let i = -2; i < rounds; i++) {
      const ms = await start([`one-${i + 2}`])
      if (i >= 0) one!.push(ms)
      await sleep(300)
    }
    for (let i = 0; i < Math.max(3, rounds / 4); i++) {
      many!.push(await start(Array.from({ length: MANY }, (_, n) => `many-${i}-${n}`)))
      await sleep(1500)
    }
    row('one Pod, warm image: created → Running in a watch', spread(one!), '≤ 150 ms', median(one!) <= 150)
    row(`${MANY} Pods on one node, created at once → all Running`, spread(many!), '≤ 1500 ms', median(many!) <= 1500)
  } finally {
    client.close()
  }
}

interface Usage { cpuMs: number; rssMB: number; privateMB: number }

function usage(pid: number): Usage {
  // The kernel's exact count: /proc/PID/stat misses what is shorter than its clock's tick.
  const cpuNs = readdirSync(`/proc/${pid}/task`).map(t => Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'utf8').split(' ')[0]))
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const kB = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)![1])
  return {
    cpuMs: cpuNs.reduce((a, b) => a + b) / 1e6,
    rssMB: kB('Rss') / 1024, privateMB: (kB('Private_Clean') + kB('Private_Dirty')) / 1024,
  }
}

async function idle(when: string): Promise<void> {
  const pids = ['agent', 'logger', 'server', 'router'].map(name => {
    const found = serviceProcess(`${cluster.home}/run/services`, name)
    if (found === undefined) throw new Error(`the ${name} does not run`)
    return { name, pid: found.pid }
  })
  await sleep(SETTLE_MS)
  const before = pids.map(p => usage(p.pid))
  await sleep(IDLE_MS)
  const maxMB: Record<string, number> = { agent: 90, server: 120 }
  for (const [i, { name, pid }] of pids.entries()) {
    const now = usage(pid)
    const share = (now.cpuMs - before[i]!.cpuMs) / IDLE_MS * 100
    const max = maxMB[name]
    row(`${name} at rest ${when}`, `${now.rssMB.toFixed(0)} MB (own ${now.privateMB.toFixed(0)}), ${share.toFixed(2)} % of a core`,
      max === undefined ? undefined : `≤ ${max} MB, ≤ 1 %`, max === undefined ? undefined : now.rssMB <= max && share <= 1)
  }
}

try {
  await cluster.ok('up')
  await idle('after its start')
  await cluster.importBusybox()
  await timePods()
  await idle('after these Pods')
} finally {
  await cluster.stop()
}
