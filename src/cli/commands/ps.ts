/** `gantry ps`: every instance of every dialect. */
import type { Command } from 'commander'
import { withSession } from '../context.ts'
import { instances, named } from '../instances.ts'
import { age, json, paint, table } from '../output.ts'

export function register(program: Command): void {
  program.command('ps [app]')
    .description('list instances of all applications, whatever made them')
    .option('-n, --namespace <name>', 'only this namespace')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry ps\n  gantry ps lattice-app-controller')
    .action((app: string | undefined, o: { namespace?: string; output?: string }, command: Command) => withSession(command, async ({ client }) => {
      let all = await instances(client, o.namespace)
      if (app !== undefined) all = named(all, app)
      const rows = all.map(i => ({
        instance: i.pod.metadata.name, namespace: i.pod.metadata.namespace!, app: i.app, of: i.of, node: i.pod.spec.nodeName ?? '',
        status: i.status, restarts: i.restarts, ip: i.pod.status?.podIP ?? '', created: i.pod.metadata.creationTimestamp,
      }))
      if (o.output === 'json') return json(rows)
      await table(['INSTANCE', 'APP', 'OF', 'NAMESPACE', 'NODE', 'STATUS', 'RESTARTS', 'IP', 'AGE'], rows.map(r => [
        r.instance, r.app, r.of, r.namespace, r.node, paint(r.status === 'Running' ? 'green' : 'yellow', r.status), r.restarts, r.ip, age(r.created),
      ]))
    }))
}
