/** One stage of a Dockerfile, step by step, taking from the cache what was done before. */
import { createHash, randomBytes } from 'node:crypto'
import { EngineError } from '../engine.ts'
import type { BuildNetwork, BuildOptions } from '../engine.ts'
import type { ImageContext } from '../images/assemble.ts'
import { ingestStream, sha256 } from '../images/content.ts'
import type { EngineImages } from '../images/index.ts'
import { OCI_LAYER } from '../images/media-types.ts'
import type { ConfigFile, Descriptor } from '../images/media-types.ts'
import { parsePlatform } from '../images/platform.ts'
import { parseReference } from '../images/reference.ts'
import { stepKey } from './cache.ts'
import type { BuildCache, CachedStep } from './cache.ts'
import type { CacheMounts } from './cache-mounts.ts'
import { copyItems, parseCopy, resolveOwner } from './copy.ts'
import type { CopyRequest, Resources } from './copy.ts'
import { parseInstruction } from './dockerfile.ts'
import type { Dockerfile, Instruction, StageSource } from './dockerfile.ts'
import { importedStep } from './imported.ts'
import type { ImportedImage } from './imported.ts'
import { applyConfig, commandOf, DEFAULT_PATH, shellOf } from './instructions.ts'
import type { Frame } from './instructions.ts'
import { layerTar, planDigest } from './layer.ts'
import type { CopyItem, CopyPlan } from './layer.ts'
import type { BuildLease } from './lease.ts'
import { mountRootfs } from './rootfs.ts'
import type { Say } from './output.ts'
import type { MountedRootfs } from './rootfs.ts'
import { runLayer } from './run.ts'
import type { RunStep, StepLayer } from './run.ts'
import { parseRunFlags } from './run-flags.ts'
import { mountsIdentity, prepareMounts } from './run-mounts.ts'
import type { MountSources } from './run-mounts.ts'
import type { BuildArgs } from './stages.ts'
import type { Tree } from './tree.ts'
import { expand } from './words.ts'

export interface StageContext {
  x: ImageContext
  images: EngineImages
  cache: BuildCache
  caches: CacheMounts
  lease: BuildLease
  signal: AbortSignal
  mountDir: string
  runDir: string
  runStep: RunStep
  network(): BuildNetwork | undefined
  file: Dockerfile
  options: BuildOptions
  /** Images of `cacheFrom` that are here. */
  imported: ImportedImage[]
  context: Tree
  stream: Say
  build: {
    args: BuildArgs
    /** Number of the stage's first step, and of all. */
    first: number
    steps: number
    /** An earlier stage by name or number, when it is done; undefined if there is none. */
    stage(name: string, before: number): Promise<StageState> | undefined
  }
}

/** What a stage has come to. */
export interface StageState {
  /** Cache key of the last step: stands for everything that led here. */
  key: string
  config: ConfigFile
  layers: Descriptor[]
  chainId: string
  /** Id of the image it stands on; undefined on scratch. */
  baseImage?: string
}

interface Stage extends StageState { args: Map<string, string>; cmdSet: boolean; cacheable: boolean }

/** Makes the stage; `instructions` are those after FROM. */
export function buildStage(c: StageContext, source: StageSource, index: number, instructions: Instruction[]): Promise<StageState> {
  return new StageBuilder(c, index).build(source, instructions)
}

class StageBuilder {
  readonly #c: StageContext
  readonly #index: number
  #step: number

  constructor(c: StageContext, index: number) {
    this.#c = c
    this.#index = index
    this.#step = c.build.first
  }

