/** `gantry run`: an image as an application, in one line. */
import type { Command } from 'commander'
import { deployments, pods, routes, services } from '../../core/kinds.ts'
import type { Container } from '../../core/types/index.ts'
import { collect, pairs, portOf, wholeNumber } from '../args.ts'
import { withSession } from '../context.ts'
import { json, line, UserError } from '../output.ts'

interface Options {
  namespace?: string; replicas: string; env: string[]; port?: string; route?: string; cpu?: string; memory?: string
  restart: string; output?: string
}

export function register(program: Command): void {
  program.command('run <name> <image> [command...]')
    .description('run an image: a Deployment, with a Service and a route if it listens on a port')
    .option('-n, --namespace <name>', 'namespace')
    .option('-r, --replicas <count>', 'instances', '1')
    .option('-e, --env <NAME=value>', 'environment variable; may be repeated', collect, [])
    .option('-p, --port <port>', 'port it listens on: makes a Service of the same name')
    .option('--route <host>', 'host name at the router (with --port); without dots, the cluster\'s domain is added')
    .option('--cpu <quantity>', 'CPU it asks for and may use, e.g. 100m')
    .option('--memory <quantity>', 'memory it asks for and may use, e.g. 64Mi')
    .option('--restart <policy>', 'Always: a Deployment; OnFailure or Never: one Pod', 'Always')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry run web mstine/lattice-app --port 8080 --env PORT=8080 --replicas 3 --route web')
    .action((name: string, image: string, argv: string[], o: Options, command: Command) => withSession(command, async s => {
      const namespace = o.namespace ?? s.namespace
      const labels = { app: name }
      const limits = { ...(o.cpu !== undefined && { cpu: o.cpu }), ...(o.memory !== undefined && { memory: o.memory }) }
      const container: Container = {
        name, image, ...(argv.length > 0 && { args: argv }), env: Object.entries(pairs('--env', o.env)).map(([n, value]) => ({ name: n, value })),
        ...(o.port !== undefined && { ports: [{ containerPort: portOf(o.port) }] }),
        ...(Object.keys(limits).length > 0 && { resources: { limits, requests: limits } }),
      }
      if (o.route !== undefined && o.port === undefined) throw new UserError('--route needs --port', 2)
      const made = []
      if (o.restart === 'Always') {
        made.push(await s.client.create(deployments, {
          apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name, namespace, labels },
          spec: { replicas: wholeNumber('instances', o.replicas, 100_000), selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers: [container] } } },
        }))
      } else if (o.restart === 'OnFailure' || o.restart === 'Never') {
        made.push(await s.client.create(pods, {
          apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels }, spec: { restartPolicy: o.restart, containers: [container] },
        }))
      } else throw new UserError(`--restart is Always, OnFailure or Never, not "${o.restart}"`, 2)
      if (o.port !== undefined) {
        const port = portOf(o.port)
        made.push(await s.client.create(services, {
          apiVersion: 'v1', kind: 'Service', metadata: { name, namespace, labels }, spec: { selector: labels, ports: [{ port, targetPort: port }] },
        }))
        if (o.route !== undefined) {
          made.push(await s.client.create(routes, {
            apiVersion: 'gantry.dev/v1', kind: 'Route', metadata: { name, namespace, labels },
            spec: { host: o.route, backend: { service: { name, port } } },
          }))
        }
      }
      if (o.output === 'json') return json(made)
      for (const m of made) await line(`${m.kind.toLowerCase()}/${m.metadata.name} created`)
    }))
}
