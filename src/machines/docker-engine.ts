/** `gantry engine` on this machine: brought up, found again, ended. Every step can be repeated. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { replaceFileDurably } from '../files/replace.ts'
import { makeRoom, removeCgroups } from './cgroups.ts'
import { readClusterFile } from './cluster-file.ts'
import { clusterCgroup, dockerDirs, type EngineConfig, engineReadyFile, type EngineListen, type Layout } from './layout.ts'
import { paths, provisionRuntime } from './provision.ts'
import { gantryDaemon, startServices, stopServices, supervisorOf, writeServices } from './services.ts'
import { removeDockerNetworks, stopContainers } from './teardown.ts'

export interface EngineOptions {
  /** Default: `docker.sock` in the run folder. */
  listen?: EngineListen[]
  dataRoot?: string
  bridge?: string
  registryMirrors?: string[]
}

export class EngineSetupError extends Error {}

const READY_MS = 60_000
const RETRY_MS = 40
const LOG_LINES = 5

const fileOf = (l: Layout): string => join(l.dataDir, 'engine.json')

/** Undefined if there is no engine here. */
export function readEngineConfig(l: Layout): EngineConfig | undefined {
  return existsSync(fileOf(l)) ? JSON.parse(readFileSync(fileOf(l), 'utf8')) as EngineConfig : undefined
}

/** As DOCKER_HOST takes it. */
export function listenAddress(where: EngineListen): string { return 'unix' in where ? `unix://${where.unix}` : `tcp://${where.host}:${where.port}` }

/**
 * Writes what the engine is started with; its services are in `services`. `running`: it is there already. Rejects with EngineSetupError if the
 * options contradict the engine that is here, or something else is in the way.
 */
