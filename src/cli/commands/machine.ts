/** `gantry machine`: the hosts of this machine's cluster. */
import type { Command } from 'commander'
import { hostRuns, killHost, startHost, stopHost } from '../../machines/cluster.ts'
import { type ClusterFile, readClusterFile } from '../../machines/cluster-file.ts'
import { layout } from '../../machines/layout.ts'
import { json, line, paint, table, UserError } from '../output.ts'

export function register(program: Command): void {
  const machine = program.command('machine').description('list, start, stop and kill the hosts of this machine\'s cluster')
  machine.command('ls')
    .description('list hosts')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry machine ls')
    .action(async (o: { output?: string }) => {
      const f = cluster()
      const rows = f.nodes.map(n => ({ name: n.name, driver: n.driver, address: n.address, running: hostRuns(layout(), f, n.name) }))
      if (o.output === 'json') return json(rows)
      await table(['HOST', 'DRIVER', 'ADDRESS', 'STATE'],
        rows.map(r => [r.name, r.driver, r.address, r.running ? paint('green', 'running') : paint('red', 'stopped')]))
    })
  machine.command('start <name>')
    .description('start a stopped or killed host')
    .addHelpText('after', '\nExample:\n  gantry machine start node-2')
    .action(async (name: string) => {
      await line(await startHost(layout(), cluster(), name) ? `${name} started` : `${name} runs already`)
    })
  machine.command('stop <name>')
    .description('stop a host in an orderly way')
    .addHelpText('after', '\nExample:\n  gantry machine stop node-2')
    .action(async (name: string) => {
      await stopHost(layout(), cluster(), name)
      await line(`${name} stopped`)
    })
  machine.command('kill <name>')
    .description('end a host at once, as a power cut would')
    .addHelpText('after', '\nExample:\n  gantry machine kill node-2')
    .action(async (name: string) => {
      await killHost(layout(), cluster(), name)
      await line(`${name} killed`)
    })
}

function cluster(): ClusterFile {
  const f = readClusterFile(layout())
  if (f === undefined) throw new UserError('no cluster here: start one with "gantry up --nodes 3"')
  return f
}
