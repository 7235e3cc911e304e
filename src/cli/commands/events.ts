/** `gantry events`: what happened, oldest first. */
import type { Command } from 'commander'
import { events as eventKind } from '../../core/kinds.ts'
import type { Event } from '../../core/types/index.ts'
import { withSession } from '../context.ts'
import { age, json, line, paint, table } from '../output.ts'

export function register(program: Command): void {
  program.command('events')
    .description('list what happened in the cluster, oldest first')
    .option('-n, --namespace <name>', 'only this namespace')
    .option('-w, --watch', 'go on as things happen')
    .option('--tail <count>', 'only the last ones')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry events --tail 20\n  gantry events -w')
    .action((o: { namespace?: string; watch?: boolean; tail?: string; output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const list = await client.list(eventKind, { namespace: o.namespace })
      let all = list.items.sort((a, b) => (timeOf(a) ?? '').localeCompare(timeOf(b) ?? ''))
      if (o.tail !== undefined) all = all.slice(-Number(o.tail))
      if (o.output === 'json' && o.watch !== true) return json(all)
      if (o.watch !== true) return table(['LAST SEEN', 'TYPE', 'REASON', 'OBJECT', 'COUNT', 'MESSAGE'], all.map(row))
      const seen = new Set(list.items.map(e => `${e.metadata.uid} ${e.metadata.resourceVersion}`))
      const print = (e: Event) => void line(o.output === 'json' ? JSON.stringify(e) : row(e).join('  '))
      for (const e of all) print(e)
      const informer = client.informer(eventKind, { ...(o.namespace !== undefined && { namespace: o.namespace }) })
      informer.on((type, e) => { if (type !== 'DELETED' && !seen.has(`${e.metadata.uid} ${e.metadata.resourceVersion}`)) print(e) })
      await new Promise<void>(resolve => process.once('SIGINT', () => resolve()))
      informer.stop()
    }))
}

const timeOf = (e: Event) => e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp

function row(e: Event): string[] {
  const o = e.involvedObject
  return [
    age(timeOf(e)), paint(e.type === 'Warning' ? 'yellow' : 'dim', e.type ?? ''), e.reason ?? '',
    `${o.kind?.toLowerCase()}/${o.name}`, String(e.count ?? 1), (e.message ?? '').split('\n')[0]!,
  ]
}
