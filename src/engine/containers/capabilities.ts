/** Capability sets, by Docker's rules. */
import { readFileSync } from 'node:fs'
import { EngineError } from '../engine.ts'

/** All of Linux, in the kernel's order. */
const ALL = [
  'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER', 'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT',
  'SYS_PTRACE', 'SYS_PACCT', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE',
  'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP', 'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ',
  'PERFMON', 'BPF', 'CHECKPOINT_RESTORE',
]

/** What a container has unless asked otherwise: Docker's default set. */
const DEFAULT = [
  'CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'MKNOD', 'NET_RAW', 'SETGID', 'SETUID', 'SETFCAP', 'SETPCAP', 'NET_BIND_SERVICE',
  'SYS_CHROOT', 'KILL', 'AUDIT_WRITE',
]

/**
 * `CAP_…` names of the bounding set. Names are taken with or without `CAP_`, in any case; `ALL` is all. Capabilities the
 * machine itself lacks (`available`, a bit mask) are left out. Throws `invalid` for an unknown name.
 */
export function boundingSet(
  wish: { add?: string[]; drop?: string[]; privileged?: boolean }, available: bigint = machineCapabilities(),
): string[] {
  const drop = (wish.drop ?? []).map(normalize)
  const add = (wish.add ?? []).map(normalize)
  let set = new Set(wish.privileged === true || add.includes('ALL') ? ALL : drop.includes('ALL') ? [] : DEFAULT)
  if (wish.privileged !== true) {
    for (const c of drop) set.delete(c)
    for (const c of add) if (c !== 'ALL') set.add(c)
  }
  set = new Set(ALL.filter((c, bit) => set.has(c) && (available >> BigInt(bit) & 1n) === 1n))
  return [...set].map((c) => `CAP_${c}`)
}

function normalize(name: string): string {
  const short = name.toUpperCase().replace(/^CAP_/, '')
  if (short !== 'ALL' && !ALL.includes(short)) throw new EngineError('invalid', `invalid capability: "${name}"`)
  return short
}

let machine: bigint | undefined

function machineCapabilities(): bigint {
  machine ??= readMachine()
  return machine
}

function readMachine(): bigint {
  const hex = /^CapBnd:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return hex === undefined ? (1n << BigInt(ALL.length)) - 1n : BigInt(`0x${hex}`)
}
