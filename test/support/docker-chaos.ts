/**
 * Clients that make, use and remove all kinds of Docker's objects while daemons are killed under them, and remember what was
 * acknowledged: that must be so afterwards; what was cut off may be the one or the other, but whole.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError, type DockerApiClient } from './docker-api.ts'
import type { Dice } from './docker-faults.ts'
import { type FakeRegistry, randomImage, tarOf } from './fake-registry.ts'

/** A restart by policy that has the run before in its way. */
const RESTART_MS = 20_000

type Presence = 'there' | 'gone' | 'unsure'

interface ContainerFact {
  presence: Presence
  id?: string
  /** Undefined: not known. */
  runs?: boolean
  /** Of its first process, if known. */
  pid?: number
}

export interface ContainerView { Id: string; Name: string; State: { Status: string; Running: boolean; Pid: number; ExitCode: number; StartedAt: string } }

export class Chaos {
  readonly containers = new Map<string, ContainerFact>()
  readonly tags = new Map<string, Presence>()
  readonly networks = new Map<string, Presence>()
  readonly volumes = new Map<string, Presence>()
  /** What clients were doing when they were cut off, and what the engine said no to. */
  readonly cut: string[] = []
  readonly refused: string[] = []
  done = 0
  readonly #api: DockerApiClient
  readonly #dice: Dice
  readonly #registry: FakeRegistry
  readonly #archive: Buffer
  #going = true
  #next = 0
  readonly #work: Promise<void>[] = []

  /** `archive`: one that `docker load` takes, of `busybox:latest`. */
  constructor(api: DockerApiClient, dice: Dice, registry: FakeRegistry, archive: Buffer) {
    this.#api = api
    this.#dice = dice
    this.#registry = registry
    this.#archive = archive
  }

  start(prefix: string, clients: number): void {
    for (let n = 0; n < clients; n++) this.#work.push(this.#client(`${prefix}-${n}`))
  }

  /** Resolves when each client has finished or lost what it was doing. */
  async stop(): Promise<void> {
    this.#going = false
    await Promise.all(this.#work)
  }

  async #client(prefix: string): Promise<void> {
    const dice = this.#dice
    const kinds = [
      () => this.#container(prefix), () => this.#container(prefix), () => this.#container(prefix), () => this.#network(prefix),
      () => this.#pull(prefix), () => this.#build(prefix), () => this.#load(prefix), () => this.#volume(prefix),
    ]
    while (this.#going) {
      try {
        await dice.of(kinds)()
      } catch (e) {
        if (e instanceof ApiError) this.refused.push(e.message)
        else if (e === STOPPED) continue
        // Nobody there for a moment.
        await sleep(100)
      }
    }
  }

  /** Remembers what is under way; a connection that breaks leaves it unsure. */
  async #step(what: string, work: () => Promise<void>): Promise<void> {
    if (!this.#going) throw STOPPED
    try {
      await work()
      this.done++
    } catch (e) {
      // One that nobody took in was not cut off.
      if (!(e instanceof ApiError) && !['ENOENT', 'ECONNREFUSED'].includes((e as NodeJS.ErrnoException).code ?? '')) this.cut.push(what)
      throw e
    }
  }

