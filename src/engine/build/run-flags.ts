/** Flags of RUN: what is mounted for the step, and its network. Source: the Dockerfile reference, syntax 1.x. */
import { posix } from 'node:path'
import { parseError } from './dockerfile.ts'
import type { Instruction } from './dockerfile.ts'
import { expand } from './words.ts'
import type { Lookup } from './words.ts'

export type RunMount =
  | { type: 'bind'; target: string; source: string; from?: string; readOnly: boolean }
  | { type: 'cache'; target: string; id: string; sharing: 'shared' | 'private' | 'locked'; readOnly: boolean; mode: number; uid: number; gid: number; source: string; from?: string }
  | { type: 'tmpfs'; target: string; sizeBytes?: number }
  | { type: 'secret'; target?: string; id: string; env?: string; required: boolean; mode: number; uid: number; gid: number }

export interface RunFlags { mounts: RunMount[]; network?: string }

const KEYS: Record<string, string[]> = {
  bind: ['target', 'source', 'from', 'readonly'],
  cache: ['target', 'id', 'sharing', 'readonly', 'mode', 'uid', 'gid', 'source', 'from'],
  tmpfs: ['target', 'size'],
  secret: ['target', 'id', 'env', 'required', 'mode', 'uid', 'gid'],
}
const ALIASES: Record<string, string> = { dst: 'target', destination: 'target', src: 'source', ro: 'readonly', rw: 'readwrite' }
const UNITS: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }

/** Throws `invalid` with the line for a flag that this builder does not know or cannot do. Targets are absolute afterwards. */
export function parseRunFlags(i: Instruction, lookup: Lookup, escape: string, workingDir: string): RunFlags {
  const out: RunFlags = { mounts: [] }
  for (const { name, value } of i.flags) {
    const v = expand(value, lookup, escape)
    if (name === 'mount') {
      const mount = parseMount(v, i.line, workingDir)
      if (mount !== undefined) out.mounts.push(mount)
    } else if (name === 'network') {
      if (!['default', 'none', 'host'].includes(v)) throw parseError(i.line, `--network=${v}: it is default, none or host`)
      out.network = v
    } else if (name === 'security') {
      if (v !== 'sandbox') throw parseError(i.line, '--security=insecure is not granted by this builder: only sandbox is')
    } else {
      throw parseError(i.line, `Unknown flag: ${name}`)
    }
  }
  return out
}

/** Undefined for what may be left out: an agent's socket that nothing insists on. */
function parseMount(text: string, line: number, workingDir: string): RunMount | undefined {
  const fields = new Map<string, string>()
  for (const part of text.split(',')) {
    const at = part.indexOf('=')
    const key = (at < 0 ? part : part.slice(0, at)).trim().toLowerCase()
    fields.set(ALIASES[key] ?? key, at < 0 ? 'true' : part.slice(at + 1).trim())
  }
  const type = fields.get('type') ?? 'bind'
  fields.delete('type')
  if (type === 'ssh') {
    if (flag(fields.get('required'), line)) throw parseError(line, '--mount=type=ssh,required: no client hands an SSH agent to this builder')
    return undefined
  }
  const known = KEYS[type]
  if (known === undefined) throw parseError(line, `unsupported mount type "${type}": it is bind, cache, tmpfs, secret or ssh`)
  const readOnly = fields.has('readonly') ? flag(fields.get('readonly'), line) : fields.has('readwrite') ? !flag(fields.get('readwrite'), line) : type === 'bind'
  fields.delete('readwrite')
  for (const key of fields.keys()) if (!known.includes(key)) throw parseError(line, `unexpected key '${key}' for mount type '${type}'`)
  const path = fields.get('target')
  const target = path === undefined ? undefined : posix.resolve(workingDir === '' ? '/' : workingDir, path)
  const number = (key: string, otherwise: number, base = 10): number => {
    const v = fields.get(key)
    if (v === undefined) return otherwise
    if (!(base === 8 ? /^[0-7]{1,5}$/ : /^\d{1,10}$/).test(v)) throw parseError(line, `invalid value for ${key}: ${v}`)
    return parseInt(v, base)
  }
  const owner = { uid: number('uid', 0), gid: number('gid', 0) }
  const from = fields.get('from')
  if (type === 'secret') {
    const id = fields.get('id') ?? (target === undefined ? undefined : posix.basename(target))
    if (id === undefined) throw parseError(line, 'a secret mount needs id or target')
    const env = fields.get('env')
    return {
      type, id, required: flag(fields.get('required') ?? 'false', line), mode: number('mode', 0o400, 8), ...owner, ...(env === undefined ? {} : { env }),
      ...(target !== undefined ? { target } : env === undefined ? { target: `/run/secrets/${id}` } : {}),
    }
  }
  if (target === undefined || target === '/') throw parseError(line, `a ${type} mount needs a target other than /`)
  if (type === 'tmpfs') {
    const m = /^(\d+)([bkmg]?)b?$/i.exec(fields.get('size') ?? '0')
    if (m === null) throw parseError(line, `invalid value for size: ${fields.get('size')}`)
    const sizeBytes = Number(m[1]) * UNITS[m[2]!.toLowerCase()]!
    return { type, target, ...(sizeBytes === 0 ? {} : { sizeBytes }) }
  }
  const source = fields.get('source') ?? '/'
  if (type === 'bind') return { type, target, source, readOnly, ...(from === undefined ? {} : { from }) }
  const sharing = fields.get('sharing') ?? 'shared'
  if (sharing !== 'shared' && sharing !== 'private' && sharing !== 'locked') throw parseError(line, `unsupported sharing value "${sharing}"`)
  return {
    type: 'cache', target, id: fields.get('id') || target, sharing, readOnly, mode: number('mode', 0o755, 8), ...owner, source, ...(from === undefined ? {} : { from }),
  }
}

function flag(value: string | undefined, line: number): boolean {
  if (value === undefined || value === 'false' || value === '0') return false
  if (value === 'true' || value === '1' || value === '') return true
  throw parseError(line, `invalid boolean value: ${value}`)
}
