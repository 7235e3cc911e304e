/** The small grammars within Compose files: shell words, durations, sizes, ports, volumes. Each throws ComposeError naming what was wrong. */
import type { ComposeService } from '../../core/types/index.ts'

/** A fault of the user's file; the message says where and what to do. */
export class ComposeError extends Error {}

/** Splits a command as a POSIX shell would, without expanding anything. */
export function shellWords(text: string, where: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if (quote === '\'') {
      if (c === quote) quote = ''
      else word += c
    } else if (c === '\\') {
      const next = text[++i]
      if (next === undefined) throw new ComposeError(`${where}: the command ends with a lone backslash`)
      // Within double quotes a backslash is itself unless what follows is special there.
      word = (word ?? '') + (quote === '"' && !'"\\$`'.includes(next) ? '\\' + next : next)
    } else if (quote === '"') {
      if (c === quote) quote = ''
      else word += c
    } else if (c === '"' || c === '\'') {
      quote = c
      word ??= ''
    } else if (/\s/.test(c)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else word = (word ?? '') + c
  }
  if (quote !== '') throw new ComposeError(`${where}: a ${quote} is not closed in: ${text}`)
  if (word !== undefined) words.push(word)
  return words
}

const DURATION: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** `1m30s`, `500ms`; a bare number is seconds. */
export function durationMs(value: string | number, where: string): number {
  if (typeof value === 'number') return value * 1000
  const text = value.trim()
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000
  if (!/^(\d+(\.\d+)?(us|ms|s|m|h))+$/.test(text)) throw new ComposeError(`${where}: "${value}" is not a duration like 30s or 1m30s`)
  let sum = 0
  for (const [, n, unit] of text.matchAll(/(\d+(?:\.\d+)?)(us|ms|s|m|h)/g)) sum += Number(n) * DURATION[unit!]!
  return Math.round(sum)
}

/** `512m`, `1g`, `64kb`; powers of 1024 as in Docker; a bare number is bytes. */
export function bytesOf(value: string | number, where: string): number {
  const m = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(String(value).trim())
  if (m === null) throw new ComposeError(`${where}: "${value}" is not a size like 512m or 1g`)
  return Math.round(Number(m[1]) * 1024 ** ' kmgt'.indexOf(m[2]!.toLowerCase() || ' '))
}

type Port = NonNullable<ComposeService['ports']>[number]

/**
 * Short (`8080:80/tcp`, `5000-5002:5000-5002`, `80`) and long form; ranges become single ports. `addresses` are those of the
 * host that the ports shall be bound to.
 */
export function portsOf(value: unknown, where: string): { ports: Port[]; expose: number[]; addresses: string[] } {
  const out = { ports: [] as Port[], expose: [] as number[], addresses: [] as string[] }
  for (const item of listOf(value, where)) {
    if (typeof item === 'object' && item !== null) {
      const { target, published, protocol, host_ip: address } = item as Record<string, unknown>
      if (typeof address === 'string') out.addresses.push(address)
      if (published === undefined) out.expose.push(portNumber(target, where))
      else out.ports.push({ published: portNumber(published, where), target: portNumber(target, where), protocol: protocolOf(protocol ?? 'tcp', where) })
      continue
    }
    const m = /^(?:(?:(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):)?(?:([\d-]*):)?)?([\d-]+)(?:\/(\w+))?$/i.exec(String(item))
    if (m === null) throw new ComposeError(`${where}: "${String(item)}" is not a port like "8080:80" or "53:53/udp"`)
    if (m[1] !== undefined) out.addresses.push(m[1])
    const protocol = protocolOf(m[4] ?? 'tcp', where)
    const targets = range(m[3]!, where)
    if (m[2] === undefined || m[2] === '') out.expose.push(...targets)
    else {
      const published = range(m[2], where)
      if (published.length !== targets.length) throw new ComposeError(`${where}: the ranges of "${String(item)}" differ in length`)
      published.forEach((p, i) => out.ports.push({ published: p, target: targets[i]!, protocol }))
    }
  }
  return out
}

function protocolOf(value: unknown, where: string): 'tcp' | 'udp' {
  if (value !== 'tcp' && value !== 'udp') throw new ComposeError(`${where}: protocol "${String(value)}" is neither tcp nor udp`)
  return value
}

function range(text: string, where: string): number[] {
  const [from, to = from] = text.split('-')
  const [a, b] = [portNumber(from, where), portNumber(to, where)]
  if (b < a) throw new ComposeError(`${where}: the range ${text} runs backwards`)
  return Array.from({ length: b - a + 1 }, (_, i) => a + i)
}

export function portNumber(value: unknown, where: string): number {
  const n = Number(value)
  if (!Number.isInteger(n) || n < 1 || n > 65_535) throw new ComposeError(`${where}: "${String(value)}" is not a port (1 to 65535)`)
  return n
}

type Volume = NonNullable<ComposeService['volumes']>[number]

/** Short (`./src:/code:ro`, `data:/var/lib`, `/anonymous`) and long form. Paths of the machine are made absolute by `resolve`. */
export function volumesOf(value: unknown, where: string, resolve: (path: string) => string): Volume[] {
  return listOf(value, where).map((item): Volume => {
    if (typeof item === 'object' && item !== null) {
      const { type, source, target, read_only: readOnly } = item as Record<string, unknown>
      if (type !== 'bind' && type !== 'volume' && type !== 'tmpfs') throw new ComposeError(`${where}: volume type "${String(type)}" is not bind, volume or tmpfs`)
      return volume(type, source === undefined ? undefined : String(source), String(target ?? ''), readOnly === true)
    }
    const parts = String(item).split(':')
    const [source, target, mode = 'rw'] = parts.length === 1 ? [undefined, parts[0]!] : parts as [string, string, string?]
    if (parts.length > 3) throw new ComposeError(`${where}: "${String(item)}" is not SOURCE:TARGET[:ro]`)
    const options = mode.split(',')
    return volume(source === undefined || !/^[./~]/.test(source) ? 'volume' : 'bind', source, target, options.includes('ro'))
  })

  function volume(type: Volume['type'], source: string | undefined, target: string, readOnly: boolean): Volume {
    if (!target.startsWith('/') || target.split('/').includes('..')) throw new ComposeError(`${where}: "${target}" is not an absolute path in the container`)
    if (type === 'bind') {
      if (source === undefined) throw new ComposeError(`${where}: a bind mount needs a source`)
      return { type, source: resolve(source), target, ...(readOnly && { readOnly }) }
    }
    if (source !== undefined && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(source)) throw new ComposeError(`${where}: "${source}" is not a volume name; a path starts with ./ or /`)
    return { type, ...(source !== undefined && { source }), target, ...(readOnly && { readOnly }) }
  }
}

export function listOf(value: unknown, where: string): unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new ComposeError(`${where} must be a list`)
  return value
}

/** A map, or a list of `KEY=value`. A key without value is undefined. */
export function mapOf(value: unknown, where: string): Record<string, string | undefined> {
  if (value === undefined || value === null) return {}
  const text = (v: unknown) => v === null || v === undefined ? undefined : String(v)
  if (Array.isArray(value)) {
    return Object.fromEntries(value.map(each => {
      const s = String(each)
      const at = s.indexOf('=')
      return at === -1 ? [s, undefined] : [s.slice(0, at), s.slice(at + 1)]
    }))
  }
  if (typeof value !== 'object') throw new ComposeError(`${where} must be a map or a list of KEY=value`)
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, text(v)]))
}
