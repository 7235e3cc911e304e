/** Which cluster a command talks to, and as whom: a kubeconfig, as kubectl finds it; else this machine's cluster. */
import type { Command } from 'commander'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'yaml'
import { connect, type RemoteClient } from '../client/client.ts'
import { layout } from '../machines/layout.ts'
import { UserError } from './output.ts'

export interface Session { client: RemoteClient; server: string; namespace: string }

interface Kubeconfig {
  'current-context'?: string
  contexts?: { name: string; context: { cluster: string; user: string; namespace?: string } }[]
  clusters?: { name: string; cluster: { server: string; 'certificate-authority-data'?: string; 'certificate-authority'?: string } }[]
  users?: { name: string; user: { token?: string } & Record<'client-certificate-data' | 'client-key-data' | 'client-certificate' | 'client-key', string | undefined> }[]
}

/** Opens the cluster a command was called for. Close the client when done, or the process stays alive. */
export function session(command: Command): Session {
  const file = kubeconfigFile(command)
  const config = parse(readFileSync(file, 'utf8')) as Kubeconfig
  const context = config.contexts?.find(c => c.name === config['current-context'])?.context ?? config.contexts?.[0]?.context
  const cluster = config.clusters?.find(c => c.name === context?.cluster)?.cluster
  const user = config.users?.find(u => u.name === context?.user)?.user
  if (cluster === undefined || user === undefined) throw new UserError(`${file} names no usable cluster and user`)
  const ca = pem(cluster['certificate-authority-data'], cluster['certificate-authority'])
  const cert = pem(user['client-certificate-data'], user['client-certificate'])
  const key = pem(user['client-key-data'], user['client-key'])
  if (ca === undefined) throw new UserError(`${file} has no certificate-authority: the server could not be verified`)
  const tls = { ca, ...(cert !== undefined && { cert }), ...(key !== undefined && { key }) }
  const client = connect({ servers: [cluster.server], tls, token: user.token, userAgent: 'gantry' })
  return { client, server: cluster.server, namespace: context?.namespace ?? 'default' }
}

/** Runs `use` with a session and closes it. */
export async function withSession<T>(command: Command, use: (s: Session) => Promise<T>): Promise<T> {
  const s = session(command)
  try {
    return await use(s)
  } finally {
    s.client.close()
  }
}

function kubeconfigFile(command: Command): string {
  const named = (command.optsWithGlobals() as { kubeconfig?: string }).kubeconfig ?? process.env['KUBECONFIG']
  if (named !== undefined && named !== '') {
    if (!existsSync(named)) throw new UserError(`there is no file ${named}`)
    return named
  }
  const local = join(layout().dataDir, 'kubeconfig')
  if (existsSync(local)) return local
  const personal = join(homedir(), '.kube', 'config')
  if (existsSync(personal)) return personal
  throw new UserError('no cluster here: start one with "gantry up", or name its kubeconfig with --kubeconfig')
}

function pem(data: string | undefined, file: string | undefined): string | undefined {
  if (data !== undefined) return Buffer.from(data, 'base64').toString()
  return file === undefined ? undefined : readFileSync(file, 'utf8')
}
