/** `gantry exec`: a command in an instance. */
import type { Command } from 'commander'
import { pipeline } from 'node:stream/promises'
import { withSession } from '../context.ts'
import { instances, named } from '../instances.ts'
import { note, UserError } from '../output.ts'

interface Options { namespace?: string; container?: string; tty?: boolean; interactive?: boolean }

export function register(program: Command): void {
  program.command('exec <app> <command...>')
    .description('run a command in an instance (of an application: its first one); ends with the command\'s exit code')
    .option('-n, --namespace <name>', 'only this namespace')
    .option('-c, --container <name>', 'container (default: the first)')
    .option('-i, --interactive', 'pass standard input on')
    .option('-t, --tty', 'give it a terminal')
    .passThroughOptions()
    .addHelpText('after', '\nExample:\n  gantry exec talk/redis redis-cli info\n  gantry exec -it talk/web bash')
    .action((app: string, argv: string[], o: Options, command: Command) => withSession(command, async ({ client }) => {
      const [target] = named(await instances(client, o.namespace), app).filter(i => i.pod.status?.phase === 'Running')
      if (target === undefined) throw new UserError(`no instance of "${app}" runs`)
      const tty = o.tty === true && process.stdin.isTTY
      if (o.tty === true && !tty) await note('no terminal here: going on without --tty')
      const stream = await client.execStream({
        namespace: target.pod.metadata.namespace!, pod: target.pod.metadata.name, command: argv[0] === '--' ? argv.slice(1) : argv,
        ...(o.container !== undefined && { container: o.container }), stdin: o.interactive === true, tty,
      })
      const resize = () => stream.resize(process.stdout.columns, process.stdout.rows)
      if (tty) {
        process.stdin.setRawMode(true)
        process.stdout.on('resize', resize)
        resize()
      }
      try {
        if (o.interactive === true) pipeline(process.stdin, stream.stdin).catch(() => { /* the process closed its input */ })
        const out = pipeline(stream.stdout, process.stdout, { end: false })
        const err = pipeline(stream.stderr, process.stderr, { end: false })
        process.exitCode = await stream.exitCode
        await Promise.all([out, err])
      } finally {
        if (tty) process.stdin.setRawMode(false)
        process.stdout.off('resize', resize)
        process.stdin.destroy()
        stream.close()
      }
    }))
}
