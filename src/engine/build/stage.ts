/** Goes through a Dockerfile's stages, step by step, taking from the cache what was done before. */
import { createHash, randomBytes } from 'node:crypto'
import { EngineError } from '../engine.ts'
import type { BuildNetwork, BuildOptions } from '../engine.ts'
import type { ImageContext } from '../images/assemble.ts'
import { ingestStream, sha256 } from '../images/content.ts'
import type { EngineImages } from '../images/index.ts'
import { OCI_LAYER } from '../images/media-types.ts'
import type { ConfigFile, Descriptor } from '../images/media-types.ts'
import { parsePlatform } from '../images/platform.ts'
import { stepKey } from './cache.ts'
import type { BuildCache } from './cache.ts'
import { copyItems, parseCopy, resolveOwner } from './copy.ts'
import type { CopyRequest, Resources } from './copy.ts'
import { parseInstruction } from './dockerfile.ts'
import type { Dockerfile, Instruction, StageSource } from './dockerfile.ts'
import { applyConfig, commandOf, DEFAULT_PATH, shellOf } from './instructions.ts'
import type { Frame } from './instructions.ts'
import { layerTar, planDigest } from './layer.ts'
import type { CopyItem, CopyPlan } from './layer.ts'
import { mountRootfs } from './rootfs.ts'
import type { MountedRootfs } from './rootfs.ts'
import { runLayer } from './run.ts'
import type { RunStep, StepLayer } from './run.ts'
import type { Tree } from './tree.ts'
import { expand, splitWords } from './words.ts'

export interface StageContext {
  x: ImageContext
  images: EngineImages
  cache: BuildCache
  lease: string
  signal: AbortSignal
  mountDir: string
  runDir: string
  runStep: RunStep
  network(): BuildNetwork | undefined
  file: Dockerfile
  options: BuildOptions
  context: Tree
  stream(text: string): void
}

/** What a stage has come to. */
export interface StageState {
  /** Cache key of the last step: stands for everything that led here. */
  key: string
  config: ConfigFile
  layers: Descriptor[]
  chainId: string
}

interface Stage extends StageState { args: Map<string, string>; cmdSet: boolean; cacheable: boolean }

const PROXY_ARGS = ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap(n => [n, n.toLowerCase()])

export class StageBuilder {
  readonly #c: StageContext
  readonly #done = new Map<number, StageState>()
  readonly #globals = new Map<string, string>()
  readonly #usedArgs = new Set<string>(PROXY_ARGS)
  #step = 0
  #steps = 0

  constructor(c: StageContext) {
    this.#c = c
  }

  /** Builds the target stage and those it needs; others are left out. */
  async build(): Promise<StageState> {
    const { file, options } = this.#c
    const target = this.#targetIndex()
    const needed = this.#needed(target)
    this.#readGlobals()
    this.#steps = file.globalArgs.length + needed.reduce((n, s) => n + 1 + file.stages[s]!.instructions.length, 0)
    for (const i of file.globalArgs) this.#announce(i.text)
    for (const n of needed) this.#done.set(n, await this.#stage(file.stages[n]!, n, n === target ? options.labels ?? {} : {}))
    const unused = Object.keys(options.buildArgs ?? {}).filter(a => !this.#usedArgs.has(a))
    if (unused.length > 0) this.#c.stream(`[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n`)
    return this.#done.get(target)!
  }

  #targetIndex(): number {
    const { file: { stages }, options: { target } } = this.#c
    if (target === undefined || target === '') return stages.length - 1
    const byName = stages.findIndex(s => s.name === target.toLowerCase())
    const index = byName >= 0 ? byName : /^\d+$/.test(target) ? Number(target) : -1
    if (stages[index] === undefined) throw new EngineError('invalid', `target stage "${target}" could not be found`)
    return index
  }

