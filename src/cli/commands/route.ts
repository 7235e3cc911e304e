/** `gantry route`: what the router leads where. */
import type { Command } from 'commander'
import { routes, services } from '../../core/kinds.ts'
import type { Route, RouteBackend } from '../../core/types/index.ts'
import { isReason } from '../../core/errors.ts'
import { withSession } from '../context.ts'
import { pairs, portOf } from '../args.ts'
import { json, line, table } from '../output.ts'

interface AddOptions { namespace?: string; path?: string; tcp?: string; service?: string; selector?: string; port: string; sticky?: boolean; output?: string }

export function register(program: Command): void {
  const route = program.command('route').description('lead traffic from the router to instances')

  route.command('add <name>')
    .description('add or change a route; without --tcp the name is also its host (plus the cluster\'s domain)')
    .option('-n, --namespace <name>', 'namespace of the instances')
    .option('--host <name>', 'host name (default: the route\'s name)')
    .option('--path <prefix>', 'only paths below this')
    .option('--tcp <port>', 'a port of the router whose bytes are passed on as they are')
    .option('--service <name>', 'the Service to lead to (default: the one of the route\'s name, if there is)')
    .option('-l, --selector <labels>', 'lead to instances with these labels (default: name=NAME)')
    .option('--sticky', 'keep a client at one instance by a cookie')
    .requiredOption('-p, --port <port>', 'port of the Service or the instances')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry route add lattice-app --port 8080\n  gantry route add cache --tcp 6379 --service redis --port 6379')
    .action((name: string, o: AddOptions & { host?: string }, command: Command) => withSession(command, async s => {
      const namespace = o.namespace ?? s.namespace
      const spec: Route['spec'] = {
        ...(o.tcp === undefined ? { host: o.host ?? name } : { tcpPort: portOf(o.tcp) }),
        ...(o.path !== undefined && { path: o.path }), ...(o.sticky === true && { sticky: true }),
        backend: await backendOf(),
      }
      const made = await s.client.patch(routes, { namespace, name }, 'apply',
        { apiVersion: 'gantry.dev/v1', kind: 'Route', metadata: { name, namespace }, spec }, { fieldManager: 'gantry', force: true })
      if (o.output === 'json') return json(made)
      await line(`route/${name} set`)

      async function backendOf(): Promise<RouteBackend> {
        if (o.selector !== undefined) return { selector: { matchLabels: pairs('--selector', o.selector.split(',')) }, port: portOf(o.port) }
        const service = o.service ?? await s.client.get(services, { namespace, name }).then(() => name, (e: unknown) => {
          if (isReason(e, 'NotFound')) return undefined
          throw e
        })
        return service === undefined
          ? { selector: { matchLabels: { name } }, port: portOf(o.port) }
          : { service: { name: service, port: /^\d+$/.test(o.port) ? Number(o.port) : o.port } }
      }
    }))

  route.command('ls')
    .description('list routes')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry route ls')
    .action((o: { output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const { items } = await client.list(routes)
      if (o.output === 'json') return json(items)
      if (items.length === 0) return line('no routes; make one with "gantry route add"')
      await table(['ROUTE', 'NAMESPACE', 'URL', 'TO', 'INSTANCES'], items.map(r => [
        r.metadata.name, r.metadata.namespace ?? '', r.status?.url ?? refusal(r), target(r.spec.backend), r.status?.endpoints ?? 0,
      ]))
    }))

  route.command('rm <name>')
    .description('remove a route')
    .option('-n, --namespace <name>', 'its namespace')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry route rm lattice-app')
    .action((name: string, o: { namespace?: string; output?: string }, command: Command) => withSession(command, async s => {
      await s.client.delete(routes, { name, namespace: o.namespace ?? s.namespace })
      if (o.output === 'json') return json({ removed: name })
      await line(`route/${name} removed`)
    }))
}

/** Why the router does not serve it; nothing if it has not looked yet. */
function refusal(r: Route): string {
  const refused = r.status?.conditions?.find(c => c.type === 'Accepted' && c.status === 'False')
  return refused === undefined ? '' : `refused: ${refused.message}`
}

function target(b: RouteBackend): string {
  if (b.service !== undefined) return `service/${b.service.name}:${b.service.port}`
  return `${Object.entries(b.selector?.matchLabels ?? {}).map(([k, v]) => `${k}=${v}`).join(',')}:${b.port}`
}
