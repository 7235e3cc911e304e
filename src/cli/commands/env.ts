/** `gantry env`: what a shell needs to reach the cluster with other clients. */
import type { Command } from 'commander'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { dockerSocketOf, readClusterFile } from '../../machines/cluster-file.ts'
import { layout } from '../../machines/layout.ts'
import { json, line, UserError } from '../output.ts'

export function register(program: Command): void {
  program.command('env')
    .description('print shell exports for kubectl, docker and the other clients')
    .option('--node <name>', 'node whose engine docker is to use (default: the first)')
    .option('-u, --unset', 'print what takes them back')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  eval "$(gantry env)"\n  kubectl get pods -A\n  docker ps')
    .action(async (o: { node?: string; unset?: boolean; output?: string }) => {
      if (o.unset === true) return line('unset KUBECONFIG DOCKER_HOST')
      const l = layout()
      const file = join(l.dataDir, 'kubeconfig')
      const cluster = readClusterFile(l)
      if (!existsSync(file) || cluster === undefined) throw new UserError('no cluster here: start one with "gantry up"')
      const node = o.node === undefined ? cluster.nodes[0] : cluster.nodes.find(n => n.name === o.node)
      if (node === undefined) throw new UserError(`there is no host "${o.node}" here; there are: ${cluster.nodes.map(n => n.name).join(', ')}`)
      const exports = { KUBECONFIG: file, DOCKER_HOST: `unix://${dockerSocketOf(l, node)}` }
      if (o.output === 'json') return json(exports)
      for (const [name, value] of Object.entries(exports)) await line(`export ${name}='${value.replaceAll('\'', '\'\\\'\'')}'`)
    })
}
