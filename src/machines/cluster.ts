/**
 * A cluster on this machine: brought up, taken down, its hosts stopped and started. Every step can be repeated: what is
 * there is found, what is missing is made.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { availableParallelism, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import { makeRoom, removeCgroups } from './cgroups.ts'
import { type ClusterFile, type NewCluster, type NodePlan, planCluster, readClusterFile, writeClusterFile } from './cluster-file.ts'
import { readEngineConfig } from './docker-engine.ts'
import { clusterCgroup, type Layout } from './layout.ts'
import { NamespaceDriver } from './namespace.ts'
import { paths, provisionNode, provisionRouter, provisionServer } from './provision.ts'
import { startServices, stopServices, supervisorOf, writeServices } from './services.ts'
import { removeDockerNetworks, removeNetwork, stopContainers } from './teardown.ts'
import { createUnderlay, destroyUnderlay, hostAddress, underlayOf } from './underlay.ts'

export interface UpOptions extends NewCluster {
  /** Hosts to make with the `namespace` driver; 0 (default): this machine itself is the one node. */
  nodes?: number
}

/** Said as work goes on: one line each. */
export type Say = (line: string) => void

export class ClusterError extends Error {}

function driverOf(l: Layout, f: ClusterFile): NamespaceDriver {
  return new NamespaceDriver(paths(l).machines, f.cluster.instance, underlayOf(f.cluster.instance, f.underlay))
}

/**
 * Makes and starts the cluster, or finds the one that is there. Resolves when all processes run; being Ready is for the
 * caller to watch through the API. Rejects with ClusterError if the options contradict an existing cluster.
 */
export async function up(l: Layout, options: UpOptions, say: Say): Promise<ClusterFile> {
  if (process.getuid?.() !== 0) throw new ClusterError('gantry up makes network and process namespaces: run it as root')
  if (readEngineConfig(l) !== undefined) throw new ClusterError('an engine is here: remove it first (gantry engine stop --purge), or choose another GANTRY_HOME')
  let f = readClusterFile(l)
  if (f === undefined) {
    f = await planCluster(options)
    f.nodes = planNodes(f, options.nodes ?? 0)
    await writeClusterFile(l, f)
  } else {
    checkSame(f, options)
  }
  mkdirSync(l.runDir, { recursive: true, mode: 0o711 })
  makeRoom()
  const local = f.nodes.find(n => n.driver === 'local')
  const hosts = f.nodes.filter(n => n.driver === 'namespace')
  if (hosts.length > 0) {
    const before = await createUnderlay(underlayOf(f.cluster.instance, f.underlay))
    if (f.forwardBefore === undefined) await writeClusterFile(l, Object.assign(f, { forwardBefore: before }))
  }
  const services = paths(l).services
  if (supervisorOf(services) === undefined) {
    const commands = await provisionServer(l, f)
    const others = await Promise.all([local === undefined ? [] : provisionNode(l, f, local, l.runDir), provisionRouter(l, f)])
    commands.push(...others.flat())
    writeServices(services, commands)
    await startServices(services)
    say(`server at https://127.0.0.1:${f.apiPort}, store ${f.store.type}; router at port ${f.httpPort}`)
  }
  await Promise.all(hosts.map(async h => {
    if (await startHost(l, f, h.name)) say(`host ${h.name} at ${h.address}`)
  }))
  return f
}

/** Two thousand millicores on two hosts are a thousand each: what the hosts offer is what the machine has. */
function planNodes(f: ClusterFile, count: number): NodePlan[] {
  if (count === 0) return [{ name: hostname().toLowerCase(), driver: 'local', address: '127.0.0.1' }]
  const u = underlayOf(f.cluster.instance, f.underlay)
  return Array.from({ length: count }, (_, i) => ({
    name: `node-${i + 1}`, driver: 'namespace' as const, address: hostAddress(u, 11 + i),
    cpuMilli: Math.floor(availableParallelism() * 1000 / count),
    memoryBytes: Math.floor(totalmem() / count),
  }))
}

