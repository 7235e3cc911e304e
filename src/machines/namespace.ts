/**
 * The `namespace` driver: a host on this machine made of pid, mount, net, uts and ipc namespaces, with a veth to the
 * cluster's bridge. Its process 1 is the supervisor of its services; killing that is a node loss. Control groups stay those
 * of the machine (the host's containers live below `/gantry-INSTANCE/NAME`), because version 1 cannot delegate them.
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { thaw } from '../engine/containers/cgroups.ts'
import { removeCgroups } from './cgroups.ts'
import type { Driver, HostPlan, HostState } from './driver.ts'
import { run, startDetached } from './exec.ts'
import { childrenOf, identify, isAlive, type ProcessId, signal, waitForEnd } from './process.ts'
import { nodeCgroup } from './layout.ts'
import { supervisor, writeServices } from './services.ts'
import { hostAddress, type Underlay } from './underlay.ts'

const init = fileURLToPath(new URL('namespace-init.sh', import.meta.url))

/** From SIGKILL to the end of all processes, unless some are frozen. */
const FROZEN_MS = 500

interface Record { address: string; process: ProcessId }

export class NamespaceDriver implements Driver {
  readonly name = 'namespace'
  readonly #dir: string
  readonly #instance: string
  readonly #underlay: Underlay

  /** `dir` keeps one folder a host. */
  constructor(dir: string, instance: string, underlay: Underlay) {
    this.#dir = dir
    this.#instance = instance
    this.#underlay = underlay
  }

  async start(plan: HostPlan): Promise<void> {
    if (this.state(plan.name)?.running === true) return
    const dir = join(this.#dir, plan.name)
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    const services = join(dir, 'services')
    writeServices(services, plan.services)
    removeCgroups(this.cgroup(plan.name))
    const netns = await this.#freshNetwork(plan)
    const log = openSync(join(dir, 'init.log'), 'a', 0o600)
    try {
      const outer = await startDetached('nsenter', [
        `--net=/run/netns/${netns}`, 'unshare', '--pid', '--mount', '--uts', '--ipc', '--fork', '--kill-child=SIGKILL',
        '/bin/sh', init, plan.name, plan.runDir, services, supervisor,
      ], log)
      const record: Record = { address: plan.address, process: await this.#initOf(outer, plan.name) }
      writeFileSync(join(dir, 'host.json'), JSON.stringify(record), { mode: 0o600 })
    } finally {
      closeSync(log)
    }
  }

  async stop(name: string): Promise<void> {
    const r = this.#record(name)
    if (r === undefined) return
    signal(r.process, 'SIGTERM')
    if (!await waitForEnd(r.process, 20_000)) await this.#kill(name, r)
    await this.#gone(name, r)
  }

  async kill(name: string): Promise<void> {
    const r = this.#record(name)
    if (r === undefined) throw new Error(`there is no host "${name}"`)
    await this.#kill(name, r)
    await this.#gone(name, r)
  }

  async remove(name: string): Promise<void> {
    await this.stop(name)
    rmSync(join(this.#dir, name, 'host.json'), { force: true })
  }

  state(name: string): HostState | undefined {
    const r = this.#record(name)
    return r && { name, running: isAlive(r.process), address: r.address }
  }

  /** Parent control group of all containers of a host. */
  cgroup(name: string): string { return nodeCgroup(this.#instance, name) }

  #record(name: string): Record | undefined {
    const file = join(this.#dir, name, 'host.json')
    return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) as Record : undefined
  }

  /** All of its processes with it, also those that were frozen for a moment. */
  async #kill(name: string, r: Record): Promise<void> {
    signal(r.process, 'SIGKILL')
    await waitForEnd(r.process, FROZEN_MS)
    thaw(this.cgroup(name))
  }

  /** The link is cut and control groups are removed once the kernel has killed everything in the host. */
  async #gone(name: string, r: Record): Promise<void> {
    await waitForEnd(r.process, 10_000)
    await run('ip', ['netns', 'del', this.#netns(name)]).catch(() => { /* gone already */ })
    removeCgroups(this.cgroup(name))
  }

  #netns(name: string): string { return `gantry-${this.#instance}-${name}` }

  /** A network namespace with one interface, `eth0`, on the cluster's bridge. What a killed host left in it is dropped. */
  async #freshNetwork(plan: HostPlan): Promise<string> {
    const netns = this.#netns(plan.name)
    await run('ip', ['netns', 'del', netns]).catch(() => { /* there was none */ })
    // Interface names hold 15 characters: the host's number within the subnet tells them apart.
    const veth = `gh-${this.#instance}-${plan.address.split('.')[3]}`
    await run('ip', ['link', 'del', veth]).catch(() => { /* there was none */ })
    await run('ip', ['netns', 'add', netns])
    await run('ip', ['-batch', '-'], [
      `link add ${veth} type veth peer name eth0 netns ${netns}`,
      `link set ${veth} master ${this.#underlay.bridge} up`, '',
    ].join('\n'))
    await run('ip', ['-n', netns, '-batch', '-'], [
      'link set lo up', `addr add ${plan.address}/24 dev eth0`, 'link set eth0 up',
      `route add default via ${hostAddress(this.#underlay, 1)}`, '',
    ].join('\n'))
    return netns
  }

  /** Process 1 of the host, seen from here: the only child of unshare. It appears within milliseconds. */
  async #initOf(outer: number, name: string): Promise<ProcessId> {
    for (let tries = 0; tries < 200; tries++) {
      const child = childrenOf(outer)[0]
      const id = child === undefined ? undefined : identify(child)
      if (id !== undefined) return id
      if (identify(outer) === undefined) break
      await sleep(10)
    }
    throw new Error(`host "${name}" did not start; see ${join(this.#dir, name, 'init.log')}`)
  }
}
