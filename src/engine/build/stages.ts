/** Which of a Dockerfile's stages are built, in what order, and what its global ARGs are. Stages that need nothing of each other are built at once. */
import { EngineError } from '../engine.ts'
import type { Dockerfile, Instruction } from './dockerfile.ts'
import { parseInstruction } from './dockerfile.ts'
import { OrderedOutput } from './output.ts'
import { buildStage } from './stage.ts'
import type { StageContext, StageState } from './stage.ts'
import { expand, splitWords } from './words.ts'

export const PROXY_ARGS = ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap(n => [n, n.toLowerCase()])

/** Builds the target stage and those it needs; others are left out. */
export async function buildStages(c: Omit<StageContext, 'build'>): Promise<StageState> {
  const { file, options } = c
  const target = targetIndex(file, options.target)
  const needed = neededStages(file, target)
  const labels = labelInstruction(options.labels ?? {})
  const args = new BuildArgs(c)
  const instructions = (n: number): Instruction[] => [...file.stages[n]!.instructions, ...(n === target && labels !== undefined ? [labels] : [])]
  const steps = file.globalArgs.length + needed.reduce((sum, n) => sum + 1 + instructions(n).length, 0)
  let step = 0
  for (const i of file.globalArgs) c.stream(`Step ${++step}/${steps} : ${i.text}\n`)

  const abort = new AbortController()
  const signal = AbortSignal.any([c.signal, abort.signal])
  const output = new OrderedOutput(needed.length, c.stream)
  const states = new Map<number, Promise<StageState>>()
  for (const [place, n] of needed.entries()) {
    const first = step + 1
    step += 1 + instructions(n).length
    const say = output.stage(place)
    const work = buildStage({
      ...c, signal, stream: say, build: { args, first, steps, stage: (name, before) => stageState(file, states, name, before) },
    }, file.stages[n]!, n, instructions(n)).finally(() => output.end(place))
    states.set(n, work)
    // One that fails ends the others: nobody will use them.
    work.catch(() => abort.abort(new EngineError('failed', 'another stage of the build failed')))
  }
  const results = await Promise.allSettled(states.values())
  c.signal.throwIfAborted()
  const failures = results.flatMap(r => (r.status === 'rejected' ? [r.reason as unknown] : []))
  // Those that were only stopped because of the first say so.
  if (failures.length > 0) throw failures.find(e => e !== abort.signal.reason) ?? failures[0]
  const unused = args.unused()
  if (unused.length > 0) c.stream(`[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n`)
  return states.get(target)!
}

/** The stage before `before` that a name or number stands for, once it is built. */
function stageState(file: Dockerfile, states: Map<number, Promise<StageState>>, name: string, before: number): Promise<StageState> | undefined {
  const index = stageNamed(file, name, before)
  return index === undefined ? undefined : states.get(index)
}

function stageNamed({ stages }: Dockerfile, name: string, before: number): number | undefined {
  const index = stages.findIndex((s, n) => n < before && s.name === name.toLowerCase())
  if (index >= 0) return index
  return /^\d+$/.test(name) && Number(name) < before ? Number(name) : undefined
}

function targetIndex({ stages }: Dockerfile, target: string | undefined): number {
  if (target === undefined || target === '') return stages.length - 1
  const byName = stages.findIndex(s => s.name === target.toLowerCase())
  const index = byName >= 0 ? byName : /^\d+$/.test(target) ? Number(target) : -1
  if (stages[index] === undefined) throw new EngineError('invalid', `target stage "${target}" could not be found`)
  return index
}

/** In the file's order: a stage can only need earlier ones. */
function neededStages(file: Dockerfile, target: number): number[] {
  const out = new Set<number>()
  const visit = (n: number): void => {
    if (out.has(n)) return
    out.add(n)
    const s = file.stages[n]!
    const base = file.stages.findIndex((e, m) => m < n && e.name === s.base.toLowerCase())
    if (base >= 0) visit(base)
    for (const i of s.instructions) {
      for (const from of sourcesOf(i)) {
        const index = stageNamed(file, from, n)
        if (index !== undefined) visit(index)
      }
    }
  }
  visit(target)
  return [...out].sort((a, b) => a - b)
}

/** What COPY --from and RUN --mount=from= name. */
function sourcesOf(i: Instruction): string[] {
  return i.flags.flatMap(f => {
    if (f.name === 'from') return [f.value]
    const from = f.name === 'mount' ? /(?:^|,)\s*from=([^,]*)/i.exec(f.value)?.[1] : undefined
    return from === undefined ? [] : [from]
  })
}

/** `--label` is one LABEL more at the end. */
function labelInstruction(labels: Record<string, string>): Instruction | undefined {
  const names = Object.keys(labels).sort()
  if (names.length === 0) return undefined
  const quote = (text: string): string => `"${text.replace(/["\\$]/g, '\\$&')}"`
  return {
    ...parseInstruction(`LABEL ${names.map(n => `${quote(n)}=${quote(labels[n]!)}`).join(' ')}`, 0),
    text: `LABEL ${names.map(n => `${n}=${labels[n]!}`).join(' ')}`,
  }
}

/** Values of ARGs: the command line's, the file's before its first FROM, and what the platform gives. */
export class BuildArgs {
  readonly #c: Pick<StageContext, 'file' | 'options' | 'x'>
  readonly #globals = new Map<string, string>()
  readonly #used = new Set<string>(PROXY_ARGS)

  constructor(c: Pick<StageContext, 'file' | 'options' | 'x'>) {
    this.#c = c
    const { platform } = c.x
    const variant = platform.variant ?? ''
    const full = [platform.os, platform.architecture, variant].filter(p => p !== '').join('/')
    for (const side of ['TARGET', 'BUILD']) {
      for (const [k, v] of [['PLATFORM', full], ['OS', platform.os], ['ARCH', platform.architecture], ['VARIANT', variant]]) this.#globals.set(side + k, v!)
    }
    for (const i of c.file.globalArgs) {
      for (const [name, value] of this.read(i, n => this.#globals.get(n))) if (value !== undefined) this.#globals.set(name, value)
    }
  }

  global(name: string): string | undefined { return this.#globals.get(name) }

  /** Names and values of one ARG; the command line beats the default. */
  read(i: Instruction, lookup: (n: string) => string | undefined): [string, string | undefined][] {
    const { escape } = this.#c.file
    return splitWords(i.args, escape).map(w => {
      const at = w.indexOf('=')
      const name = at < 0 ? w : w.slice(0, at)
      this.#used.add(name)
      const given = this.#c.options.buildArgs?.[name]
      return [name, given ?? (at < 0 ? this.#globals.get(name) : expand(w.slice(at + 1), lookup, escape))]
    })
  }

  /** Proxy variables given on the command line: for RUN, not for history and cache. */
  proxies(): [string, string][] {
    return PROXY_ARGS.flatMap(n => {
      const v = this.#c.options.buildArgs?.[n]
      return v === undefined || v === null ? [] : [[n, v] as [string, string]]
    })
  }

  /** Given, and asked for nowhere. */
  unused(): string[] { return Object.keys(this.#c.options.buildArgs ?? {}).filter(a => !this.#used.has(a)) }
}
