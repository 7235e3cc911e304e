/**
 * The `gantry` command. Each command is a file in `commands/` that is loaded only when it is called, so that a command
 * costs what it needs and no more. Every command is a client of the API; `up` and `down` make and remove what serves it.
 */
import './compile-cache.ts'
import { Command, CommanderError } from 'commander'
import { ApiError } from '../core/errors.ts'
import { note, paint, UserError } from './output.ts'

/** Command → file in commands/. The order is that of the help. */
const commands: Record<string, string> = {
  up: 'up', down: 'up', engine: 'engine', demo: 'demo', doctor: 'doctor', env: 'env', nodes: 'nodes', machine: 'machine',
  run: 'run', ps: 'ps', scale: 'scale', logs: 'logs', exec: 'exec', top: 'top', events: 'events',
  apply: 'apply', get: 'get', delete: 'delete',
  build: 'build', image: 'image', compose: 'compose', route: 'route', version: 'version',
}

// A reader that has enough (`gantry --help | head`) ends the program, quietly.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code !== 'EPIPE') throw e
  process.exit(0)
})

const program = new Command('gantry')
  .description('One container cluster that speaks everybody\'s API.')
  .option('--kubeconfig <file>', 'credentials to use (default: $KUBECONFIG, then this machine\'s cluster)')
  .showHelpAfterError('(gantry --help lists the commands, gantry COMMAND --help shows one with an example)')
  // What follows the name of a command that is to be run elsewhere (run, exec) belongs to that command.
  .enablePositionalOptions()
  .exitOverride()

export type Register = (program: Command) => void

const named = process.argv.slice(2).find(a => !a.startsWith('-'))
const files = named !== undefined && commands[named] !== undefined ? [commands[named]] : [...new Set(Object.values(commands))]
for (const file of files) {
  const { register } = await import(`./commands/${file}.ts`) as { register: Register }
  register(program)
}
for (const c of program.commands) inherit(c)

/** Errors of sub-commands end up here too. */
function inherit(c: Command): void {
  c.exitOverride()
  for (const sub of c.commands) inherit(sub)
}

try {
  await program.parseAsync()
} catch (e) {
  if (e instanceof CommanderError) process.exitCode = e.exitCode === 0 ? 0 : 2
  else if (e instanceof UserError) {
    await note(paint('red', 'error: ', process.stderr) + e.message)
    process.exitCode = e.exitCode
  } else if (e instanceof ApiError) {
    await note(paint('red', 'error: ', process.stderr) + e.message)
    process.exitCode = 1
  } else {
    await note(paint('red', 'error: ', process.stderr) + (process.env['GANTRY_DEBUG'] === undefined ? (e as Error).message : (e as Error).stack ?? String(e)))
    process.exitCode = 1
  }
}
