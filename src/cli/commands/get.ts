/** `gantry get`: objects of any kind, as the server's tables show them. */
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { withSession } from '../context.ts'
import { kindNamed } from '../kinds.ts'
import { json, line, table, UserError } from '../output.ts'

interface Table {
  columnDefinitions: { name: string; priority: number }[]
  rows: { cells: (string | number | null)[]; object: { metadata: { namespace?: string } } }[]
}
interface Options { namespace?: string; allNamespaces?: boolean; selector?: string; output?: string }

export function register(program: Command): void {
  program.command('get <kind> [name]')
    .description('show objects of a kind')
    .option('-n, --namespace <name>', 'namespace')
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <labels>', 'only objects with these labels')
    .option('-o, --output <format>', 'json, yaml, wide or name')
    .addHelpText('after', '\nExample:\n  gantry get pods -A\n  gantry get route web -o yaml')
    .action((kindText: string, name: string | undefined, o: Options, command: Command) =>
      withSession(command, async s => {
        const kind = kindNamed(kindText)
        const namespace = !kind.namespaced || (o.allNamespaces === true && name === undefined) ? undefined : o.namespace ?? s.namespace
        if (o.output !== undefined && !['json', 'yaml', 'wide', 'name'].includes(o.output)) throw new UserError(`-o is json, yaml, wide or name, not "${o.output}"`, 2)
        if (o.output === 'json' || o.output === 'yaml' || o.output === 'name') {
          const value = name === undefined
            ? await s.client.list(kind, { namespace, labelSelector: o.selector })
            : await s.client.get(kind, { namespace, name })
          if (o.output === 'json') return json(value)
          if (o.output === 'yaml') return line(stringify(value).trimEnd())
          for (const i of 'items' in value ? value.items : [value]) await line(`${kind.plural}/${i.metadata.name}`)
          return
        }
        const base = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.apiVersion}`
        const query = o.selector === undefined ? '' : `?${new URLSearchParams({ labelSelector: o.selector })}`
        const path = `${base}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${kind.plural}${name === undefined ? '' : `/${name}`}${query}`
        const body = await s.client.requestOk('GET', path, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' } })
        const t = JSON.parse((await body.toArray()).map(String).join('')) as Table
        if (t.rows.length === 0) return line(`no ${kind.plural}${namespace === undefined ? '' : ` in namespace ${namespace}`}`)
        const shown = t.columnDefinitions.flatMap((c, i) => c.priority === 0 || o.output === 'wide' ? [i] : [])
        const withNamespace = kind.namespaced && namespace === undefined
        await table(
          [...(withNamespace ? ['NAMESPACE'] : []), ...shown.map(i => t.columnDefinitions[i]!.name.toUpperCase())],
          t.rows.map(r => [...(withNamespace ? [r.object.metadata.namespace ?? ''] : []), ...shown.map(i => r.cells[i] ?? '<none>')]),
        )
      }))
}
