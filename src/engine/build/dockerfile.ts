/** Dockerfiles into instructions: directives, comments, continuations, flags, JSON forms, here-documents, stages. */
import { EngineError } from '../engine.ts'

export interface Heredoc {
  /** Delimiter: the file's name for COPY. */
  name: string
  content: string
  /** Quoted delimiter: the content is taken literally. */
  literal: boolean
}

export interface Instruction {
  /** Upper case. */
  name: string
  line: number
  /** `--key=value` before the arguments; a flag alone has the value ''. */
  flags: { name: string; value: string }[]
  /** Arguments as one text, continuations joined, flags removed. */
  args: string
  /** Arguments of the JSON form, where the text is one. */
  json?: string[]
  heredocs: Heredoc[]
  /** The whole instruction in one line, as progress and history show it. */
  text: string
}

export interface StageSource {
  /** Image, or name of an earlier stage, not expanded. */
  base: string
  name?: string
  platform?: string
  from: Instruction
  instructions: Instruction[]
}

export interface Dockerfile {
  escape: '\\' | '`'
  /** ARGs before the first FROM. */
  globalArgs: Instruction[]
  stages: StageSource[]
  warnings: string[]
}

const INSTRUCTIONS = new Set([
  'ADD', 'ARG', 'CMD', 'COPY', 'ENTRYPOINT', 'ENV', 'EXPOSE', 'FROM', 'HEALTHCHECK', 'LABEL', 'MAINTAINER', 'ONBUILD', 'RUN', 'SHELL',
  'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR',
])
const WITH_FLAGS = new Set(['ADD', 'COPY', 'FROM', 'HEALTHCHECK', 'RUN'])
const WITH_JSON = new Set(['ADD', 'CMD', 'COPY', 'ENTRYPOINT', 'RUN', 'SHELL', 'VOLUME', 'HEALTHCHECK'])
const WITH_HEREDOC = new Set(['ADD', 'COPY', 'RUN'])
const HEREDOC = /(?:^|[\s\d;|&])<<(-?)\s*(?:"([^"\s]+)"|'([^'\s]+)'|([A-Za-z_][\w.-]*))/g

export function parseError(line: number, text: string): EngineError {
  return new EngineError('invalid', `dockerfile parse error on line ${line}: ${text}`)
}

/** Throws `invalid` with the line of what is wrong. `file` is for messages. */
export function parseDockerfile(source: string, file = 'Dockerfile'): Dockerfile {
  const lines = source.replace(/^\uFEFF/, '').split(/\r?\n/)
  const escape = readEscape(lines)
  const warnings: string[] = []
  const out: Dockerfile = { escape, globalArgs: [], stages: [], warnings }
  for (const i of readInstructions(lines, escape, file, warnings)) {
    const stage = out.stages.at(-1)
    if (i.name === 'FROM') out.stages.push(readFrom(i, out.stages))
    else if (stage !== undefined) stage.instructions.push(i)
    else if (i.name === 'ARG') out.globalArgs.push(i)
    else throw parseError(i.line, 'no build stage in current context: the first instruction must be FROM (only ARG may stand before it)')
  }
  if (out.stages.length === 0) {
    throw new EngineError('invalid', out.globalArgs.length === 0 ? `the Dockerfile (${file}) cannot be empty` : `the Dockerfile (${file}) has no FROM`)
  }
  return out
}

/** Directives stand above everything else, one a line, each once. */
function readEscape(lines: string[]): '\\' | '`' {
  const seen = new Set<string>()
  let escape: '\\' | '`' = '\\'
  for (const [n, line] of lines.entries()) {
    const m = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/.exec(line)
    if (m === null) break
    const key = m[1]!.toLowerCase()
    if (!['escape', 'syntax', 'check'].includes(key)) break
    if (seen.has(key)) throw parseError(n + 1, `only one ${key} parser directive can be used`)
    seen.add(key)
    if (key !== 'escape') continue
    if (m[2] !== '\\' && m[2] !== '`') throw parseError(n + 1, `invalid ESCAPE '${m[2]}'. Must be ' or \\`)
    escape = m[2]
  }
  return escape
}

