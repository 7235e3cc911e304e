/** `--security-opt` and capabilities. */
import { DockerError } from '../errors.ts'

export interface SecurityOptions {
  noNewPrivileges: boolean
  /** Path or JSON text of a profile, or `unconfined`. */
  seccomp?: string
  apparmor?: string
  writableCgroups?: boolean
}

export function parseSecurityOptions(options: string[]): SecurityOptions {
  const out: SecurityOptions = { noNewPrivileges: false }
  for (const option of options) {
    if (option === 'no-new-privileges') { out.noNewPrivileges = true; continue }
    if (option === 'disable') continue
    const at = option.search(/[=:]/)
    if (at < 0) throw new DockerError('invalid', `invalid --security-opt 1: ${JSON.stringify(option)}`)
    const [key, value] = [option.slice(0, at), option.slice(at + 1)]
    if (key === 'no-new-privileges') out.noNewPrivileges = bool(option, value)
    else if (key === 'writable-cgroups') out.writableCgroups = bool(option, value)
    else if (key === 'seccomp') out.seccomp = value
    else if (key === 'apparmor') out.apparmor = value
    else if (key !== 'label') throw new DockerError('invalid', `invalid --security-opt 2: ${JSON.stringify(option)}`)
  }
  return out
}

function bool(option: string, value: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false
  throw new DockerError('invalid', `invalid --security-opt 2: ${JSON.stringify(option)}`)
}

const CAPABILITIES = new Set([
  'AUDIT_CONTROL', 'AUDIT_READ', 'AUDIT_WRITE', 'BLOCK_SUSPEND', 'BPF', 'CHECKPOINT_RESTORE', 'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER',
  'FSETID', 'IPC_LOCK', 'IPC_OWNER', 'KILL', 'LEASE', 'LINUX_IMMUTABLE', 'MAC_ADMIN', 'MAC_OVERRIDE', 'MKNOD', 'NET_ADMIN', 'NET_BIND_SERVICE',
  'NET_BROADCAST', 'NET_RAW', 'PERFMON', 'SETFCAP', 'SETGID', 'SETPCAP', 'SETUID', 'SYSLOG', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_CHROOT', 'SYS_MODULE',
  'SYS_NICE', 'SYS_PACCT', 'SYS_PTRACE', 'SYS_RAWIO', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'WAKE_ALARM',
])

/** `net_admin` → `CAP_NET_ADMIN`; sorted as given. Throws for names the kernel does not know. */
export function normalizeCapabilities(names: string[] | null | undefined): string[] {
  return (names ?? []).map((name) => {
    const bare = name.toUpperCase().replace(/^CAP_/, '')
    if (bare === 'ALL') return 'ALL'
    if (!CAPABILITIES.has(bare)) throw new DockerError('invalid', `invalid CapAdd/CapDrop: unknown capability: "CAP_${bare}"`)
    return `CAP_${bare}`
  })
}
