/**
 * Network namespaces, each bound to a file. A few are kept ready: with the veth pair that nearly every container needs, and with an `ip`
 * process waiting inside for the rest of its batch, so that a start has no process to wait for.
 */
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { run, runAny } from '../run.ts'
import type { CnmNames } from './names.ts'
import { vethName } from './names.ts'
import { insideRuleset } from './ruleset.ts'
import { Waiting } from './warm.ts'

const retryMs = 2000
const maxMaking = 2

export interface Netns {
  path: string
  /** Host end of the pair whose other end is `eth0` inside, down; undefined in a bare one. */
  veth: string | undefined
  /** Takes the batch for the inside, once. */
  inside: Waiting
  /** An `nft` that waits inside, where the rules for names are loaded but for where the server is. */
  rules: Waiting | undefined
}

// The loopback address as a source must be let out to the bridge; the rule that guards it comes with the same transaction.
const namesScript = 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet && exec nft -f -'

/** Takes one transaction inside a namespace that has, or is to have, rules for names. */
export function nftInside(path: string): Waiting {
  return new Waiting('nsenter', [`--net=${path}`, 'sh', '-c', namesScript])
}

/** Runs a batch of `ip` inside a namespace that is in use. */
export function batchInside(path: string, lines: string[]): Promise<void> {
  return new Waiting('nsenter', [`--net=${path}`, 'ip', '-batch', '-']).finish(lines.join('\n') + '\n')
}

export class NetnsPool {
  readonly #directory: string
  readonly #names: CnmNames
  readonly #size: number
  readonly #ready: Netns[] = []
  readonly #making = new Set<Promise<void>>()
  readonly #reaper: Reaper
  /** Whether there are networks with names: only then their rules are loaded ahead. */
  readonly #withNames: () => boolean
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(directory: string, names: CnmNames, size: number, withNames: () => boolean) {
    this.#withNames = withNames
    this.#directory = directory
    this.#names = names
    this.#size = size
    this.#reaper = new Reaper(names)
    this.#fill()
  }