export async function prepareEngine(l: Layout, options: EngineOptions): Promise<{ config: EngineConfig; services: string; running: boolean }> {
  if (process.getuid?.() !== 0) throw new EngineSetupError('gantry engine makes network and process namespaces: run it as root')
  if (readClusterFile(l) !== undefined) {
    throw new EngineSetupError('a cluster is here, and its nodes serve Docker\'s API: eval "$(gantry env)"; an engine beside it needs a GANTRY_HOME of its own')
  }
  const { services } = paths(l)
  const have = readEngineConfig(l)
  const running = supervisorOf(services) !== undefined
  if (have !== undefined) checkSame(have, options, running)
  if (have !== undefined && running) return { config: have, services, running }
  const dataDir = have?.dataDir ?? resolve(options.dataRoot ?? join(l.dataDir, 'engine'))
  mkdirSync(l.dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(l.runDir, { recursive: true, mode: 0o711 })
  makeRoom()
  const runtime = await provisionRuntime(dataDir, l.runDir)
  const config: EngineConfig = {
    instance: have?.instance ?? randomBytes(2).toString('hex'), dataDir, runDir: l.runDir, ...runtime.sockets,
    bridge: have?.bridge ?? options.bridge ?? freeBridge(), listen: options.listen ?? have?.listen ?? [{ unix: join(l.runDir, 'docker.sock') }],
  }
  const registryMirrors = options.registryMirrors ?? have?.registryMirrors
  if (registryMirrors !== undefined) config.registryMirrors = registryMirrors
  for (const where of config.listen) {
    if ('unix' in where && await ping(where.unix)) throw new EngineSetupError(`another daemon serves ${where.unix}: stop it, or choose another --host`)
  }
  rmSync(engineReadyFile(config), { force: true })
  await replaceFileDurably(fileOf(l), JSON.stringify(config, null, 2) + '\n')
  writeServices(services, [...runtime.services, gantryDaemon('engine', fileOf(l))])
  return { config, services, running }
}

/** Starts what `prepareEngine` wrote, in the background; does nothing if it runs. Rejects with EngineSetupError, and stops it again, if it fails. */
export async function startEngine(config: EngineConfig, services: string): Promise<void> {
  const log = join(services, 'engine.log')
  const before = existsSync(log) ? statSync(log).size : 0
  const fresh = supervisorOf(services) === undefined
  await startServices(services)
  const deadline = Date.now() + READY_MS
  while (!existsSync(engineReadyFile(config))) {
    const said = existsSync(log) ? readFileSync(log).subarray(before).toString('utf8') : ''
    if (Date.now() > deadline || said.includes('supervise: engine ended')) {
      if (fresh) await stopServices(services)
      throw new EngineSetupError(`the engine does not come up. Its log (${log}) ends with:\n${said.trimEnd().split('\n').slice(-LOG_LINES).join('\n')}`)
    }
    await sleep(RETRY_MS)
  }
}

/** A command line that stays in the foreground for the running engine: a TERM to it stops the daemons, and it ends when they have. */
export function standIn(services: string): string[] {
  return ['/bin/sh', fileURLToPath(new URL('stand-in.sh', import.meta.url)), String(supervisorOf(services)?.pid ?? 0)]
}

/**
 * Stops the daemons; containers run on, and the next start finds them. With `purge` also removes containers, networks, volumes, images and
 * all that was made in the kernel for them. False if there is nothing.
 */
export async function stopEngine(l: Layout, purge: boolean): Promise<boolean> {
  const config = readEngineConfig(l)
  if (config === undefined) return false
  await stopServices(paths(l).services)
  if (!purge) return true
  await stopContainers(l, config.instance, config.dataDir)
  await removeDockerNetworks(config.instance)
  removeCgroups(clusterCgroup(config.instance))
  for (const where of config.listen) if ('unix' in where) rmSync(where.unix, { force: true })
  removeData(config)
  // The configuration goes last: until then the rest can be found again.
  for (const dir of [l.runDir, l.dataDir]) rmSync(dir, { recursive: true, force: true })
  return true
}

/** Only what is ours: a folder somebody has named may hold more, or be a mount point. */
function removeData({ dataDir }: EngineConfig): void {
  const { networks, volumes, records } = dockerDirs(dataDir)
  const others = ['engine', 'containerd', 'containerd.toml', 'logger.json'].map(name => join(dataDir, name))
  for (const path of [networks, volumes, records, ...others]) rmSync(path, { recursive: true, force: true })
  try {
    rmdirSync(dataDir)
  } catch {
    // Not empty, or mounted.
  }
}

function checkSame(have: EngineConfig, o: EngineOptions, running: boolean): void {
  if (o.dataRoot !== undefined && resolve(o.dataRoot) !== have.dataDir) {
    throw new EngineSetupError(`the engine here keeps its data in ${have.dataDir}: remove it first (gantry engine stop --purge)`)
  }
  if (o.bridge !== undefined && o.bridge !== have.bridge) {
    throw new EngineSetupError(`the engine here has the bridge ${have.bridge}: remove it first (gantry engine stop --purge)`)
  }
  if (running && o.listen !== undefined && !isDeepStrictEqual(o.listen, have.listen)) {
    throw new EngineSetupError(`the engine here listens at ${have.listen.map(listenAddress).join(', ')}: stop it first (gantry engine stop)`)
  }
  if (running && o.registryMirrors !== undefined && !isDeepStrictEqual(o.registryMirrors, have.registryMirrors ?? [])) {
    throw new EngineSetupError(`the engine here asks ${have.registryMirrors?.join(', ') ?? 'no mirrors'} before Docker Hub: stop it first (gantry engine stop)`)
  }
}

/** A dockerd may have the usual one. */
function freeBridge(): string {
  for (let i = 0; ; i++) {
    const name = i === 0 ? 'docker0' : `gantry${i - 1}`
    if (!existsSync(`/proc/sys/net/ipv4/conf/${name}`)) return name
  }
}

function ping(socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    const req = request({ socketPath, path: '/_ping', agent: false, timeout: 2_000 }, res => {
      res.resume()
      resolve(res.statusCode === 200)
    })
    req.on('timeout', () => req.destroy())
    req.on('error', () => resolve(false))
    req.end()
  })
}
