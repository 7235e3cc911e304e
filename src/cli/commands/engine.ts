/** `gantry engine`: Docker's API on this machine alone, with no cluster. */
import type { Command } from 'commander'
import { resolve } from 'node:path'
import { collect, portOf } from '../args.ts'
import { parseMirror } from '../../engine/registry/mirrored.ts'
import { EngineSetupError, listenAddress, prepareEngine, standIn, startEngine, stopEngine } from '../../machines/docker-engine.ts'
import { type EngineConfig, type EngineListen, layout } from '../../machines/layout.ts'
import { lockMachine } from '../../machines/lock.ts'
import { json, line, note, UserError } from '../output.ts'

/** Docker's own for TLS. */
const DEFAULT_TLS_PORT = 2376

interface Options {
  host?: string[]
  tlscacert?: string
  tlscert?: string
  tlskey?: string
  dataRoot?: string
  bridge?: string
  registryMirror: string[]
  detach?: boolean
  output?: string
}

export function register(program: Command): void {
  const engine = program.command('engine')
    .description('a Docker-compatible daemon for this machine, with no cluster')
    .option('-H, --host <address>', 'where to listen: unix://PATH, or tcp://HOST:PORT with certificates; may be repeated (default: docker.sock in the run folder)', (value, all: string[] = []) => collect(value, all))
    .option('--tlscacert <file>', 'CA that clients\' certificates must be signed by')
    .option('--tlscert <file>', 'certificate to show to clients')
    .option('--tlskey <file>', 'its key')
    .option('--data-root <folder>', 'where images, containers and volumes are kept')
    .option('--bridge <name>', 'bridge of the default network (default: docker0, or gantry0 if that is taken)')
    .option('--registry-mirror <url>', 'registry to ask before Docker Hub: http[s]://HOST[:PORT]; may be repeated', collect, [])
    .option('-d, --detach', 'return when it listens; without, it stays until SIGTERM. Containers run on either way')
    .option('-o, --output <format>', 'json for programs, with --detach')
    .addHelpText('after', '\nExample:\n  eval "$(gantry engine --detach)"\n  docker run --rm hello-world')
    .action(async (o: Options) => {
      const listen = (o.host ?? []).map(h => listenOf(h, o))
      const l = layout()
      const unlock = await lockMachine(() => void note('another engine or cluster is being started on this machine: waiting for it'))
      let prepared: Awaited<ReturnType<typeof prepareEngine>>
      try {
        prepared = await guarded(() => prepareEngine(l, {
          ...(listen.length > 0 && { listen }), ...(o.dataRoot !== undefined && { dataRoot: o.dataRoot }), ...(o.bridge !== undefined && { bridge: o.bridge }),
          ...(o.registryMirror.length > 0 && { registryMirrors: o.registryMirror.map(mirrorOf) }),
        }))
        await guarded(() => startEngine(prepared.config, prepared.services))
      } finally {
        unlock()
      }
      if (o.output === 'json') await json({ hosts: prepared.config.listen.map(listenAddress), running: prepared.running })
      else await announce(prepared.config, prepared.running)
      if (o.detach === true || prepared.running) return
      // A process of this size is not needed to wait for another one.
      process.execve!('/bin/sh', standIn(prepared.services), process.env as Record<string, string>)
    })

  engine.command('stop')
    .description('stop it; its containers run on')
    .option('--purge', 'also remove containers, images, networks, volumes and all that was made in the kernel')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry engine stop --purge')
    .action(async (o: { purge?: boolean; output?: string }) => {
      const found = await guarded(() => stopEngine(layout(), o.purge === true))
      if (o.output === 'json') return json({ found, purged: o.purge === true })
      await note(!found ? 'there is no engine here' : o.purge === true ? 'engine stopped, all data removed' : 'engine stopped; its containers run on')
    })
}

async function announce(config: EngineConfig, found: boolean): Promise<void> {
  for (const where of config.listen) await note(`engine ${found ? 'runs' : 'listens'} at ${listenAddress(where)}`)
  const first = config.listen.find(w => 'unix' in w) ?? config.listen[0]!
  await line(`export DOCKER_HOST='${listenAddress(first).replaceAll('\'', '\'\\\'\'')}'`)
  if (!('unix' in first)) await line('export DOCKER_TLS_VERIFY=1')
}

function listenOf(host: string, o: Options): EngineListen {
  if (host.startsWith('unix://')) return { unix: resolve(host.slice('unix://'.length)) }
  const tcp = /^tcp:\/\/(\[[\da-f:]+\]|[^:[\]/]+)(?::(\d+))?$/i.exec(host)
  if (tcp === null) throw new UserError(`--host takes unix://PATH or tcp://HOST:PORT, not "${host}"`, 2)
  if (o.tlscacert === undefined || o.tlscert === undefined || o.tlskey === undefined) {
    throw new UserError(`--host ${host} needs --tlscacert, --tlscert and --tlskey: who reaches this API is root on this machine`, 2)
  }
  return {
    host: tcp[1]!.replace(/^\[|\]$/g, ''), port: tcp[2] === undefined ? DEFAULT_TLS_PORT : portOf(tcp[2]),
    tls: { ca: resolve(o.tlscacert), cert: resolve(o.tlscert), key: resolve(o.tlskey) },
  }
}

/** Checked here, where the mistake was made, and not only in the daemon's log. */
function mirrorOf(text: string): string {
  try {
    return parseMirror(text).href.replace(/\/$/, '')
  } catch (e) {
    throw new UserError((e as Error).message, 2)
  }
}

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (e) {
    throw e instanceof EngineSetupError ? new UserError(e.message) : e
  }
}
