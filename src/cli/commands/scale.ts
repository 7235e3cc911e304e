/** `gantry scale`: how many instances. */
import type { Command } from 'commander'
import { composeProjects, deployments, type Kind, replicaSets, replicationControllers } from '../../core/kinds.ts'
import { isReason } from '../../core/errors.ts'
import type { ApiObject } from '../../core/types/index.ts'
import type { RemoteClient } from '../../client/client.ts'
import { wholeNumber } from '../args.ts'
import { withSession } from '../context.ts'
import { kindAndName } from '../kinds.ts'
import { json, line, UserError } from '../output.ts'

export function register(program: Command): void {
  program.command('scale <app> <count>')
    .description('set the number of instances of a Deployment, ReplicaSet, ReplicationController or Compose service')
    .option('-n, --namespace <name>', 'namespace of the application')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry scale lattice-app-controller 6\n  gantry scale rc/lattice-app-controller 3\n  gantry scale talk/web 2')
    .action((app: string, count: string, o: { namespace?: string; output?: string }, command: Command) => withSession(command, async s => {
      const replicas = wholeNumber('instances', count, 100_000)
      if (await scaleService(s.client, app, replicas)) {
        if (o.output === 'json') return json({ app, kind: composeProjects.kind, replicas })
        return line(`${app} scaled to ${replicas}`)
      }
      const key = await find(s.client, app, o.namespace ?? s.namespace)
      await s.client.patch(key.kind, key, 'merge', { spec: { replicas } }, { subresource: 'scale' })
      if (o.output === 'json') return json({ app: key.name, kind: key.kind.kind, replicas })
      await line(`${key.kind.singular}/${key.name} scaled to ${replicas}`)
    }))
}

/** Scales a service of a Compose project, named PROJECT/SERVICE. False if there is none. */
async function scaleService(client: RemoteClient, app: string, scale: number): Promise<boolean> {
  const [name, service] = app.split('/')
  if (name === undefined || service === undefined) return false
  const key = { namespace: name, name }
  const project = await client.get(composeProjects, key).catch((e: unknown) => { if (isReason(e, 'NotFound')) return undefined; throw e })
  if (project?.spec.services[service] === undefined) return false
  await client.patch(composeProjects, key, 'merge', { spec: { services: { [service]: { scale } } } })
  return true
}

/** The scalable object of that name; a name without kind is looked for in all of them. */
async function find(client: RemoteClient, app: string, namespace: string): Promise<{ kind: Kind; namespace: string; name: string }> {
  const kinds: Kind<ApiObject>[] = app.includes('/') ? [kindAndName(app, deployments).kind] : [deployments, replicationControllers, replicaSets]
  const name = app.slice(app.indexOf('/') + 1)
  for (const kind of kinds) {
    try {
      await client.get(kind, { namespace, name })
      return { kind, namespace, name }
    } catch (e) {
      if (!isReason(e, 'NotFound')) throw e
    }
  }
  throw new UserError(`nothing that can be scaled is called "${name}" in namespace ${namespace}`)
}