  async take(): Promise<Netns> {
    for (let netns = this.#ready.shift(); netns !== undefined; netns = this.#ready.shift()) {
      if (netns.inside.alive) {
        // After the caller's own work: making another one would compete with it.
        setTimeout(() => this.#fill(), 20).unref()
        return netns
      }
      void netns.rules?.dismiss()
      this.discard(netns.path, [netns.veth])
    }
    this.#fill()
    return this.make(true)
  }

  /** Not from the pool; `paired`: with `eth0`. */
  async make(paired: boolean): Promise<Netns> {
    const path = join(this.#directory, randomBytes(6).toString('hex'))
    const veth = paired ? vethName() : undefined
    closeSync(openSync(path, 'wx', 0o600))
    const inside = new Waiting('unshare', [`--net=${path}`, 'ip', '-batch', '-'])
    const pair = veth === undefined ? '' :
      `link add eth0 type veth peer name ${veth} group ${this.#names.group} netns ${process.pid}\n`
    try {
      await inside.ask(`link set lo up\n${pair}`)
    } catch (error) {
      await this.remove(path, [veth])
      throw error
    }
    return { path, veth, inside, rules: undefined }
  }

  /** Resolves when the links are gone and the file is. Calls at the same time share one step. */
  remove(path: string | undefined, links: (string | undefined)[]): Promise<void> {
    return this.#reaper.remove(path, links.filter((link) => link !== undefined && link !== '') as string[])
  }

  /** Without waiting: what fails is found and removed by the next process. */
  discard(path: string | undefined, links: (string | undefined)[]): void {
    this.remove(path, links).catch(() => undefined)
  }

  /** Removes what is ready too: the next process makes its own. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    await Promise.all(this.#making)
    await Promise.all(this.#ready.splice(0).map(async ({ path, veth, inside, rules }) => {
      await Promise.all([inside.dismiss(), rules?.dismiss()])
      await this.remove(path, [veth])
    }))
    await this.#reaper.settled()
  }

  async #addRules(netns: Netns): Promise<void> {
    try {
      await nftInside(netns.path).finish(insideRuleset.join('\n') + '\n')
    } catch (error) {
      await netns.inside.dismiss()
      await this.remove(netns.path, [netns.veth])
      throw error
    }
    netns.rules = nftInside(netns.path)
  }

  #fill(): void {
    while (!this.#closed && this.#retry === undefined && this.#making.size < maxMaking && this.#ready.length + this.#making.size < this.#size) {
      const making = this.make(true).then(async (netns) => {
        if (this.#withNames()) await this.#addRules(netns)
        this.#ready.push(netns)
      }).catch(() => {
        // Without this pause a lasting fault would be retried in a tight loop; whoever needs a namespace learns of it from `take`.
        this.#retry = setTimeout(() => {
          this.#retry = undefined
          this.#fill()
        }, retryMs)
        this.#retry.unref()
      }).finally(() => {
        this.#making.delete(making)
        this.#fill()
      })
      this.#making.add(making)
    }
  }
}

interface Doomed { path: string | undefined; links: string[]; done: () => void; failed: (error: unknown) => void }

class Reaper {
  readonly #names: CnmNames
  #doomed: Doomed[] = []
  #working: Promise<void> | undefined

  constructor(names: CnmNames) {
    this.#names = names
  }

  remove(path: string | undefined, links: string[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#doomed.push({ path, links, done: resolve, failed: reject })
    this.#working ??= this.#work().finally(() => { this.#working = undefined })
    return promise
  }

  async settled(): Promise<void> {
    while (this.#working !== undefined) await this.#working
  }

  async #work(): Promise<void> {
    // Lets the callers of this turn join the first batch.
    await Promise.resolve()
    while (this.#doomed.length > 0) {
      const batch = this.#doomed
      this.#doomed = []
      try {
        await removeKernelObjects(this.#names, batch.flatMap(({ path }) => path ?? []), batch.flatMap(({ links }) => links))
        for (const { done } of batch) done()
      } catch (error) {
        for (const { failed } of batch) failed(error)
      }
    }
  }
}

/** Resolves also for what is not there. */
export async function removeKernelObjects({ doomedGroup }: CnmNames, paths: string[], links: string[]): Promise<void> {
  const lines = [...links.map((link) => `link set dev ${link} group ${doomedGroup}`), `link del group ${doomedGroup}`]
  const bound = paths.length === 0 ? new Set<string>() : boundFiles()
  const mounted = paths.filter((path) => bound.has(path))
  // Statuses say nothing here: half-made ones lack the one or the other.
  await Promise.all([
    links.length === 0 ? undefined : runAny('ip', ['-force', '-batch', '-'], { input: lines.join('\n') + '\n' }),
    mounted.length === 0 ? undefined : runAny('umount', ['-l', '--', ...mounted]),
  ])
  for (const path of paths) rmSync(path, { force: true })
}

export interface Found {
  /** Files that a namespace is bound to. */
  namespaces: Set<string>
  /** Files without one. */
  stray: string[]
  /** Links of this instance by name. */
  links: Map<string, { master: string | undefined; kind: string | undefined }>
}

/** What exists in the kernel of this instance. */
export async function findKernelObjects(directory: string, { group, doomedGroup }: CnmNames): Promise<Found> {
  mkdirSync(directory, { recursive: true, mode: 0o711 })
  await runAny('ip', ['link', 'del', 'group', String(doomedGroup)])
  const text = await run('ip', ['-j', '-d', 'link', 'show', 'group', String(group)])
  const listed = JSON.parse(text.trim() === '' ? '[]' : text) as { ifname?: string; master?: string; linkinfo?: { info_kind?: string } }[]
  const bound = boundFiles()
  const files = readdirSync(directory).map((file) => join(directory, file))
  return {
    namespaces: new Set(files.filter((file) => bound.has(file))),
    stray: files.filter((file) => !bound.has(file)),
    links: new Map(listed.flatMap(({ ifname, master, linkinfo }) => (ifname === undefined ? [] : [[ifname, { master, kind: linkinfo?.info_kind }]]))),
  }
}

export function boundFiles(): Set<string> {
  const files = new Set<string>()
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    if (!line.includes(' - nsfs ')) continue
    const path = line.split(' ')[4]
    // The kernel writes blanks and the like as octal escapes.
    if (path !== undefined) files.add(path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))))
  }
  return files
}

/** Name of the namespace's file, as Docker shows it in `SandboxKey`. */
export function keyOf(path: string): string {
  return basename(path)
}