function* readInstructions(lines: string[], escape: string, file: string, warnings: string[]): Generator<Instruction> {
  const continued = new RegExp(`${escape === '\\' ? '\\\\' : '`'}[ \\t]*$`)
  for (let n = 0; n < lines.length; n++) {
    const first = lines[n]!.trimStart()
    if (first === '' || first.startsWith('#')) continue
    const start = n
    let text = ''
    let current = first
    let empty = false
    for (;;) {
      const more = continued.test(current)
      text += more ? current.replace(continued, '') : current
      if (!more) break
      // The next line that is no comment; blank ones are tolerated.
      do {
        n++
        if (n < lines.length && lines[n]!.trim() === '') empty = true
      } while (n < lines.length && (lines[n]!.trim() === '' || lines[n]!.trimStart().startsWith('#')))
      if (n >= lines.length) break
      current = lines[n]!
    }
    text = text.trim()
    if (empty) warnings.push(`[WARNING]: Empty continuation line found in:\n    ${text}`)
    const instruction = parseInstruction(text, start + 1)
    if (WITH_HEREDOC.has(instruction.name)) {
      for (const m of instruction.args.matchAll(HEREDOC)) {
        const name = m[2] ?? m[3] ?? m[4]!
        const body: string[] = []
        for (;;) {
          n++
          if (n >= lines.length) throw parseError(start + 1, `unterminated heredoc: no line with "${name}" alone in ${file}`)
          const line = m[1] === '-' ? lines[n]!.replace(/^\t+/, '') : lines[n]!
          if (line === name) break
          body.push(line)
        }
        instruction.heredocs.push({ name, content: body.length === 0 ? '' : `${body.join('\n')}\n`, literal: m[4] === undefined })
      }
    }
    yield instruction
  }
}

/** One instruction from its joined line; also the triggers of ONBUILD. */
export function parseInstruction(text: string, line: number): Instruction {
  const m = /^(\S+)\s*([\s\S]*)$/.exec(text)
  const name = (m?.[1] ?? '').toUpperCase()
  if (!INSTRUCTIONS.has(name)) throw parseError(line, `unknown instruction: ${m?.[1] ?? ''}`)
  const flags: { name: string; value: string }[] = []
  let args = m![2]!
  if (WITH_FLAGS.has(name)) {
    for (;;) {
      const f = /^--([a-zA-Z][\w-]*)(?:=("[^"]*"|\S*))?(?:\s+|$)/.exec(args)
      if (f === null) break
      flags.push({ name: f[1]!.toLowerCase(), value: (f[2] ?? '').replace(/^"(.*)"$/, '$1') })
      args = args.slice(f[0].length)
    }
  }
  args = args.trim()
  if (args === '' && !(name === 'CMD' || name === 'ENTRYPOINT' || name === 'RUN')) throw parseError(line, `${name} requires at least one argument`)
  const json = WITH_JSON.has(name) ? parseJson(args) : undefined
  return { name, line, flags, args, ...(json === undefined ? {} : { json }), heredocs: [], text: `${name} ${text.slice(m![1]!.length).trim()}`.trim() }
}

/** A JSON array of strings; undefined if the text is something else (the shell form then). */
export function parseJson(args: string): string[] | undefined {
  if (!args.startsWith('[')) return undefined
  try {
    const value = JSON.parse(args) as unknown
    return Array.isArray(value) && value.every(v => typeof v === 'string') ? value : undefined
  } catch {
    return undefined
  }
}

function readFrom(i: Instruction, earlier: StageSource[]): StageSource {
  const words = i.args.split(/\s+/)
  const named = words.length === 3 && words[1]!.toLowerCase() === 'as'
  if (words.length !== 1 && !named) throw parseError(i.line, 'FROM requires either one argument, or three: FROM <source> [AS <name>]')
  let name: string | undefined
  if (named) {
    name = words[2]!.toLowerCase()
    if (!/^[a-z][a-z0-9-_.]*$/.test(name)) throw parseError(i.line, `invalid name for build stage: "${words[2]}", name can't start with a number or contain symbols`)
    if (earlier.some(s => s.name === name)) throw parseError(i.line, `duplicate name ${name}`)
  }
  const unknown = i.flags.find(f => f.name !== 'platform')
  if (unknown !== undefined) throw parseError(i.line, `Unknown flag: ${unknown.name}`)
  const platform = i.flags.find(f => f.name === 'platform')?.value
  return { base: words[0]!, from: i, instructions: [], ...(name === undefined ? {} : { name }), ...(platform === undefined ? {} : { platform }) }
}