  /** Index of the stage before `before` that a name stands for. */
  #stageNamed(name: string, before: number): number | undefined {
    const { stages } = this.#c.file
    const index = stages.findIndex((s, n) => n < before && s.name === name.toLowerCase())
    if (index >= 0) return index
    return /^\d+$/.test(name) && Number(name) < before ? Number(name) : undefined
  }

  #needed(target: number): number[] {
    const out = new Set<number>()
    const visit = (n: number): void => {
      if (out.has(n)) return
      out.add(n)
      const s = this.#c.file.stages[n]!
      const base = this.#c.file.stages.findIndex((e, m) => m < n && e.name === s.base.toLowerCase())
      if (base >= 0) visit(base)
      for (const i of s.instructions) {
        const from = i.flags.find(f => f.name === 'from')?.value
        const index = from === undefined ? undefined : this.#stageNamed(from, n)
        if (index !== undefined) visit(index)
      }
    }
    visit(target)
    return [...out].sort((a, b) => a - b)
  }

  #readGlobals(): void {
    const { platform } = this.#c.x
    const variant = platform.variant ?? ''
    const full = [platform.os, platform.architecture, variant].filter(p => p !== '').join('/')
    for (const side of ['TARGET', 'BUILD']) {
      for (const [k, v] of [['PLATFORM', full], ['OS', platform.os], ['ARCH', platform.architecture], ['VARIANT', variant]]) this.#globals.set(side + k, v!)
    }
    for (const i of this.#c.file.globalArgs) {
      for (const [name, value] of this.#readArg(i, n => this.#globals.get(n))) if (value !== undefined) this.#globals.set(name, value)
    }
  }

  /** Names and values of one ARG; the command line beats the default. */
  #readArg(i: Instruction, lookup: (n: string) => string | undefined): [string, string | undefined][] {
    const { escape } = this.#c.file
    return splitWords(i.args, escape).map(w => {
      const at = w.indexOf('=')
      const name = at < 0 ? w : w.slice(0, at)
      this.#usedArgs.add(name)
      const given = this.#c.options.buildArgs?.[name]
      return [name, given ?? (at < 0 ? this.#globals.get(name) : expand(w.slice(at + 1), lookup, escape))]
    })
  }

  #announce(text: string): void {
    this.#c.signal.throwIfAborted()
    this.#c.stream(`Step ${++this.#step}/${this.#steps} : ${text}\n`)
  }

  async #stage(source: StageSource, index: number, labels: Record<string, string>): Promise<StageState> {
    this.#announce(source.from.text)
    const base = await this.#base(source, index)
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
    for (const t of triggers) await this.#instruction(stage, parseInstruction(t, source.from.line), index)
    for (const i of source.instructions) {
      this.#announce(i.text)
      await this.#instruction(stage, i, index)
    }
    const added = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
    if (added.length > 0) config.Labels = { ...config.Labels, ...Object.fromEntries(added) }
    return stage
  }

  async #base(source: StageSource, index: number): Promise<StageState> {
    const { x, images, file } = this.#c
    const globals = (n: string) => this.#globals.get(n)
    const name = expand(source.base, globals, file.escape)
    if (name === '') throw new EngineError('invalid', `dockerfile parse error on line ${source.from.line}: base name (${source.base}) should not be blank`)
    const earlier = file.stages.findIndex((s, n) => n < index && s.name === name.toLowerCase())
    if (earlier >= 0) return this.#done.get(earlier)!
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
    await this.#pullIfAbsent(name)
    const { id } = await images.resolve(name)
    const hit = (await x.store.lookup(name))!
    await this.#c.x.containerd.leases.addResource(this.#c.lease, { id: hit.resolved.target.digest, type: 'content' })
    return { key: stepKey('image', id), config: hit.resolved.config, layers: hit.resolved.manifest.layers, chainId: hit.resolved.chainId }
  }

  async #instruction(stage: Stage, i: Instruction, index: number): Promise<void> {
    const { file } = this.#c
    if (i.name === 'FROM') throw new EngineError('invalid', `dockerfile parse error on line ${i.line}: FROM isn't allowed here`)
    const lookup = (n: string): string | undefined => {
      const own = stage.config.config?.Env?.findLast(e => e.startsWith(`${n}=`))
      return own === undefined ? stage.args.get(n) : own.slice(n.length + 1)
    }
    switch (i.name) {
      case 'RUN': return this.#run(stage, i)
      case 'COPY':
      case 'ADD': return this.#copy(stage, i, index, lookup)
      case 'ARG': {
        for (const [name, value] of this.#readArg(i, lookup)) if (value !== undefined) stage.args.set(name, value)
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

  /** Takes the step from the cache, or does `work` (none: only the configuration changes) and remembers it. */
  async #commit(
    stage: Stage, identity: string, createdBy: string, work?: () => Promise<StepLayer | undefined>, alias?: string,
  ): Promise<void> {
    const { cache, lease } = this.#c
    // With the chain: a step done again on files that came out differently is another step.
    const key = stepKey(stage.key, stage.chainId, identity)
    const hit = stage.cacheable ? await cache.find(key, lease) : undefined
    if (hit !== undefined) {
      this.#c.stream(' ---> Using cache\n')
      if (alias !== undefined) await cache.add(alias, hit)
      this.#advance(stage, key, createdBy, hit.created, hit.layer)
      return
    }
    // As docker: what follows a step that had to be done is done as well, for its key is new in any case.
    const layer = await work?.()
    const created = new Date().toISOString()
    const step = { created, ...(layer === undefined ? {} : { layer }) }
    await cache.add(key, step)
    if (alias !== undefined) await cache.add(alias, step)
    this.#advance(stage, key, createdBy, created, layer)
  }

  #advance(stage: Stage, key: string, createdBy: string, created: string, layer: StepLayer | undefined): void {
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

  async #run(stage: Stage, i: Instruction): Promise<void> {
    const flag = i.flags[0]
    if (flag !== undefined) throw new EngineError('invalid', `dockerfile parse error on line ${i.line}: RUN --${flag.name} is not supported by this builder`)
    const config = stage.config.config!
    const args = commandOf(config, { ...i, args: runText(i) })
    if (args.length === 0 || args[0] === '') throw new EngineError('invalid', `dockerfile parse error on line ${i.line}: RUN without a command`)
    const env = [...config.Env ?? []]
    const declared = [...stage.args].filter(([k]) => !env.some(e => e.startsWith(`${k}=`))).map(([k, v]) => `${k}=${v}`).sort()
    const proxies = PROXY_ARGS.flatMap(n => {
      const v = this.#c.options.buildArgs?.[n]
      return v === undefined || stage.args.has(n) ? [] : [`${n}=${v}`]
    })
    const createdBy = (declared.length === 0 ? [] : [`|${declared.length}`, ...declared]).concat(args).join(' ')
    await this.#commit(stage, `RUN ${JSON.stringify([args, declared])}`, createdBy, async () => {
      const id = randomBytes(8).toString('hex')
      this.#c.stream(` ---> Running in ${id.slice(0, 12)}\n`)
      const decoder = new TextDecoder()
      const layer = await runLayer({ ...this.#c, dir: this.#c.runDir }, stage.chainId, {
        id, args, env: [...env, ...declared, ...proxies], cwd: config.WorkingDir || '/', user: config.User ?? '',
      }, args.join(' '), data => { this.#c.stream(decoder.decode(data, { stream: true })) })
      this.#c.stream(` ---> Removed intermediate container ${id.slice(0, 12)}\n`)
      return layer
    })
  }

  async #copy(stage: Stage, i: Instruction, index: number, lookup: (n: string) => string | undefined): Promise<void> {
    const { file, x, signal } = this.#c
    const request = parseCopy(i, lookup, file.escape, stage.config.config!.WorkingDir ?? '')
    const closers: (() => Promise<void>)[] = []
    const resources: Resources = { spoolDir: x.spoolDir, signal, lookup, escape: file.escape, onClose: c => { closers.push(c) } }
    try {
      const from = request.from === undefined ? undefined : await this.#copySource(request.from, index)
      const options = JSON.stringify([request.destination, request.intoDirectory, request.chown, request.mode])
      // The same paths of the same file system: no need to look at the files themselves.
      const alias = from === undefined ? undefined : stepKey(stage.key, stage.chainId, 'COPY --from', from, JSON.stringify(request.sources), options)
      const known = alias === undefined || !stage.cacheable ? undefined : await this.#c.cache.find(alias, this.#c.lease)
      if (known !== undefined) {
        this.#c.stream(' ---> Using cache\n')
        this.#advance(stage, alias!, nop(stage, `COPY ${request.sources.join(' ')} in ${request.destination} `), known.created, known.layer)
        return
      }
      const tree = from === undefined ? this.#c.context : await this.#mount(from, closers)
      const items = await copyItems(i, request, tree, resources)
      const digest = await planDigest({ items, ...(request.mode === undefined ? {} : { mode: request.mode }) })
      const text = `${i.name} ${contentName(items, digest)} in ${request.destination} `
      await this.#commit(stage, `${text}${options}`, nop(stage, from === undefined ? text : `COPY ${request.sources.join(' ')} in ${request.destination} `),
        () => this.#copyLayer(stage, request, items), alias)
      // Both ways of knowing the step must lead on to the same keys.
      if (alias !== undefined) stage.key = alias
    } finally {
      for (const close of closers.reverse()) await close()
    }
  }

  /** chainID that COPY --from names: an earlier stage, or an image. */
  async #copySource(from: string, index: number): Promise<string> {
    const stage = this.#stageNamed(from, index)
    const state = stage === undefined ? undefined : this.#done.get(stage)
    if (state !== undefined) return state.chainId
    await this.#pullIfAbsent(from)
    return (await this.#c.images.resolve(from)).chainId
  }

  async #pullIfAbsent(reference: string): Promise<void> {
    const { images, options: { onProgress } } = this.#c
    if (await images.find(reference) === undefined) await images.pull(reference, onProgress === undefined ? {} : { onProgress })
  }

  async #mount(chainId: string, closers: (() => Promise<void>)[]): Promise<MountedRootfs> {
    const rootfs = await mountRootfs(this.#c.x, this.#c.mountDir, chainId, this.#c.lease)
    closers.push(() => rootfs.close())
    return rootfs
  }

  async #copyLayer(stage: Stage, r: CopyRequest, items: CopyItem[]): Promise<StepLayer | undefined> {
    const target = await mountRootfs(this.#c.x, this.#c.mountDir, stage.chainId, this.#c.lease)
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
    const target = await mountRootfs(this.#c.x, this.#c.mountDir, stage.chainId, this.#c.lease)
    try {
      return await this.#writeLayer(stage, { items: [], destination: path, intoDirectory: true }, target)
    } finally {
      await target.close()
    }
  }

  /** undefined if the plan adds nothing. */
  async #writeLayer(stage: Stage, plan: CopyPlan, target: Tree): Promise<StepLayer | undefined> {
    const { x, lease } = this.#c
    const tar = await layerTar(plan, target)
    if (tar === undefined) return undefined
    const blob = await ingestStream(x.containerd, `build-${randomBytes(8).toString('hex')}`, tar, lease)
    const descriptor: Descriptor = { mediaType: OCI_LAYER, ...blob }
    const chainId = await x.unpacker.layer(stage.chainId, blob.digest, descriptor, Promise.resolve(), lease)
    return { descriptor, diffId: blob.digest, chainId }
  }
}

const nop = (stage: StageState, text: string): string => `${shellOf(stage.config.config ?? {}).join(' ')} #(nop)  ${text}`

/** Here-documents of RUN: one alone is the script; else the shell reads them as its own. */
function runText(i: Instruction): string {
  if (i.heredocs.length === 0) return i.args
  if (i.heredocs.length === 1 && /^<<-?\s*\S+$/.test(i.args)) {
    const script = i.heredocs[0]!.content
    if (script.startsWith('#!')) throw new EngineError('invalid', `dockerfile parse error on line ${i.line}: a here-document with #! cannot be run: COPY it to a file and RUN that`)
    return script
  }
  return `${i.args}\n${i.heredocs.map(d => `${d.content}${d.name}`).join('\n')}\n`
}

/** As docker names what was copied: the kind and a hash of it. */
function contentName(items: CopyItem[], digest: string): string {
  if (items.length !== 1) return `multi:${digest}`
  return `${items[0]!.contents ? 'dir' : 'file'}:${createHash('sha256').update(`${items[0]!.name}\0${digest}`).digest('hex')}`
}
