/** Variables in a Compose file's values: `$V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+r} ${V+r}`, `$$` for a dollar. */
import { ComposeError } from './values.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Replaces variables in every string of a parsed file; keys stay as they are. `warn` hears of unset ones, once each. */
export function interpolate(value: unknown, env: Environment, where: string, warn: (name: string) => void): unknown {
  if (typeof value === 'string') return replace(value, env, where, warn)
  if (Array.isArray(value)) return value.map((v, i) => interpolate(v, env, `${where}[${i}]`, warn))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, interpolate(v, env, `${where}.${k}`, warn)]))
}

function replace(text: string, env: Environment, where: string, warn: (name: string) => void): string {
  let out = ''
  for (let i = 0; i < text.length;) {
    const c = text[i]!
    if (c !== '$') {
      out += c
      i++
    } else if (text[i + 1] === '$') {
      out += '$'
      i += 2
    } else if (text[i + 1] === '{') {
      const end = closing(text, i + 2)
      if (end === -1) throw new ComposeError(`${where}: \${ is not closed in: ${text}`)
      out += braced(text.slice(i + 2, end), env, where, warn)
      i = end + 1
    } else {
      const name = /^[a-z_][a-z0-9_]*/i.exec(text.slice(i + 1))?.[0]
      if (name === undefined) throw new ComposeError(`${where}: a lone $ in: ${text} (write $$ for a dollar sign)`)
      out += plain(name, env, warn)
      i += name.length + 1
    }
  }
  return out
}

/** Index of the brace that closes the one before `from`; nested ones are skipped. */
function closing(text: string, from: number): number {
  let depth = 1
  for (let i = from; i < text.length; i++) {
    if (text[i] === '{' && text[i - 1] === '$') depth++
    else if (text[i] === '}' && --depth === 0) return i
  }
  return -1
}

function plain(name: string, env: Environment, warn: (name: string) => void): string {
  const value = env[name]
  if (value === undefined) warn(name)
  return value ?? ''
}

function braced(body: string, env: Environment, where: string, warn: (name: string) => void): string {
  const m = /^([a-z_][a-z0-9_]*)(?:(:?)([-?+])([\s\S]*))?$/i.exec(body)
  if (m === null) throw new ComposeError(`${where}: "\${${body}}" is not a variable`)
  const [, name, colon, operator, rest = ''] = m
  const value = env[name!]
  // With a colon an empty value counts as none.
  const present = value !== undefined && !(colon === ':' && value === '')
  switch (operator) {
    case undefined: return plain(name!, env, warn)
    case '-': return present ? value : replace(rest, env, where, warn)
    case '+': return present ? replace(rest, env, where, warn) : ''
    default:
      if (present) return value
      throw new ComposeError(`${where}: the variable ${name} is required${rest === '' ? '' : `: ${rest}`}`)
  }
}

/** Reads a `.env` or env_file text. Unquoted and double-quoted values see variables defined before them. */
export function parseEnvFile(text: string, env: Environment, where: string): Record<string, string | undefined> {
  const out: Record<string, string | undefined> = {}
  text.split(/\r?\n/).forEach((raw, n) => {
    const l = raw.trim().replace(/^export\s+/, '')
    if (l === '' || l.startsWith('#')) return
    const m = /^([^\s=]+)\s*(?:=\s*(.*))?$/.exec(l)
    if (m === null) throw new ComposeError(`${where}:${n + 1}: not KEY=value: ${raw}`)
    const [, key, value] = m
    if (value === undefined) out[key!] = env[key!]
    else if (value.startsWith('\'')) out[key!] = quoted(value, '\'', `${where}:${n + 1}`)
    else {
      const inner = value.startsWith('"')
        ? quoted(value, '"', `${where}:${n + 1}`).replace(/\\([nrt\\"])/g, (_, c: string) => ({ n: '\n', r: '\r', t: '\t' })[c] ?? c)
        : value.replace(/\s+#.*$/, '').trim()
      out[key!] = replace(inner, { ...out, ...env }, `${where}:${n + 1}`, () => { /* an unset one is empty here */ })
    }
  })
  return out
}

function quoted(value: string, mark: string, where: string): string {
  const end = mark === '"' ? /^"((?:\\.|[^"\\])*)"/.exec(value) : /^'([^']*)'/.exec(value)
  if (end === null) throw new ComposeError(`${where}: the quote ${mark} is not closed`)
  return end[1]!
}