function checkSame(f: ClusterFile, o: UpOptions): void {
  const have = f.nodes.filter(n => n.driver === 'namespace').length
  if (o.nodes !== undefined && o.nodes !== have) {
    throw new ClusterError(`a cluster with ${have === 0 ? 'this machine as its node' : `${have} hosts`} is here already: take it down first (gantry down --purge)`)
  }
  if (o.store !== undefined && o.store !== f.store.type) {
    throw new ClusterError(`the cluster here keeps its state in ${f.store.type}: take it down first (gantry down --purge)`)
  }
  for (const [name, asked, has] of [['--api-port', o.apiPort, f.apiPort], ['--http-port', o.httpPort, f.httpPort]] as const) {
    if (asked !== undefined && asked !== has) throw new ClusterError(`the cluster here has ${name} ${has}: take it down first (gantry down --purge)`)
  }
}

function nodePlan(f: ClusterFile, name: string): NodePlan {
  const found = f.nodes.find(n => n.name === name)
  if (found === undefined) throw new ClusterError(`there is no host "${name}" here; there are: ${f.nodes.map(n => n.name).join(', ')}`)
  if (found.driver !== 'namespace') throw new ClusterError(`"${name}" is this machine itself: gantry down stops it`)
  return found
}

/** Starts a stopped or killed host. False if it runs already. */
export async function startHost(l: Layout, f: ClusterFile, name: string): Promise<boolean> {
  const plan = nodePlan(f, name)
  const driver = driverOf(l, f)
  if (driver.state(name)?.running === true) return false
  // Inside the host /run is its own, so every host may use the same folder there.
  const runDir = '/run/gantry'
  const services = await provisionNode(l, f, plan, runDir)
  await driver.start({ name, address: plan.address, dataDir: join(paths(l).machines, name), runDir, services })
  return true
}

export async function stopHost(l: Layout, f: ClusterFile, name: string): Promise<void> {
  nodePlan(f, name)
  await driverOf(l, f).stop(name)
}

/** A power cut. */
export async function killHost(l: Layout, f: ClusterFile, name: string): Promise<void> {
  nodePlan(f, name)
  await driverOf(l, f).kill(name)
}

/** Whether a host's processes run. */
export function hostRuns(l: Layout, f: ClusterFile, name: string): boolean {
  const plan = f.nodes.find(n => n.name === name)
  if (plan?.driver === 'local') return supervisorOf(paths(l).services) !== undefined
  return driverOf(l, f).state(name)?.running === true
}

/**
 * Stops every host and daemon. With `purge` also removes what they made: data, namespaces, interfaces, tables, control
 * groups. False if there is nothing.
 */
export async function down(l: Layout, purge: boolean, say: Say): Promise<boolean> {
  const f = readClusterFile(l)
  if (f === undefined) {
    // Docker's engine has the same folders.
    if (purge && readEngineConfig(l) === undefined) removeFiles(l)
    return false
  }
  const driver = driverOf(l, f)
  const hosts = f.nodes.filter(n => n.driver === 'namespace')
  await Promise.all(hosts.map(async h => {
    await driver.remove(h.name)
    say(`host ${h.name} stopped`)
  }))
  await stopServices(paths(l).services)
  if (f.nodes.some(n => n.driver === 'local')) await stopContainers(l, f.cluster.instance)
  say('server and router stopped')
  if (!purge) return true
  await removeNetwork(l, f)
  if (f.nodes.some(n => n.driver === 'local')) await removeDockerNetworks(f.cluster.instance)
  if (hosts.length > 0) await destroyUnderlay(underlayOf(f.cluster.instance, f.underlay), f.forwardBefore ?? '1')
  removeCgroups(clusterCgroup(f.cluster.instance))
  removeFiles(l)
  say('all data removed')
  return true
}

function removeFiles(l: Layout): void {
  for (const dir of [l.runDir, l.dataDir]) if (existsSync(dir)) rmSync(dir, { recursive: true, force: true })
}
