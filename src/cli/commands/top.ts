/** `gantry top`: what instances use now. */
import type { Command } from 'commander'
import { nodes as nodeKind } from '../../core/kinds.ts'
import type { NodeStats } from '../../core/node-api.ts'
import { withSession } from '../context.ts'
import { json, size, table } from '../output.ts'

export function register(program: Command): void {
  program.command('top')
    .description('show what instances use: CPU over one second, memory, network')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry top')
    .action((o: { output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const nodes = (await client.list(nodeKind)).items.filter(n => n.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True'))
      const sample = () => Promise.all(nodes.map(n => client.call<NodeStats>('GET', `/gantry/v1/nodes/${n.metadata.name}/stats`)))
      const before = await sample()
      await new Promise(resolve => setTimeout(resolve, 1000))
      const after = await sample()
      const cpuBefore = new Map(before.flatMap(n => n.pods.flatMap(p => p.containers.map(c => [`${p.uid}/${c.name}`, c]))))
      const rows = after.flatMap(n => n.pods.map(p => ({
        instance: p.name, namespace: p.namespace, node: n.node,
        cpuMilli: Math.round(p.containers.reduce((sum, c) => {
          const b = cpuBefore.get(`${p.uid}/${c.name}`)
          // Nanoseconds of CPU in milliseconds of time: 1e6 of them a millisecond is one whole core.
          return b === undefined || c.atMs <= b.atMs ? sum : sum + Number(BigInt(c.cpuNs) - BigInt(b.cpuNs)) / (c.atMs - b.atMs) / 1000
        }, 0)),
        memoryBytes: p.containers.reduce((sum, c) => sum + c.workingSetBytes, 0), rxBytes: p.rxBytes ?? 0, txBytes: p.txBytes ?? 0,
      }))).sort((a, b) => b.cpuMilli - a.cpuMilli || b.memoryBytes - a.memoryBytes)
      if (o.output === 'json') return json(rows)
      await table(['INSTANCE', 'NAMESPACE', 'NODE', 'CPU', 'MEMORY', 'RECEIVED', 'SENT'],
        rows.map(r => [r.instance, r.namespace, r.node, `${r.cpuMilli}m`, size(r.memoryBytes), size(r.rxBytes), size(r.txBytes)]))
    }))
}
