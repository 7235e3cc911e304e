import type { Command } from 'commander'
import { readFileSync } from 'node:fs'
import { withSession } from '../context.ts'
import { json, line } from '../output.ts'

export function register(program: Command): void {
  program.command('version')
    .description('show the version of this command and of the server')
    .option('--client', 'do not ask the server')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry version')
    .action(async (o: { client?: boolean; output?: string }, command: Command) => {
      const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
      const server = o.client === true ? undefined
        : await withSession(command, ({ client }) => client.call<{ gitVersion: string }>('GET', '/version')).catch(() => undefined)
      const both = { client: version, node: process.version, ...(server && { server: server.gitVersion }) }
      if (o.output === 'json') return json(both)
      for (const [k, v] of Object.entries(both)) await line(`${k.padEnd(7)} ${v}`)
      if (o.client !== true && server === undefined) await line('server  not reachable')
    })
}
