/** Instructions that only change an image's configuration. */
import { posix } from 'node:path'
import { EngineError } from '../engine.ts'
import type { Healthcheck, RuntimeConfig } from '../images/media-types.ts'
import { parseError, parseInstruction } from './dockerfile.ts'
import type { Instruction } from './dockerfile.ts'
import { expand, expandWords, splitWords } from './words.ts'
import type { Lookup } from './words.ts'

export const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What a stage has become so far, as far as instructions see it. */
export interface Frame {
  config: RuntimeConfig
  author?: string
  lookup: Lookup
  escape: string
  /** CMD was given in this stage: ENTRYPOINT then leaves it alone. */
  cmdSet: boolean
}

export function shellOf(config: RuntimeConfig): string[] {
  return config.Shell !== undefined && config.Shell.length > 0 ? config.Shell : ['/bin/sh', '-c']
}

/** `NAME=value` over a list of them. */
export function setEnv(env: string[], name: string, value: string): string[] {
  const at = env.findIndex(e => e.startsWith(`${name}=`))
  return at < 0 ? [...env, `${name}=${value}`] : env.with(at, `${name}=${value}`)
}

/** Applies the instruction; resolves with the text that history and cache know it by, variables put in. */
export function applyConfig(f: Frame, i: Instruction): string {
  const c = f.config
  const word = (w: string): string => expand(w, f.lookup, f.escape)
  switch (i.name) {
    case 'ENV': {
      const pairs = readPairs(f, i)
      for (const [k, v] of pairs) c.Env = setEnv(c.Env ?? [], k, v)
      return `ENV ${pairs.map(([k, v]) => `${k}=${v}`).join(' ')}`
    }
    case 'LABEL': {
      const pairs = readPairs(f, i)
      c.Labels = { ...c.Labels, ...Object.fromEntries(pairs) }
      return `LABEL ${pairs.map(([k, v]) => `${k}=${v}`).join(' ')}`
    }
    case 'EXPOSE': {
      const ports = expandWords(i.args, f.lookup, f.escape).flatMap(p => readPorts(p, i.line)).sort()
      c.ExposedPorts = { ...c.ExposedPorts, ...Object.fromEntries(ports.map(p => [p, {}])) }
      return `EXPOSE ${ports.join(' ')}`
    }
    case 'CMD':
      c.Cmd = commandOf(c, i)
      f.cmdSet = true
      return `CMD ${listText(c.Cmd)}`
    case 'ENTRYPOINT':
      c.Entrypoint = i.args === '' ? null : commandOf(c, i)
      // A command meant for the base's entrypoint makes no sense for this one.
      if (!f.cmdSet) delete c.Cmd
      return `ENTRYPOINT ${listText(c.Entrypoint ?? [])}`
    case 'WORKDIR': {
      c.WorkingDir = posix.resolve(c.WorkingDir || '/', word(i.args))
      return `WORKDIR ${c.WorkingDir}`
    }
    case 'USER':
      c.User = word(i.args)
      return `USER ${c.User}`
    case 'VOLUME': {
      const paths = (i.json ?? splitWords(i.args, f.escape)).map(word)
      if (paths.some(p => p.trim() === '')) throw parseError(i.line, 'VOLUME specified can not be an empty string')
      c.Volumes = { ...c.Volumes, ...Object.fromEntries(paths.map(p => [p, {}])) }
      return `VOLUME [${paths.join(' ')}]`
    }
    case 'STOPSIGNAL':
      c.StopSignal = word(i.args)
      if (!/^(?:\d{1,2}|(?:SIG)?[A-Z][A-Z0-9]*(?:[+-]\d+)?)$/i.test(c.StopSignal)) throw parseError(i.line, `Invalid signal: ${c.StopSignal}`)
      return `STOPSIGNAL ${c.StopSignal}`
    case 'SHELL':
      if (i.json === undefined || i.json.length === 0) throw parseError(i.line, 'SHELL requires the arguments to be in JSON form')
      c.Shell = i.json
      return `SHELL [${i.json.join(' ')}]`
    case 'MAINTAINER':
      f.author = i.args
      return `MAINTAINER ${i.args}`
    case 'HEALTHCHECK':
      c.Healthcheck = readHealthcheck(i)
      return `HEALTHCHECK ${JSON.stringify(c.Healthcheck)}`
    case 'ONBUILD': {
      const trigger = parseInstruction(i.args, i.line)
      if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(trigger.name)) throw parseError(i.line, `${trigger.name} isn't allowed as an ONBUILD trigger`)
      c.OnBuild = [...c.OnBuild ?? [], i.args]
      return `ONBUILD ${i.args}`
    }
    default: throw new EngineError('failed', `${i.name} does not only change the configuration`)
  }
}

