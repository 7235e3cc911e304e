/** `gantry logs`: lines of all instances of an application, as they come. */
import type { Command } from 'commander'
import { createInterface } from 'node:readline'
import type { RemoteClient } from '../../client/client.ts'
import { withSession } from '../context.ts'
import { type Instance, instances, named } from '../instances.ts'
import { paint, UserError, write } from '../output.ts'

interface Options { namespace?: string; follow?: boolean; tail?: string; since?: string; timestamps?: boolean; previous?: boolean; output?: string }

const COLOURS = ['cyan', 'magenta', 'yellow', 'blue', 'green', 'red'] as const

export function register(program: Command): void {
  program.command('logs <app...>')
    .description('print the logs of all instances of applications, each line with its instance')
    .option('-n, --namespace <name>', 'only this namespace')
    .option('-f, --follow', 'go on as lines are written')
    .option('--tail <lines>', 'only the last lines of each instance')
    .option('--since <seconds>', 'only lines younger than this')
    .option('-t, --timestamps', 'with the time of each line')
    .option('-p, --previous', 'of the containers before the last restart')
    .option('-o, --output <format>', 'json: one object a line')
    .addHelpText('after', '\nExample:\n  gantry logs talk/web -f\n  gantry logs lattice-app-controller --tail 5')
    .action((apps: string[], o: Options, command: Command) => withSession(command, async ({ client }) => {
      for (const [flag, value] of [['--tail', o.tail], ['--since', o.since]] as const) {
        if (value !== undefined && !/^\d+$/.test(value)) throw new UserError(`${flag} takes a whole number, not "${value}"`, 2)
      }
      const all = await instances(client, o.namespace)
      const chosen = [...new Set(apps.flatMap(a => named(all, a)))]
      const sources = chosen.flatMap(i => i.pod.spec.containers.map(c => ({ instance: i, container: c.name })))
      const width = Math.max(...sources.map(s => label(s.instance, s.container).length))
      const failures: string[] = []
      await Promise.all(sources.map((s, n) => print(client, s.instance, s.container, o, COLOURS[n % COLOURS.length]!, width)
        .catch((e: Error) => failures.push(`${label(s.instance, s.container)}: ${e.message}`))))
      if (failures.length === sources.length) throw new UserError(failures.join('\n'))
      for (const f of failures) await write(`${f}\n`, process.stderr)
    }))
}

function label(i: Instance, container: string): string {
  return i.pod.spec.containers.length === 1 ? i.pod.metadata.name : `${i.pod.metadata.name}/${container}`
}

async function print(client: RemoteClient, i: Instance, container: string, o: Options, colour: typeof COLOURS[number], width: number) {
  const query = new URLSearchParams({ container })
  if (o.follow) query.set('follow', 'true')
  if (o.tail !== undefined) query.set('tailLines', o.tail)
  if (o.since !== undefined) query.set('sinceSeconds', o.since)
  if (o.timestamps) query.set('timestamps', 'true')
  if (o.previous) query.set('previous', 'true')
  const { namespace, name } = i.pod.metadata
  const body = await client.requestOk('GET', `/api/v1/namespaces/${namespace}/pods/${name}/log?${query}`)
  const prefix = paint(colour, label(i, container).padEnd(width) + ' | ')
  for await (const text of createInterface({ input: body, crlfDelay: Infinity })) {
    await write(o.output === 'json'
      ? JSON.stringify({ namespace, instance: name, container, app: i.app, text }) + '\n'
      : `${prefix}${text}\n`)
  }
}
