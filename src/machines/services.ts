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

/** Freed memory goes back to the kernel: glibc keeps some for each thread, and more the larger what was freed has been. */
const GIVE_BACK = ['MALLOC_ARENA_MAX=1', 'MALLOC_TRIM_THRESHOLD_=131072']
/** The server's store has a thread that allocates too, and its answers of some megabytes come and go: mapping each anew would slow lists. */
const SERVER_MEMORY = ['MALLOC_ARENA_MAX=2', 'MALLOC_TRIM_THRESHOLD_=8388608', 'MALLOC_MMAP_THRESHOLD_=8388608']
/** The collector runs early instead of letting the heap grow: a fifth more work for what is idle most of the time, half the garbage after a burst. */
const SMALL_HEAP = ['--v8-pool-size=1', '--max-semi-space-size=2', '--optimize-for-size']
/** A young generation is not given back once it has grown: only the server works enough for a larger one to pay. */
const SERVER_HEAP = ['--max-semi-space-size=4']

/** A daemon: its command, run again whenever it ends. */
export interface ServiceCommand { name: string; command: string[] }

/** The command line of one of Gantry's own daemons. */
export function gantryDaemon(name: 'server' | 'agent' | 'router' | 'logger' | 'engine', configFile: string): ServiceCommand {
  const heap = { server: SERVER_HEAP, logger: LOGGER_NODE_FLAGS, agent: [...SMALL_HEAP, '--expose-gc'], router: SMALL_HEAP, engine: SMALL_HEAP }[name]
  const environment = [compileCache, ...name === 'server' ? SERVER_MEMORY : GIVE_BACK]
  return { name, command: ['/usr/bin/env', ...environment, process.execPath, '--disable-warning=ExperimentalWarning', ...heap, entry, name, configFile] }
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
