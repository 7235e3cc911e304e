/**
 * Images from node to node: this node serves its own, read only, to other nodes on its bridge address, and knows from the
 * Nodes' status who has what. A peer is asked straight over the overlay; if it cannot be reached there, through the server.
 */
import { Agent, createServer, request } from 'node:https'
import type { Server } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { pipeline } from 'node:stream'
import type { RemoteClient } from '../client/client.ts'
import type { Informer } from '../core/client.ts'
import type { Logger } from '../core/log.ts'
import type { Machine, Node } from '../core/types/index.ts'
import type { ImageService, PeerEndpoint, PeerSource } from '../engine/engine.ts'
import { formatIPv4, parseCidr } from '../network/ipv4.ts'
import { errorText } from './error-text.ts'

export const PEER_PORT = 10255
const CONNECT_TIMEOUT_MS = 1500
const NODE_PREFIX = 'system:node:'

/** PEM texts of this node's identity. */
export interface Pems { ca: string; cert: string; key: string }

/** Index of a Node informer: the names of the images a node has. */
export function imageNames(node: Node): string[] { return (node.status?.images ?? []).flatMap(i => i.names) }

/** The bridge address of the machine whose Pods have `podCIDR`: the first after the network's own. */
export function gatewayOf(podCIDR: string): string { return formatIPv4(parseCidr(podCIDR).base + 1) }

export class ImagePeers implements PeerSource {
  readonly #nodes: Informer<Node>
  readonly #machines: Informer<Machine>
  readonly #self: string
  readonly #tls: Pems
  readonly #client: Pick<RemoteClient, 'request'>
  readonly #agent: Agent

  /** `nodes` must have the index `image` of {@link imageNames}. */
  constructor(nodes: Informer<Node>, machines: Informer<Machine>, self: string, tls: Pems, client: Pick<RemoteClient, 'request'>) {
    this.#nodes = nodes
    this.#machines = machines
    this.#self = self
    this.#tls = tls
    this.#client = client
    this.#agent = new Agent({ keepAlive: true, keepAliveMsecs: 1000, timeout: 30_000 })
  }

  async sources(reference: string): Promise<PeerEndpoint[]> {
    const out: PeerEndpoint[] = []
    for (const node of this.#nodes.byIndex('image', reference)) {
      const { name } = node.metadata
      if (name !== this.#self && ready(node)) out.push({ name, fetch: (path, headers) => this.#fetch(name, path, headers) })
    }
    // Many nodes that want the same image at once do not all ask the same one.
    for (let i = out.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1))
      ;[out[i], out[j]] = [out[j]!, out[i]!]
    }
    return out
  }

  close(): void { this.#agent.destroy() }

  async #fetch(name: string, path: string, headers: Record<string, string>): ReturnType<PeerEndpoint['fetch']> {
    const podCIDR = this.#machines.get(name)?.spec.podCIDR
    if (podCIDR !== undefined) {
      try {
        return await this.#direct(name, gatewayOf(podCIDR), path, headers)
      } catch {
        // The overlay may be broken where the server is not.
      }
    }
    const { status, headers: got, body } = await this.#client.request('GET', `/gantry/v1/nodes/${encodeURIComponent(name)}${path}`, { headers })
    return { status, headers: flat(got), body }
  }

  #direct(name: string, host: string, path: string, headers: Record<string, string>): ReturnType<PeerEndpoint['fetch']> {
    return new Promise((resolve, reject) => {
      const asked = request({
        host, port: PEER_PORT, path, headers, ...this.#tls, agent: this.#agent, servername: '',
        // The peer is known by its name as a node, not by its address.
        checkServerIdentity: (_host, cert) => cert.subject.CN === `${NODE_PREFIX}${name}` ? undefined
          : new Error(`${host} is not node "${name}" but "${String(cert.subject.CN)}"`),
      })
      const timer = setTimeout(() => asked.destroy(new Error(`node "${name}" does not answer at ${host}`)), CONNECT_TIMEOUT_MS)
      asked.on('error', e => {
        clearTimeout(timer)
        reject(e)
      })
      asked.on('response', answer => {
        clearTimeout(timer)
        resolve({ status: answer.statusCode ?? 500, headers: flat(answer.headers), body: answer })
      })
      asked.end()
    })
  }
}

function ready(node: Node): boolean { return node.status?.conditions?.find(c => c.type === 'Ready')?.status === 'True' }

function flat(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([k]) => !k.startsWith(':'))
    .flatMap(([k, v]) => v === undefined ? [] : [[k, Array.isArray(v) ? v.join(', ') : v]]))
}

/** Serves this node's images on `address`, to nodes of the same cluster only. Resolves when it listens. */
export function servePeers(images: ImageService, address: string, tls: Pems, logger: Logger): Promise<Server> {
  const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: true }, (req, res) => {
    const { subject } = (req.socket as TLSSocket).getPeerCertificate()
    const groups = ([] as unknown[]).concat(subject?.O ?? [])
    if (!groups.includes('system:nodes') || !String(subject.CN).startsWith(NODE_PREFIX)) {
      res.writeHead(403).end()
      return
    }
    answer(images, req, res).catch((e: unknown) => {
      logger.warn(`serving ${req.url} to ${String(subject.CN)}: ${errorText(e)}`)
      if (res.headersSent) res.destroy()
      else res.writeHead(500).end()
    })
  })
  server.on('tlsClientError', () => {})
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(PEER_PORT, address, () => resolve(server))
  })
}

async function answer(images: ImageService, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const { status, headers, body } = await images.serve(req.method ?? 'GET', req.url ?? '/', flat(req.headers))
  res.writeHead(status, headers)
  if (body === undefined) res.end()
  else pipeline(body, res, () => {})
}