/** As docker's history writes a list. */
function listText(words: string[]): string { return `[${words.map(w => JSON.stringify(w)).join(' ')}]` }

/** JSON form as it is, shell form through the stage's shell. */
export function commandOf(c: RuntimeConfig, i: Instruction): string[] {
  return i.json ?? [...shellOf(c), i.args]
}

/** `k=v k2="v 2"`, or for one pair the old form `k v …`. */
function readPairs(f: Frame, i: Instruction): [string, string][] {
  const words = splitWords(i.args, f.escape)
  if (!words[0]!.includes('=')) {
    const m = /^(\S+)\s+([\s\S]+)$/.exec(i.args)
    if (m === null) throw parseError(i.line, `${i.name} must have two arguments`)
    return [[expand(m[1]!, f.lookup, f.escape), expand(m[2]!, f.lookup, f.escape)]]
  }
  return words.map(w => {
    const at = w.indexOf('=')
    if (at <= 0) throw parseError(i.line, `Syntax error - can't find = in "${w}". Must be of the form: name=value`)
    return [expand(w.slice(0, at), f.lookup, f.escape), expand(w.slice(at + 1), f.lookup, f.escape)]
  })
}

function readPorts(text: string, line: number): string[] {
  const m = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(text)
  const from = Number(m?.[1])
  const to = Number(m?.[2] ?? m?.[1])
  if (m === null || from < 1 || to > 65535 || to < from) throw parseError(line, `invalid containerPort: ${text}`)
  return Array.from({ length: to - from + 1 }, (_, n) => `${from + n}/${(m[3] ?? 'tcp').toLowerCase()}`)
}

const UNIT_NS: Record<string, number> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 }

/** Go's duration (`1m30s`) in nanoseconds. */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+$/.test(text)) return text === '0' ? 0 : undefined
  let ns = 0
  for (const m of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)/g)) ns += Number(m[1]) * UNIT_NS[m[2]!]!
  return Math.round(ns)
}

function readHealthcheck(i: Instruction): Healthcheck {
  const m = /^(\S+)\s*([\s\S]*)$/.exec(i.args)
  const kind = (m?.[1] ?? '').toUpperCase()
  if (kind === 'NONE') return { Test: ['NONE'] }
  if (kind !== 'CMD' || m![2] === '') throw parseError(i.line, `Unknown type "${m?.[1]}" in HEALTHCHECK (try CMD or NONE)`)
  const command = parseInstruction(`CMD ${m![2]}`, i.line)
  const out: Healthcheck = { Test: command.json === undefined ? ['CMD-SHELL', command.args] : ['CMD', ...command.json] }
  for (const { name, value } of i.flags) {
    if (name === 'retries') {
      out.Retries = Number(value)
      if (!Number.isInteger(out.Retries) || out.Retries < 0) throw parseError(i.line, `--retries must be a number, not "${value}"`)
      continue
    }
    const key = ({ interval: 'Interval', timeout: 'Timeout', 'start-period': 'StartPeriod', 'start-interval': 'StartInterval' } as const)[name]
    if (key === undefined) throw parseError(i.line, `Unknown flag: ${name}`)
    const ns = parseDuration(value)
    if (ns === undefined || (ns !== 0 && ns < 1e6)) throw parseError(i.line, `Interval "${name}" must be a duration of at least 1ms, not "${value}"`)
    out[key] = ns
  }
  return out
}
