/** `gantry nodes`: the bins and how full they are. */
import type { Command } from 'commander'
import { nodes as nodeKind, pods as podKind } from '../../core/kinds.ts'
import { bytes, cpuMilli } from '../../core/quantity.ts'
import type { Node, Pod } from '../../core/types/index.ts'
import { withSession } from '../context.ts'
import { age, bar, json, paint, size, table } from '../output.ts'

export function register(program: Command): void {
  program.command('nodes')
    .description('list nodes with what is asked of them')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry nodes')
    .action((o: { output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const [nodes, pods] = await Promise.all([client.list(nodeKind), client.list(podKind)])
      const usage = new Map<string, { cpuMilli: number; memoryBytes: number; pods: number }>()
      for (const p of pods.items) add(usage, p)
      const rows = nodes.items.map(n => rowOf(n, usage.get(n.metadata.name)))
      if (o.output === 'json') return json(rows)
      await table(['NODE', 'STATUS', 'ADDRESS', 'PODS', 'CPU', '', 'MEMORY', '', 'AGE'], rows.map(r => [
        r.name, r.ready ? paint('green', 'Ready') : paint('red', r.reason), r.address, `${r.pods}/${r.podsMax}`,
        bar(r.cpuMilli / r.cpuMilliMax), `${r.cpuMilli}m/${r.cpuMilliMax}m`,
        bar(r.memoryBytes / r.memoryBytesMax), `${size(r.memoryBytes)}/${size(r.memoryBytesMax)}`, age(r.since),
      ]))
    }))
}

function add(usage: Map<string, { cpuMilli: number; memoryBytes: number; pods: number }>, p: Pod): void {
  const node = p.spec.nodeName
  if (node === undefined || p.status?.phase === 'Succeeded' || p.status?.phase === 'Failed') return
  const u = usage.get(node) ?? { cpuMilli: 0, memoryBytes: 0, pods: 0 }
  u.pods++
  for (const c of p.spec.containers) {
    u.cpuMilli += cpuMilli(c.resources?.requests?.['cpu'])
    u.memoryBytes += bytes(c.resources?.requests?.['memory'])
  }
  usage.set(node, u)
}

function rowOf(n: Node, u = { cpuMilli: 0, memoryBytes: 0, pods: 0 }) {
  const ready = n.status?.conditions?.find(c => c.type === 'Ready')
  const allocatable = n.status?.allocatable ?? {}
  return {
    name: n.metadata.name, ready: ready?.status === 'True', reason: ready?.status === 'Unknown' ? 'Lost' : 'NotReady',
    address: n.status?.addresses?.find(a => a.type === 'InternalIP')?.address ?? '',
    ...u, podsMax: Number(allocatable['pods'] ?? 0), cpuMilliMax: cpuMilli(allocatable['cpu']), memoryBytesMax: bytes(allocatable['memory']),
    since: n.metadata.creationTimestamp,
  }
}
