/**
 * From a profile in Docker's format to the filter a runtime takes: conditions by capability, architecture and kernel are Docker's
 * own and are decided here. Names a runtime does not know are skipped by it.
 */
import { machine, release } from 'node:os'
import { EngineError } from '../engine.ts'
import { DEFAULT_PROFILE } from './seccomp-profile.ts'
import type { SeccompArg, SeccompCondition, SeccompProfile, SeccompRule } from './seccomp-profile.ts'

export interface Seccomp {
  defaultAction: string
  defaultErrnoRet?: number
  architectures?: string[]
  flags?: string[]
  listenerPath?: string
  listenerMetadata?: string
  syscalls: { names: string[]; action: string; errnoRet?: number; args?: SeccompArg[] }[]
}

/** By machine: the name in filters, and the one Go has, which profiles use in their conditions. */
const ARCHITECTURES: Record<string, { native: string; go: string }> = {
  x86_64: { native: 'SCMP_ARCH_X86_64', go: 'amd64' },
  aarch64: { native: 'SCMP_ARCH_AARCH64', go: 'arm64' },
  armv7l: { native: 'SCMP_ARCH_ARM', go: 'arm' },
  s390x: { native: 'SCMP_ARCH_S390X', go: 's390x' },
  ppc64le: { native: 'SCMP_ARCH_PPC64LE', go: 'ppc64le' },
}

export interface SeccompFacts { machine: string; kernel: string; capabilities: string[] }

const filters = new Map<string, Seccomp>()

/** The default filter for a process with these capabilities. The same set gives the same object. */
export function defaultSeccomp(capabilities: string[]): Seccomp {
  const key = capabilities.join()
  let filter = filters.get(key)
  if (filter === undefined) filters.set(key, filter = resolveProfile(DEFAULT_PROFILE, { machine: machine(), kernel: release(), capabilities }))
  return filter
}

/** A profile of the user's own, as JSON text. Throws `invalid`. */
export function customSeccomp(text: string, capabilities: string[]): Seccomp {
  let profile: SeccompProfile
  try {
    profile = JSON.parse(text) as SeccompProfile
  } catch (e) {
    throw new EngineError('invalid', `Decoding seccomp profile failed: ${(e as Error).message}`)
  }
  if (typeof profile !== 'object' || profile === null || typeof profile.defaultAction !== 'string') {
    throw new EngineError('invalid', 'Decoding seccomp profile failed: it has no defaultAction')
  }
  return resolveProfile(profile, { machine: machine(), kernel: release(), capabilities })
}

export function resolveProfile(p: SeccompProfile, facts: SeccompFacts): Seccomp {
  if ((p.architectures?.length ?? 0) > 0 && (p.archMap?.length ?? 0) > 0) {
    throw new EngineError('invalid', 'both architectures and archMap are specified in the seccomp profile, use either of them')
  }
  const here = ARCHITECTURES[facts.machine]
  const mapped = p.archMap?.find((a) => a.architecture === here?.native)
  const architectures = p.architectures ?? (mapped === undefined ? undefined : [mapped.architecture, ...mapped.subArchitectures ?? []])
  const holds = (rule: SeccompRule): boolean => includes(rule.includes, facts, here?.go) && !excludes(rule.excludes, facts, here?.go)
  return {
    defaultAction: p.defaultAction,
    ...(p.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: p.defaultErrnoRet }),
    ...(architectures === undefined ? {} : { architectures }),
    ...(p.flags === undefined ? {} : { flags: p.flags }),
    ...(p.listenerPath === undefined ? {} : { listenerPath: p.listenerPath }),
    ...(p.listenerMetadata === undefined ? {} : { listenerMetadata: p.listenerMetadata }),
    syscalls: merged((p.syscalls ?? []).filter(holds)),
  }
}

/** Rules that differ in their names only become one: the runtimes compile each name of each rule. */
function merged(rules: SeccompRule[]): Seccomp['syscalls'] {
  const plain = new Map<string, Set<string>>()
  const out: Seccomp['syscalls'] = []
  for (const r of rules) {
    const names = r.name !== undefined && r.name !== '' ? [r.name] : r.names ?? []
    if (names.length === 0) continue
    const rest = { action: r.action, ...(r.errnoRet === undefined ? {} : { errnoRet: r.errnoRet }) }
    if ((r.args?.length ?? 0) > 0) {
      out.push({ names, ...rest, args: r.args as SeccompArg[] })
      continue
    }
    const key = JSON.stringify(rest)
    let set = plain.get(key)
    if (set === undefined) plain.set(key, set = new Set())
    for (const n of names) set.add(n)
  }
  return [...[...plain].map(([key, set]) => ({ names: [...set], ...JSON.parse(key) as { action: string; errnoRet?: number } })), ...out]
}

function includes(c: SeccompCondition | undefined, f: SeccompFacts, arch: string | undefined): boolean {
  if (c === undefined) return true
  if ((c.arches?.length ?? 0) > 0 && !c.arches?.includes(arch ?? '')) return false
  if (c.caps !== undefined && !c.caps.every((x) => f.capabilities.includes(x))) return false
  return c.minKernel === undefined || atLeast(f.kernel, c.minKernel)
}

function excludes(c: SeccompCondition | undefined, f: SeccompFacts, arch: string | undefined): boolean {
  if (c === undefined) return false
  if (c.arches?.includes(arch ?? '') === true || c.caps?.some((x) => f.capabilities.includes(x)) === true) return true
  return c.minKernel !== undefined && atLeast(f.kernel, c.minKernel)
}

function atLeast(kernel: string, wanted: string): boolean {
  const [a = 0, b = 0] = kernel.split(/[.-]/).map(Number)
  const [c = 0, d = 0] = wanted.split('.').map(Number)
  return a > c || (a === c && b >= d)
}
