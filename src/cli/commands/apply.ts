/** `gantry apply`: objects made as their files say. */
import type { Command } from 'commander'
import { isReason } from '../../core/errors.ts'
import { namespaces } from '../../core/kinds.ts'
import type { ApiObject } from '../../core/types/index.ts'
import { withSession } from '../context.ts'
import { kindOf } from '../kinds.ts'
import { readManifests } from '../manifests.ts'
import { json, line, UserError } from '../output.ts'

export function register(program: Command): void {
  program.command('apply')
    .description('make objects what files say (Kubernetes manifests, also the v1beta1 of 2014, and Gantry\'s kinds)')
    .requiredOption('-f, --filename <path...>', 'files, folders, or - for standard input')
    .option('-n, --namespace <name>', 'namespace for objects that name none')
    .option('--dry-run', 'let the server check, change nothing')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry apply -f examples/talk/lattice-app.json')
    .action((o: { filename: string[]; namespace?: string; dryRun?: boolean; output?: string }, command: Command) => withSession(command, async s => {
      const objects = o.filename.flatMap(readManifests)
      if (objects.length === 0) throw new UserError(`no objects in ${o.filename.join(', ')}`)
      const done: ApiObject[] = []
      // Namespaces first: what lives in them may stand before them in the files.
      for (const object of objects.toSorted((a, b) => Number(b.kind === 'Namespace') - Number(a.kind === 'Namespace'))) {
        const kind = kindOf(object)
        const namespace = kind.namespaced ? object.metadata.namespace ?? o.namespace ?? s.namespace : undefined
        const body = { ...object, metadata: { ...object.metadata, ...(namespace !== undefined && { namespace }) } }
        const before = await s.client.get(kind, { namespace, name: object.metadata.name })
          .catch((e: unknown) => { if (isReason(e, 'NotFound')) return undefined; throw e })
        const after = await s.client.patch(kind, { namespace, name: object.metadata.name }, 'apply', body,
          { fieldManager: 'gantry', force: true, ...(o.dryRun === true && { dryRun: true }) })
          .catch((e: unknown) => {
            if (isReason(e, 'NotFound') && kind !== namespaces && namespace !== undefined) {
              throw new UserError(`${(e as Error).message}. Make its namespace first: gantry apply, or kubectl create namespace ${namespace}`)
            }
            throw e
          })
        done.push(after)
        const what = before === undefined ? 'created'
          : before.metadata.resourceVersion === after.metadata.resourceVersion ? 'unchanged' : 'configured'
        if (o.output !== 'json') await line(`${kind.singular}/${after.metadata.name} ${what}${o.dryRun === true ? ' (dry run)' : ''}`)
      }
      if (o.output === 'json') await json(done)
    }))
}