  #announce(text: string): void {
    this.#c.signal.throwIfAborted()
    this.#c.stream(`Step ${this.#step++}/${this.#c.build.steps} : ${text}\n`)
  }

  async build(source: StageSource, instructions: Instruction[]): Promise<StageState> {
    const base = await this.#base(source)
    const stage: Stage = {
      ...base, config: structuredClone(base.config), layers: [...base.layers], args: new Map(), cmdSet: false,
      cacheable: this.#c.options.noCache !== true,
    }
    const config = (stage.config.config ??= {})
    if (config.Env?.some(e => e.startsWith('PATH=')) !== true) config.Env = [...config.Env ?? [], DEFAULT_PATH]
    this.#shown(stage)
    const triggers = config.OnBuild ?? []
    delete config.OnBuild
    if (triggers.length > 0) this.#c.stream(`# Executing ${triggers.length} build trigger${triggers.length === 1 ? '' : 's'}\n`)
    for (const t of triggers) await this.#instruction(stage, parseInstruction(t, source.from.line))
    for (const i of instructions) {
      this.#announce(i.text)
      await this.#instruction(stage, i)
    }
    return stage
  }

  async #base(source: StageSource): Promise<StageState> {
    const { x, images, file, build } = this.#c
    const globals = (n: string) => build.args.global(n)
    const name = expand(source.base, globals, file.escape)
    // What it stands on is ready before it is announced: a stage that waits says nothing.
    const named = file.stages.some((s, n) => n < this.#index && s.name === name.toLowerCase())
    const earlier = named ? await build.stage(name, this.#index) : undefined
    this.#announce(source.from.text)
    if (name === '') throw new EngineError('invalid', `dockerfile parse error on line ${source.from.line}: base name (${source.base}) should not be blank`)
    if (earlier !== undefined) return earlier
    if (name === 'scratch') {
      return {
        key: stepKey('scratch', x.platform.architecture), chainId: '', layers: [],
        config: { architecture: x.platform.architecture, os: x.platform.os, config: {}, rootfs: { type: 'layers', diff_ids: [] }, history: [] },
      }
    }
    if (source.platform !== undefined) {
      const wanted = parsePlatform(expand(source.platform, globals, file.escape))
      if (wanted.os !== x.platform.os || wanted.architecture !== x.platform.architecture) {
        throw new EngineError('invalid', `FROM --platform=${source.platform}: this machine builds and runs ${x.platform.os}/${x.platform.architecture} only`)
      }
    }
    await this.#pull(name, this.#c.options.pull === true)
    const { id } = await images.resolve(name)
    const hit = (await x.store.lookup(name))!
    this.#c.lease.hold({ id: hit.resolved.target.digest, type: 'content' })
    return { key: stepKey('image', id), config: hit.resolved.config, layers: hit.resolved.manifest.layers, chainId: hit.resolved.chainId, baseImage: id }
  }

  async #instruction(stage: Stage, i: Instruction): Promise<void> {
    const { file } = this.#c
    if (i.name === 'FROM') throw new EngineError('invalid', `dockerfile parse error on line ${i.line}: FROM isn't allowed here`)
    const lookup = (n: string): string | undefined => {
      const own = stage.config.config?.Env?.findLast(e => e.startsWith(`${n}=`))
      return own === undefined ? stage.args.get(n) : own.slice(n.length + 1)
    }
    switch (i.name) {
      case 'RUN': return this.#run(stage, i, lookup)
      case 'COPY':
      case 'ADD': return this.#copy(stage, i, lookup)
      case 'ARG': {
        for (const [name, value] of this.#c.build.args.read(i, lookup)) if (value !== undefined) stage.args.set(name, value)
        return this.#commit(stage, `ARG ${i.args}`, nop(stage, `ARG ${i.args}`))
      }
      default: {
        const frame: Frame = { config: stage.config.config!, lookup, escape: file.escape, cmdSet: stage.cmdSet }
        const text = applyConfig(frame, i)
        stage.cmdSet = frame.cmdSet
        if (frame.author !== undefined) stage.config.author = frame.author
        const made = i.name === 'WORKDIR' ? () => this.#makeDirectory(stage, frame.config.WorkingDir!) : undefined
        return this.#commit(stage, text, nop(stage, text), made)
      }
    }
  }

  /** As docker: who names images to take from takes from these alone. */
  get #ownCache(): boolean { return (this.#c.options.cacheFrom ?? []).length === 0 }

  /** Takes the step from the cache, or does `work` (none: only the configuration changes) and remembers it. */
  async #commit(
    stage: Stage, identity: string, createdBy: string, work?: () => Promise<StepLayer | undefined>, alias?: string,
  ): Promise<void> {
    const { cache, lease, imported } = this.#c
    // With the chain: a step done again on files that came out differently is another step.
    const key = stepKey(stage.key, stage.chainId, identity)
    const hit = !stage.cacheable ? undefined
      : this.#ownCache ? await cache.find(key, lease) : await importedStep(this.#c.x, imported, stage, createdBy, lease)
    if (hit !== undefined) {
      this.#c.stream(' ---> Using cache\n')
      if (alias !== undefined) await cache.add(alias, { ...hit, createdBy })
      this.#advance(stage, key, createdBy, hit)
      return
    }
    // As docker: what follows a step that had to be done is done as well, for its key is new in any case.
    if (work !== undefined) await lease.open()
    const layer = await this.#shownWork(work)
    const step: CachedStep = { created: new Date().toISOString(), createdBy, ...(layer === undefined ? {} : { layer }) }
    await cache.add(key, step)
    if (alias !== undefined) await cache.add(alias, step)
    this.#advance(stage, key, createdBy, step)
  }

  /** Docker makes a container also for a step that runs nothing, and says so. */
  async #shownWork(work: (() => Promise<StepLayer | undefined>) | undefined): Promise<StepLayer | undefined> {
    if (work !== undefined) return work()
    const id = randomBytes(6).toString('hex')
    this.#c.stream(` ---> Running in ${id}\n`)
    this.#c.stream(` ---> Removed intermediate container ${id}\n`)
    return undefined
  }

  #advance(stage: Stage, key: string, createdBy: string, { created, layer }: CachedStep): void {
    stage.key = key
    stage.config.created = created
    stage.config.history = [...stage.config.history ?? [], { created, created_by: createdBy, ...(layer === undefined ? { empty_layer: true } : {}) }]
    if (layer !== undefined) {
      stage.layers = [...stage.layers, layer.descriptor]
      stage.config.rootfs = { type: 'layers', diff_ids: [...stage.config.rootfs.diff_ids, layer.diffId] }
      stage.chainId = layer.chainId
    }
    this.#shown(stage)
  }

  #shown(stage: StageState): void {
    this.#c.stream(` ---> ${sha256(JSON.stringify(stage.config)).slice(7, 19)}\n`)
  }

  async #run(stage: Stage, i: Instruction, lookup: (n: string) => string | undefined): Promise<void> {
    const { file, options, build } = this.#c
    const config = stage.config.config!
    const flags = parseRunFlags(i, lookup, file.escape, config.WorkingDir ?? '')
    const { text, script } = runText(i)
    const args = commandOf(config, { ...i, args: text })
    if (args.length === 0 || args[0] === '') throw new EngineError('invalid', `dockerfile parse error on line ${i.line}: RUN without a command`)
    const env = [...config.Env ?? []]
    const declared = [...stage.args].filter(([k]) => !env.some(e => e.startsWith(`${k}=`))).map(([k, v]) => `${k}=${v}`).sort()
    const proxies = build.args.proxies().filter(([n]) => !stage.args.has(n)).map(([n, v]) => `${n}=${v}`)
    const createdBy = (declared.length === 0 ? [] : [`|${declared.length}`, ...declared]).concat(args).join(' ')
    const sources = this.#mountSources()
    const mounted = flags.mounts.length === 0 ? '' : await mountsIdentity(flags.mounts, sources)
    await this.#commit(stage, `RUN ${JSON.stringify([args, declared])}${mounted}`, createdBy, async () => {
      const id = randomBytes(8).toString('hex')
      this.#c.stream(` ---> Running in ${id.slice(0, 12)}\n`)
      const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() }
      const prepared = await prepareMounts(flags.mounts, sources, i.line)
      try {
        const network = flags.network ?? options.network
        const layer = await runLayer({ ...this.#c, lease: this.#c.lease.id, dir: this.#c.runDir }, stage.chainId, {
          id, args, env: [...env, ...declared, ...proxies, ...prepared.env], cwd: config.WorkingDir || '/', user: config.User ?? '', mounts: prepared.mounts,
          ...(script === undefined ? {} : { script }), ...(network === undefined || network === 'default' ? {} : { network }),
          ...(options.extraHosts === undefined ? {} : { extraHosts: options.extraHosts }), ...(options.limits === undefined ? {} : { limits: options.limits }),
        }, args.join(' '), (data, from) => { this.#c.stream(decoders[from].decode(data, { stream: true }), from === 'stderr') })
        this.#c.stream(` ---> Removed intermediate container ${id.slice(0, 12)}\n`)
        return layer
      } finally {
        await prepared.close()
      }
    })
  }

  #mountSources(): MountSources {
    return { ...this.#c, lease: this.#c.lease.id, secrets: this.#c.options.secrets ?? {}, chainOf: from => this.#chainOf(from) }
  }

  async #copy(stage: Stage, i: Instruction, lookup: (n: string) => string | undefined): Promise<void> {
    const { file, x, signal } = this.#c
    const request = parseCopy(i, lookup, file.escape, stage.config.config!.WorkingDir ?? '')
    const closers: (() => Promise<void>)[] = []
    const resources: Resources = { spoolDir: x.spoolDir, signal, lookup, escape: file.escape, onClose: c => { closers.push(c) } }
    try {
      const from = request.from === undefined ? undefined : await this.#chainOf(request.from)
      const options = JSON.stringify([request.destination, request.intoDirectory, request.chown, request.mode])
      // The same paths of the same file system: no need to look at the files themselves.
      const alias = from === undefined ? undefined : stepKey(stage.key, stage.chainId, 'COPY --from', from, JSON.stringify(request.sources), options)
      const known = alias === undefined || !stage.cacheable || !this.#ownCache ? undefined : await this.#c.cache.find(alias, this.#c.lease)
      if (known?.createdBy !== undefined) {
        this.#c.stream(' ---> Using cache\n')
        this.#advance(stage, alias!, known.createdBy, known)
        return
      }
      const tree = from === undefined ? this.#c.context : await this.#mount(from, closers)
      const items = await copyItems(i, request, tree, resources)
      const digest = await planDigest({ items, ...(request.mode === undefined ? {} : { mode: request.mode }) })
      const owner = request.chown === undefined ? '' : `--chown=${request.chown} `
      const text = `${i.name} ${owner}${contentName(items, digest)} in ${request.written} `
      await this.#commit(stage, `${text}${options}`, `${shellOf(stage.config.config!).join(' ')} #(nop) ${text}`, () => this.#copyLayer(stage, request, items), alias)
      // Both ways of knowing the step must lead on to the same keys.
      if (alias !== undefined) stage.key = alias
    } finally {
      for (const close of closers.reverse()) await close()
    }
  }

  /** chainID of what COPY --from and RUN --mount=from= name: an earlier stage, or an image. */
  async #chainOf(from: string): Promise<string> {
    const state = await this.#c.build.stage(from, this.#index)
    if (state !== undefined) return state.chainId
    await this.#pull(from, false)
    return (await this.#c.images.resolve(from)).chainId
  }

  async #pull(reference: string, always: boolean): Promise<void> {
    const { images, options: { onProgress, auths } } = this.#c
    if (!always && await images.find(reference) !== undefined) return
    const auth = auths?.[parseReference(reference).host]
    await images.pull(reference, { ...(onProgress === undefined ? {} : { onProgress }), ...(auth === undefined ? {} : { auth }) })
  }

  async #mount(chainId: string, closers: (() => Promise<void>)[]): Promise<MountedRootfs> {
    await this.#c.lease.open()
    const rootfs = await mountRootfs(this.#c.x, this.#c.mountDir, chainId, this.#c.lease.id)
    closers.push(() => rootfs.close())
    return rootfs
  }

  async #copyLayer(stage: Stage, r: CopyRequest, items: CopyItem[]): Promise<StepLayer | undefined> {
    const target = await mountRootfs(this.#c.x, this.#c.mountDir, stage.chainId, this.#c.lease.id)
    try {
      const owner = r.chown === undefined ? undefined : await resolveOwner(r.chown, target)
      return await this.#writeLayer(stage, {
        items, destination: r.destination, intoDirectory: r.intoDirectory || items.some(i => i.contents),
        ...(owner === undefined ? {} : { owner }), ...(r.mode === undefined ? {} : { mode: r.mode }),
      }, target)
    } finally {
      await target.close()
    }
  }

  async #makeDirectory(stage: Stage, path: string): Promise<StepLayer | undefined> {
    await this.#shownWork(undefined)
    const target = await mountRootfs(this.#c.x, this.#c.mountDir, stage.chainId, this.#c.lease.id)
    try {
      return await this.#writeLayer(stage, { items: [], destination: path, intoDirectory: true }, target)
    } finally {
      await target.close()
    }
  }

  /** undefined if the plan adds nothing. */
  async #writeLayer(stage: Stage, plan: CopyPlan, target: Tree): Promise<StepLayer | undefined> {
    const { x, lease: { id: lease } } = this.#c
    const tar = await layerTar(plan, target)
    if (tar === undefined) return undefined
    const blob = await ingestStream(x.containerd, `build-${randomBytes(8).toString('hex')}`, tar, lease)
    const descriptor: Descriptor = { mediaType: OCI_LAYER, ...blob }
    const chainId = await x.unpacker.layer(stage.chainId, blob.digest, descriptor, Promise.resolve(), lease)
    return { descriptor, diffId: blob.digest, chainId }
  }
}

const nop = (stage: StageState, text: string): string => `${shellOf(stage.config.config ?? {}).join(' ')} #(nop)  ${text}`

/** Here-documents of RUN: one alone is the script, run by itself if it names its interpreter; else the shell reads them as its own. */
function runText(i: Instruction): { text: string; script?: string } {
  if (i.heredocs.length === 0) return { text: i.args }
  if (i.heredocs.length === 1 && /^<<-?\s*\S+$/.test(i.args)) {
    const text = i.heredocs[0]!.content
    return text.startsWith('#!') ? { text, script: text } : { text }
  }
  return { text: `${i.args}\n${i.heredocs.map(d => `${d.content}${d.name}`).join('\n')}\n` }
}

/** As docker names what was copied: the kind and a hash of it. */
function contentName(items: CopyItem[], digest: string): string {
  if (items.length !== 1) return `multi:${digest}`
  return `${items[0]!.contents ? 'dir' : 'file'}:${createHash('sha256').update(`${items[0]!.name}\0${digest}`).digest('hex')}`
}
