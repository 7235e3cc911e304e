/** `gantry doctor`: whether this machine can run Gantry, and what to do if not. */
import type { Command } from 'commander'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, statfsSync } from 'node:fs'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import { hierarchies } from '../../machines/cgroups.ts'
import { readClusterFile } from '../../machines/cluster-file.ts'
import { layout } from '../../machines/layout.ts'
import { json, paint, size, table } from '../output.ts'

interface Finding { what: string; state: 'ok' | 'warning' | 'missing'; detail: string; remedy?: string }
type Check = () => Promise<Finding> | Finding

const run = promisify(execFile)
const fails = async (command: string, args: string[]) => run(command, args, { timeout: 5000 }).then(() => false, () => true)

export function register(program: Command): void {
  program.command('doctor')
    .description('check kernel, packages and ports, and say what is missing')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry doctor')
    .action(async (o: { output?: string }) => {
      const findings: Finding[] = []
      for (const check of checks) findings.push(await check())
      if (o.output === 'json') await json(findings)
      else {
        const mark = { ok: paint('green', 'ok'), warning: paint('yellow', 'warning'), missing: paint('red', 'missing') }
        await table(['CHECK', 'STATE', 'DETAIL'], findings.map(f => [f.what, mark[f.state], f.remedy === undefined ? f.detail : `${f.detail}: ${f.remedy}`]))
      }
      if (findings.some(f => f.state === 'missing')) process.exitCode = 1
    })
}

const checks: Check[] = [
  () => process.getuid?.() === 0
    ? { what: 'root', state: 'ok', detail: 'yes' }
    : { what: 'root', state: 'missing', detail: 'gantry makes namespaces', remedy: 'run it as root' },
  () => {
    const v2 = existsSync('/sys/fs/cgroup/cgroup.controllers')
    const controllers = v2
      ? readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').trim().split(' ')
      : hierarchies().map(h => h.split('/').pop()!)
    const lacking = ['cpu', 'memory', 'pids'].filter(c => !controllers.includes(c))
    return lacking.length === 0
      ? { what: 'control groups', state: 'ok', detail: `version ${v2 ? 2 : 1}` }
      : { what: 'control groups', state: 'missing', detail: `version ${v2 ? 2 : 1} without ${lacking.join(', ')}`, remedy: 'switch them on in the kernel\'s command line' }
  },
  // Tried, because a kernel that has it as a module loads it at the first mount. The mount goes with its namespace.
  async () => await fails('unshare', ['--mount', 'mount', '-t', 'overlay', '-o', 'lowerdir=/etc:/usr', 'overlay', '/tmp'])
    ? { what: 'overlayfs', state: 'missing', detail: 'cannot be mounted', remedy: 'modprobe overlay' }
    : { what: 'overlayfs', state: 'ok', detail: 'can be mounted' },
  ...['pid', 'mnt', 'net', 'uts', 'ipc', 'user'].map((ns): Check => () => existsSync(`/proc/self/ns/${ns}`)
    ? { what: `${ns} namespaces`, state: 'ok', detail: 'in the kernel' }
    : { what: `${ns} namespaces`, state: ns === 'user' ? 'warning' : 'missing', detail: 'not in the kernel' }),
  ...[['veth', ['peer', 'name', 'gdr-b']], ['bridge', []], ['vxlan', ['id', '7', 'dstport', '0']]].map((each): Check => async () => {
    const [type, args] = each as [string, string[]]
    // Made in a throw-away network namespace: the machine's own interfaces are not touched.
    const bad = await fails('unshare', ['--net', 'ip', 'link', 'add', 'gdr-a', 'type', type, ...args])
    return bad
      ? { what: `${type} interfaces`, state: 'missing', detail: 'cannot be made', remedy: `modprobe ${type}` }
      : { what: `${type} interfaces`, state: 'ok', detail: 'can be made' }
  }),
  async () => await fails('unshare', ['--net', 'nft', 'add table ip gantry-doctor; add chain ip gantry-doctor c { type nat hook prerouting priority 0 ; }'])
    ? { what: 'nftables', state: 'missing', detail: 'nat chains cannot be made', remedy: 'modprobe nf_tables nft_chain_nat' }
    : { what: 'nftables', state: 'ok', detail: 'nat works' },
  () => readFileSync('/proc/self/status', 'utf8').includes('Seccomp:')
    ? { what: 'seccomp', state: 'ok', detail: 'in the kernel' }
    : { what: 'seccomp', state: 'missing', detail: 'not in the kernel' },
  ...['containerd', 'containerd-shim-runc-v2', 'runc', 'ip', 'nft', 'haproxy', 'mmdebstrap', 'conntrack', 'nsenter'].map((name): Check => () => {
    const found = (process.env['PATH'] ?? '').split(':').concat('/usr/sbin', '/sbin').map(d => `${d}/${name}`).find(f => existsSync(f))
    return found !== undefined ? { what: name, state: 'ok', detail: found } : { what: name, state: 'missing', detail: 'not installed', remedy: './gantry --setup' }
  }),
  () => {
    const f = statfsSync('/var/lib')
    const free = f.bavail * f.bsize
    return { what: 'disk', state: free < 2e9 ? 'warning' : 'ok', detail: `${size(free)} free`, ...(free < 2e9 && { remedy: 'images need room: 2 GB at least' }) }
  },
  ...[['API', 6443], ['router', 80]].map((each): Check => async () => {
    const [what, port] = each as [string, number]
    const cluster = readClusterFile(layout())
    if (cluster !== undefined) return { what: `port of the ${what}`, state: 'ok', detail: `${what === 'API' ? cluster.apiPort : cluster.httpPort}, this cluster's own` }
    const free = await new Promise<boolean>(resolve => {
      const s = createServer().once('error', () => resolve(false)).listen(port, '0.0.0.0', () => s.close(() => resolve(true)))
    })
    return free ? { what: `port of the ${what}`, state: 'ok', detail: `${port} is free` }
      : { what: `port of the ${what}`, state: 'warning', detail: `${port} is in use`, remedy: 'gantry up takes the next free one' }
  }),
]
