/** `gantry env`: what a shell needs to reach the cluster with other clients. */
import type { Command } from 'commander'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { layout } from '../../machines/layout.ts'
import { json, line, UserError } from '../output.ts'

export function register(program: Command): void {
  program.command('env')
    .description('print shell exports for kubectl and the other clients')
    .option('-u, --unset', 'print what takes them back')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  eval "$(gantry env)"\n  kubectl get pods -A')
    .action(async (o: { unset?: boolean; output?: string }) => {
      if (o.unset === true) return line('unset KUBECONFIG')
      const file = join(layout().dataDir, 'kubeconfig')
      if (!existsSync(file)) throw new UserError('no cluster here: start one with "gantry up"')
      if (o.output === 'json') return json({ KUBECONFIG: file })
      await line(`export KUBECONFIG='${file.replaceAll('\'', '\'\\\'\'')}'`)
    })
}
