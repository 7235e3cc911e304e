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
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry machine start node-2')
    .action(async (name: string, o: Output) => {
      await say(o, name, await startHost(layout(), cluster(), name) ? 'started' : 'runs already')
    })
  machine.command('stop <name>')
    .description('stop a host in an orderly way')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry machine stop node-2')
    .action(async (name: string, o: Output) => {
      await stopHost(layout(), cluster(), name)
      await say(o, name, 'stopped')
    })
  machine.command('kill <name>')
    .description('end a host at once, as a power cut would')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry machine kill node-2')
    .action(async (name: string, o: Output) => {
      await killHost(layout(), cluster(), name)
      await say(o, name, 'killed')
    })
}

interface Output { output?: string }

function say(o: Output, name: string, state: string): Promise<void> {
  return o.output === 'json' ? json({ name, state }) : line(`${name} ${state}`)
}

function cluster(): ClusterFile {
  const f = readClusterFile(layout())
  if (f === undefined) throw new UserError('no cluster here: start one with "gantry up --nodes 3"')
  return f
}