  #set(facts: Map<string, Presence>, name: string, unsureUntil: Promise<unknown>, after: Presence): Promise<void> {
    facts.set(name, 'unsure')
    return unsureUntil.then(() => { facts.set(name, after) })
  }

  async #container(prefix: string): Promise<void> {
    const [api, dice] = [this.#api, this.#dice]
    const name = `${prefix}-c${this.#next++}`
    const f: ContainerFact = { presence: 'unsure' }
    this.containers.set(name, f)
    const published = dice.chance(0.4)
    const volume = dice.chance(0.3) ? `${name}-v` : undefined
    const anonymous = dice.chance(0.2)
    if (volume !== undefined) this.volumes.set(volume, 'unsure')
    await this.#step('create', async () => {
      f.id = (await api.json<{ Id: string }>('POST', `/containers/create?name=${name}`, {
        Image: 'busybox', Cmd: ['sh', '-c', 'echo out; exec sleep 1000'], Tty: dice.chance(0.1), OpenStdin: dice.chance(0.1),
        ...(published && { ExposedPorts: { '80/tcp': {} } }), ...(anonymous && { Volumes: { '/etc': {} } }),
        HostConfig: {
          ...(published && { PortBindings: { '80/tcp': [{ HostPort: '' }] } }), ...(volume !== undefined && { Binds: [`${volume}:/v`] }),
          ...(dice.chance(0.2) && { IpcMode: 'shareable' }), ...(dice.chance(0.2) && { RestartPolicy: { Name: 'unless-stopped' } }),
        },
      })).Id
      f.presence = 'there'
    })
    if (dice.chance(0.3)) await this.#step('put archive', async () => { await api.ok('PUT', `/containers/${name}/archive?path=/tmp`, await tarOf([[{ name: 'f' }, 'x'.repeat(50_000)]])) })
    delete f.runs
    await this.#step('start', async () => { await api.ok('POST', `/containers/${name}/start`); f.runs = true })
    await this.#step('inspect', async () => { f.pid = (await api.json<ContainerView>('GET', `/containers/${name}/json`)).State.Pid })
    for (let n = dice.below(3); n > 0; n--) await this.#use(prefix, name)
    if (dice.chance(0.15)) return
    if (dice.chance(0.5)) {
      delete f.runs
      delete f.pid
      await this.#step('stop', async () => { await api.ok('POST', `/containers/${name}/${dice.of(['stop?t=0', 'kill'])}`); f.runs = false })
    }
    if (dice.chance(0.8)) {
      f.presence = 'unsure'
      delete f.runs
      delete f.pid
      await this.#step('rm', async () => { await api.ok('DELETE', `/containers/${name}?force=1&v=1`); f.presence = 'gone' })
    }
  }

  async #use(prefix: string, name: string): Promise<void> {
    const [api, dice] = [this.#api, this.#dice]
    await dice.of([
      () => this.#step('exec', async () => {
        const { Id } = await api.json<{ Id: string }>('POST', `/containers/${name}/exec`, { Cmd: ['sh', '-c', 'echo hi'], AttachStdout: true })
        await api.ok('POST', `/exec/${Id}/start`, { Detach: dice.chance(0.5) })
      }),
      () => this.#step('cp', async () => { await api.ok('GET', `/containers/${name}/archive?path=/etc`) }),
      () => this.#step('put archive', async () => { await api.ok('PUT', `/containers/${name}/archive?path=/tmp`, await tarOf([[{ name: 'f' }, 'x'.repeat(50_000)]])) }),
      () => {
        const tag = `commit-${prefix}-${this.#next++}:1`
        return this.#step('commit', () => this.#set(this.tags, tag, api.ok('POST', `/commit?container=${name}&repo=${tag.replace(':1', '')}&tag=1`, {}), 'there'))
      },
      () => this.#step('restart', async () => {
        const f = this.containers.get(name)!
        delete f.pid
        delete f.runs
        await api.ok('POST', `/containers/${name}/restart?t=0`)
        f.runs = true
      }),
      async () => {
        await this.#step('pause', async () => { await api.ok('POST', `/containers/${name}/pause`) })
        await this.#step('unpause', async () => { await api.ok('POST', `/containers/${name}/unpause`) })
      },
      () => this.#step('network connect', async () => { await api.ok('POST', '/networks/chaos/connect', { Container: name }) }),
      () => this.#step('logs', async () => { await api.ok('GET', `/containers/${name}/logs?stdout=1&stderr=1`) }),
    ])()
  }

  async #network(prefix: string): Promise<void> {
    const name = `${prefix}-n${this.#next++}`
    await this.#step('network create', () => this.#set(this.networks, name, this.#api.ok('POST', '/networks/create', { Name: name }), 'there'))
    if (this.#dice.chance(0.8)) await this.#step('network rm', () => this.#set(this.networks, name, this.#api.ok('DELETE', `/networks/${name}`), 'gone'))
  }

  async #volume(prefix: string): Promise<void> {
    const name = `${prefix}-v${this.#next++}`
    await this.#step('volume create', () => this.#set(this.volumes, name, this.#api.ok('POST', '/volumes/create', { Name: name }), 'there'))
    if (this.#dice.chance(0.8)) await this.#step('volume rm', () => this.#set(this.volumes, name, this.#api.ok('DELETE', `/volumes/${name}`), 'gone'))
  }

  async #pull(prefix: string): Promise<void> {
    const name = `${prefix}-p${this.#next++}`
    const tag = this.#registry.add(name, await randomImage(name))
    await this.#step('pull', () => this.#set(this.tags, tag, this.#api.ok('POST', `/images/create?fromImage=${encodeURIComponent(tag.replace(/:1$/, ''))}&tag=1`), 'there'))
    if (this.#dice.chance(0.5)) await this.#step('rmi', () => this.#set(this.tags, tag, this.#api.ok('DELETE', `/images/${tag}`), 'gone'))
  }

  async #build(prefix: string): Promise<void> {
    const tag = `build-${prefix}-${this.#next++}:1`
    const context = await tarOf([[{ name: 'Dockerfile' }, `FROM busybox\nCOPY f /f\nRUN echo ${tag} >/g\nENV A=${tag}\n`], [{ name: 'f' }, `${tag}${'x'.repeat(20_000)}`]])
    await this.#step('build', () => this.#set(this.tags, tag, this.#api.ok('POST', `/build?t=${tag}`, context), 'there'))
    if (this.#dice.chance(0.5)) await this.#step('rmi', () => this.#set(this.tags, tag, this.#api.ok('DELETE', `/images/${tag}`), 'gone'))
  }

  async #load(prefix: string): Promise<void> {
    await this.#step('load', async () => { await this.#api.ok('POST', '/images/load', this.#archive) })
    const tag = `tag-${prefix}-${this.#next++}:1`
    await this.#step('tag', () => this.#set(this.tags, tag, this.#api.ok('POST', `/images/busybox/tag?repo=${tag.replace(':1', '')}&tag=1`), 'there'))
    if (this.#dice.chance(0.5)) await this.#step('untag', () => this.#set(this.tags, tag, this.#api.ok('DELETE', `/images/${tag}`), 'gone'))
  }

  /** What is not as it was acknowledged. */
  async contradictions(): Promise<string[]> {
    const api = this.#api
    const [rows, images, networks, { Volumes: volumes }] = await Promise.all([
      api.json<{ Id: string; Names: string[]; State: string }[]>('GET', '/containers/json?all=1'), api.json<{ RepoTags: string[] }[]>('GET', '/images/json'),
      api.json<{ Name: string }[]>('GET', '/networks'), api.json<{ Volumes: { Name: string }[] }>('GET', '/volumes'),
    ])
    const out: string[] = []
    const check = (kind: string, facts: Map<string, Presence>, there: Set<string>): void => {
      for (const [name, presence] of facts) {
        if (presence === 'there' && !there.has(name)) out.push(`${kind} ${name} was made and is lost`)
        if (presence === 'gone' && there.has(name)) out.push(`${kind} ${name} was removed and is there`)
      }
    }
    check('image', this.tags, new Set(images.flatMap(i => i.RepoTags)))
    check('network', this.networks, new Set(networks.map(n => n.Name)))
    check('volume', this.volumes, new Set(volumes.map(v => v.Name)))
    check('container', new Map([...this.containers].map(([name, f]) => [name, f.presence])), new Set(rows.map(r => r.Names[0]!.slice(1))))
    for (const r of rows) {
      const name = r.Names[0]!.slice(1)
      const f = this.containers.get(name)
      if (f === undefined) continue
      const s = await this.#settled(r.Id)
      if (f.id !== undefined && f.id !== r.Id) out.push(`container ${name} has another id`)
      if (f.runs === true && !s.Running) out.push(`container ${name} was started and is ${JSON.stringify(s)}`)
      if (f.runs === false && s.Running) out.push(`container ${name} was stopped and is ${s.Status}`)
      if (f.pid !== undefined && f.runs === true && f.pid !== s.Pid) out.push(`container ${name} had process ${f.pid} and has ${s.Pid}`)
      if (!['created', 'running', 'exited', 'paused'].includes(s.Status)) out.push(`container ${name} is ${s.Status}`)
    }
    return out
  }

  /** Its state once no restart by its policy is under way: a kill in the midst of a restart leaves that to the policy. */
  async #settled(id: string): Promise<ContainerView['State']> {
    for (const end = Date.now() + RESTART_MS; ; await sleep(50)) {
      const { State: s } = await this.#api.json<ContainerView>('GET', `/containers/${id}/json`)
      if (s.Status !== 'restarting' || Date.now() > end) return s
    }
  }

  /** Removes all that the clients have made. */
  async clear(): Promise<void> {
    const api = this.#api
    const rows = await api.json<{ Id: string; Names: string[] }[]>('GET', '/containers/json?all=1')
    await Promise.all(rows.filter(r => this.containers.has(r.Names[0]!.slice(1))).map(async r => {
      const before = await api.ok('GET', `/containers/${r.Id}/json`)
      await api.ok('DELETE', `/containers/${r.Id}?force=1&v=1`).catch((e: unknown) => { throw new Error(`${(e as Error).message}\nbefore: ${before}`, { cause: e }) })
    }))
    const present = async (method: string, path: string): Promise<void> => {
      const r = await api.call(method, path)
      if (r.status >= 400 && r.status !== 404) throw new ApiError(`${method} ${path}`, r)
    }
    for (const name of this.networks.keys()) await present('DELETE', `/networks/${name}`)
    for (const name of this.volumes.keys()) await present('DELETE', `/volumes/${name}`)
    for (const tag of this.tags.keys()) await present('DELETE', `/images/${tag}?force=1`)
    await api.ok('POST', `/images/prune?filters=${encodeURIComponent('{"dangling":["true"]}')}`)
    await api.ok('POST', '/build/prune?all=1')
  }
}

const STOPPED = new Error('stopped')
