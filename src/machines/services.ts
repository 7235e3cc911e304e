/** The daemons of a host as files for supervise.sh. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LOGGER_NODE_FLAGS } from '../engine/logger/flags.ts'
import { startDetached } from './exec.ts'
import { identify, type ProcessId, signal, waitForEnd } from './process.ts'

export const supervisor = fileURLToPath(new URL('supervise.sh', import.meta.url))
const entry = fileURLToPath(new URL('../cli/daemon.ts', import.meta.url))
/** In the environment, so that the entry itself comes from it: to strip the types of one file costs a process 17 MB for good. */
const compileCache = `NODE_COMPILE_CACHE=${fileURLToPath(new URL('../../.gantry/compile-cache', import.meta.url))}`

/** A daemon: its command, run again whenever it ends. */
export interface ServiceCommand { name: string; command: string[] }

/** The command line of one of Gantry's own daemons. */
export function gantryDaemon(name: 'server' | 'agent' | 'router' | 'logger' | 'engine', configFile: string): ServiceCommand {
  // A young generation is not given back once it has grown: only the server works enough for a larger one to pay.
  const heap = name === 'logger' ? LOGGER_NODE_FLAGS : [`--max-semi-space-size=${name === 'server' ? 8 : 2}`]
  return { name, command: ['/usr/bin/env', compileCache, process.execPath, '--disable-warning=ExperimentalWarning', ...heap, entry, name, configFile] }
}

/** Writes the files; started in the order given, stopped in the opposite one. */
export function writeServices(dir: string, services: ServiceCommand[]): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  for (const s of services) {
    if (s.command.some(a => a.includes('\n'))) throw new Error(`an argument of ${s.name} holds a line break`)
    writeFileSync(join(dir, `${s.name}.args`), s.command.join('\n') + '\n', { mode: 0o600 })
    rmSync(join(dir, `${s.name}.pid`), { force: true })
  }
  writeFileSync(join(dir, 'order'), services.map(s => s.name + '\n').join(''), { mode: 0o600 })
}

/** The supervisor of `dir` if it runs. */
export function supervisorOf(dir: string): ProcessId | undefined {
  const file = join(dir, 'supervise.pid')
  if (!existsSync(file)) return undefined
  const id = identify(Number(readFileSync(file, 'utf8')))
  // A pid file of a killed supervisor may name somebody else's process by now.
  return id !== undefined && readFileSync(`/proc/${id.pid}/cmdline`, 'utf8').includes(dir) ? id : undefined
}

/** The process of one service, if it runs. */
export function serviceProcess(dir: string, name: string): ProcessId | undefined {
  try {
    return identify(Number(readFileSync(join(dir, `${name}.pid`), 'utf8')))
  } catch {
    return undefined
  }
}

/** Starts the supervisor of `dir` on this machine, in the background. Does nothing if it runs. */
export async function startServices(dir: string): Promise<void> {
  if (supervisorOf(dir) === undefined) await startDetached('/bin/sh', [supervisor, dir])
}

/** Stops all services of `dir` and their supervisor, politely, then not. */
export async function stopServices(dir: string): Promise<void> {
  const id = supervisorOf(dir)
  if (id === undefined) return
  signal(id, 'SIGTERM')
  if (await waitForEnd(id, 20_000)) return
  signal(id, 'SIGKILL')
  await waitForEnd(id, 2_000)
}
