/** `gantry delete` */
import type { Command } from 'commander'
import type { Kind } from '../../core/kinds.ts'
import { isReason } from '../../core/errors.ts'
import { withSession } from '../context.ts'
import { kindNamed, kindOf } from '../kinds.ts'
import { readManifests } from '../manifests.ts'
import { json, line, UserError } from '../output.ts'

interface Options { filename?: string[]; namespace?: string; ignoreNotFound?: boolean; output?: string }

export function register(program: Command): void {
  program.command('delete [kind] [name...]')
    .description('delete objects, and what they own')
    .option('-f, --filename <path...>', 'delete what these files name')
    .option('-n, --namespace <name>', 'namespace')
    .option('--ignore-not-found', 'what is gone already is no failure')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry delete rc lattice-app-controller\n  gantry delete -f examples/talk/lattice-app.json')
    .action((kindText: string | undefined, names: string[], o: Options, command: Command) =>
      withSession(command, async s => {
        const targets: { kind: Kind; name: string; namespace?: string }[] = o.filename !== undefined
          ? o.filename.flatMap(readManifests).map(m => ({ kind: kindOf(m), ...m.metadata }))
          : kindText === undefined || names.length === 0 ? [] : names.map(name => ({ kind: kindNamed(kindText), name }))
        if (targets.length === 0) throw new UserError('name a kind and objects, or files with -f', 2)
        const deleted: string[] = []
        for (const { kind, name, namespace } of targets) {
          try {
            await s.client.delete(kind, { name, namespace: kind.namespaced ? namespace ?? o.namespace ?? s.namespace : undefined }, { propagationPolicy: 'Background' })
            deleted.push(`${kind.singular}/${name}`)
            if (o.output !== 'json') await line(`${kind.singular}/${name} deleted`)
          } catch (e) {
            if (!(o.ignoreNotFound === true && isReason(e, 'NotFound'))) throw e
          }
        }
        if (o.output === 'json') await json({ deleted })
      }))
}
