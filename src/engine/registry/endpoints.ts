/** How each registry is reached: HTTPS with the certificates given for it; this machine's own and those declared insecure also otherwise. */
import { readdir, readFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import type { AgentOptions } from 'node:https'
import { BlockList, isIP } from 'node:net'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import { EngineError } from '../engine.ts'
import { http } from './http.ts'

export interface RegistryOptions {
  /** Hosts (`reg.example.com:5000`) or networks (`10.0.0.0/8`) that may be spoken to by plain HTTP, or whose certificates are not checked. */
  insecure?: string[]
  /** `DIR/HOST[:PORT]/` holds `*.crt` (authorities) and pairs `*.cert` and `*.key` (client's); default `/etc/docker/certs.d`. */
  certsDir?: string
  /** Registries asked before Docker Hub for what is there: `http[s]://HOST[:PORT]`. They are given no credentials. */
  mirrors?: string[]
}

export interface Endpoint {
  base: URL
  /** Undefined: the common one. */
  agent?: Agent
}

/** Docker Hub's registry does not live where its name says. */
const HUB = { name: 'docker.io', host: 'registry-1.docker.io' }
const PING_STALL_MS = 15_000

const hostname = (host: string): string => host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')

/** Loopback registries may be spoken to in the clear, as Docker allows. */
export function isLoopback(host: string): boolean {
  const name = hostname(host)
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'))
}

export class Endpoints {
  readonly #insecureHosts = new Set<string>()
  readonly #insecureNetworks = new BlockList()
  readonly #certsDir: string
  readonly #secure = new Map<string, Promise<Endpoint>>()
  /** What an insecure host turned out to speak. */
  readonly #probed = new Map<string, Endpoint>()

  /** Throws `invalid` for a malformed network. */
  constructor({ insecure = [], certsDir = '/etc/docker/certs.d' }: RegistryOptions = {}) {
    this.#certsDir = certsDir
    for (const entry of insecure) {
      const [address, prefix] = entry.split('/')
      if (prefix === undefined) {
        this.#insecureHosts.add(entry.replace(/^https?:\/\//, '').toLowerCase())
        continue
      }
      try {
        this.#insecureNetworks.addSubnet(address!, Number(prefix), isIP(address!) === 6 ? 'ipv6' : 'ipv4')
      } catch {
        throw new EngineError('invalid', `insecure registry "${entry}" is neither a host nor a network`)
      }
    }
  }

  isInsecure(host: string): boolean {
    const name = hostname(host)
    const family = isIP(name)
    return isLoopback(host) || this.#insecureHosts.has(host.toLowerCase()) || this.#insecureHosts.has(name.toLowerCase())
      || (family !== 0 && this.#insecureNetworks.check(name, family === 6 ? 'ipv6' : 'ipv4'))
  }

  /** `insecure`: treat the host as declared so. Rejects with `unavailable` if an insecure host speaks neither HTTP nor HTTPS. */
  async resolve(host: string, insecure = false, signal?: AbortSignal, stallMs = PING_STALL_MS): Promise<Endpoint> {
    const address = host === HUB.name ? HUB.host : host
    let known = this.#secure.get(address)
    if (known === undefined) {
      known = this.#certificates(address).then(tls => ({ base: new URL(`https://${address}`), ...(tls === undefined ? {} : { agent: new Agent({ keepAlive: true, ...tls }) }) }))
      this.#secure.set(address, known)
      known.catch(() => { this.#secure.delete(address) })
    }
    const secure = await known
    if (!insecure && !this.isInsecure(host)) return secure
    const probed = this.#probed.get(address)
    if (probed !== undefined) return probed
    // The question carries no credentials, so asking in the clear first gives nothing away.
    const plain: Endpoint = { base: new URL(`http://${address}`) }
    const unchecked: Endpoint = { base: secure.base, agent: secure.agent ?? new Agent({ keepAlive: true, rejectUnauthorized: false }) }
    let failure: unknown
    for (const e of secure.agent === undefined ? [plain, unchecked] : [secure, plain]) {
      try {
        const answer = await http({
          method: 'GET', url: new URL('/v2/', e.base), follow: false, stallMs, ...(e.agent === undefined ? {} : { agent: e.agent }), ...(signal === undefined ? {} : { signal }),
        })
        answer.body.destroy()
        // A TLS server tells who speaks plain HTTP to it so by 400, or sends him to HTTPS.
        if (e === plain && (answer.status === 400 || (answer.headers['location'] ?? '').startsWith('https:'))) continue
        this.#probed.set(address, e)
        return e
      } catch (error) {
        // Who is there but silent will not speak up for another protocol.
        if (signal?.aborted === true || (error as Error).message.includes('did not answer')) throw error
        failure ??= error
      }
    }
    throw failure ?? new EngineError('unavailable', `${host} speaks neither HTTP nor HTTPS`)
  }

  /** For a host that answered otherwise than before. */
  forget(host: string): void { this.#probed.delete(host) }

  async #certificates(host: string): Promise<AgentOptions | undefined> {
    const dir = join(this.#certsDir, host)
    const names = await readdir(dir).catch((): string[] => [])
    if (names.length === 0) return undefined
    const read = (name: string): Promise<string> => readFile(join(dir, name), 'utf8')
    const ca = await Promise.all(names.filter(n => n.endsWith('.crt')).map(read))
    const certName = names.find(n => n.endsWith('.cert'))
    const keyName = names.find(n => n.endsWith('.key'))
    if (certName !== undefined && !names.includes(certName.replace(/\.cert$/, '.key'))) {
      throw new EngineError('failed', `missing key ${certName.replace(/\.cert$/, '.key')} for client certificate ${certName}. CA certificates must use the extension .crt`)
    }
    if (keyName !== undefined && !names.includes(keyName.replace(/\.key$/, '.cert'))) {
      throw new EngineError('failed', `missing client certificate ${keyName.replace(/\.key$/, '.cert')} for key ${keyName}`)
    }
    return {
      ...(ca.length === 0 ? {} : { ca: [...rootCertificates, ...ca] }),
      ...(certName === undefined ? {} : { cert: await read(certName), key: await read(certName.replace(/\.cert$/, '.key')) }),
    }
  }
}
