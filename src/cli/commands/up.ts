/** `gantry up` and `gantry down`: the cluster on this machine. */
import type { Command } from 'commander'
import { portOf, wholeNumber } from '../args.ts'
import type { Session } from '../context.ts'
import { nodes as nodeKind } from '../../core/kinds.ts'
import { ClusterError, down, up, type UpOptions } from '../../machines/cluster.ts'
import type { ClusterFile } from '../../machines/cluster-file.ts'
import { layout } from '../../machines/layout.ts'
import { lockMachine } from '../../machines/lock.ts'
import { json, line, note, paint, UserError } from '../output.ts'

export function register(program: Command): void {
  program.command('up')
    .description('start a cluster on this machine, or find the one that runs')
    .option('-n, --nodes <count>', 'hosts to make out of namespaces; without it this machine itself is the node', text => wholeNumber('nodes', text, 60))
    .option('--store <type>', 'where state is kept: sqlite or etcd (default: sqlite)')
    .option('--api-port <port>', 'port of the API (default: 6443, or the next free one)', portOf)
    .option('--http-port <port>', 'port of the router (default: 80, or the next free one)', portOf)
    .option('--domain <name>', 'suffix of routes\' host names (default: gantry.localhost)')
    .option('--timeout <seconds>', 'how long to wait until all nodes are ready', Number, 60)
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry up --nodes 3\n  eval "$(gantry env)" && kubectl get nodes')
    .action(async (o: UpOptions & { timeout: number; output?: string }, command: Command) => {
      if (o.store !== undefined && !['sqlite', 'etcd'].includes(o.store)) throw new UserError(`--store is sqlite or etcd, not "${o.store}"`, 2)
      const began = performance.now()
      const unlock = await lockMachine(() => void note('another cluster is being started on this machine: waiting for it'))
      let f: ClusterFile
      try {
        f = await guarded(() => up(layout(), o, text => void note(text)))
        // What speaks to the server is loaded while the server starts.
        const { session } = await import('../context.ts')
        const s = session(command)
        await nodesReady(s, f, o.timeout * 1000).finally(() => s.client.close())
      } finally {
        unlock()
      }
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      if (o.output === 'json') return json({ server: `https://127.0.0.1:${f.apiPort}`, httpPort: f.httpPort, domain: f.domain, nodes: f.nodes })
      await line(paint('green', `ready in ${seconds} s: `) + `${f.nodes.length} ${f.nodes.length === 1 ? 'node' : 'nodes'}. `
        + 'Use it with: eval "$(gantry env)"')
    })

  program.command('down')
    .description('stop this machine\'s cluster')
    .option('--purge', 'also remove its data and everything it made in the kernel')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry down --purge')
    .action(async (o: { purge?: boolean; output?: string }) => {
      const found = await guarded(() => down(layout(), o.purge === true, text => void note(text)))
      if (o.output === 'json') return json({ found, purged: o.purge === true })
      if (!found) await note('there is no cluster here')
    })
}

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (e) {
    throw e instanceof ClusterError ? new UserError(e.message) : e
  }
}

/** Resolves when every planned node is Ready, by watching. */
export async function nodesReady(s: Session, f: ClusterFile, timeoutMs: number): Promise<void> {
  const waiting = new Set(f.nodes.map(n => n.name))
  const informer = s.client.informer(nodeKind)
  let timer: NodeJS.Timeout | undefined
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new UserError(
        `after ${timeoutMs / 1000} s not ready: ${[...waiting].join(', ')}. Their logs: ${layout().dataDir}/machines/*/services, ${layout().runDir}/services`)), timeoutMs)
      informer.on((type, node) => {
        const ready = type !== 'DELETED' && node.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True')
        if (!ready || !waiting.delete(node.metadata.name)) return
        if (waiting.size === 0) resolve()
      })
    })
  } finally {
    clearTimeout(timer)
    informer.stop()
  }
}
