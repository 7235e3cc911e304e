/** The resolvers of names outside the cluster. */
import { readFile, stat } from 'node:fs/promises'
import { isIP, isIPv6 } from 'node:net'

export interface Upstream { address: string; port: number }

/** `ADDRESS` or, for IPv4, `ADDRESS:PORT`; undefined for anything else. */
export function parseUpstream(text: string): Upstream | undefined {
  if (isIP(text) !== 0) return { address: text, port: 53 }
  const match = /^(\d+\.\d+\.\d+\.\d+):(\d{1,5})$/.exec(text)
  if (match === null || isIP(match[1]!) !== 4) return undefined
  const port = Number(match[2])
  return port >= 1 && port <= 65_535 ? { address: match[1]!, port } : undefined
}

export function parseResolvConf(text: string): Upstream[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap((match) => parseUpstream(match[1]!) ?? [])
}

// systemd-resolved keeps the real ones in the second file when the first names its own stub.
const resolvConfFiles = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf']
const recheckMs = 5000

/** The machine's own resolvers, read again when the files change. */
export class MachineResolvers {
  readonly #own: string
  readonly #files: string[]
  #known: Upstream[] = []
  #versions = ''
  #checkedAtMs = -Infinity
  #checking: Promise<Upstream[]> | undefined

  /** `own`: this server's address, which must not be its own upstream. */
  constructor(own: string, files: string[] = resolvConfFiles) {
    this.#own = own
    this.#files = files
  }

  get(): Promise<Upstream[]> | Upstream[] {
    if (performance.now() - this.#checkedAtMs < recheckMs) return this.#known
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined
    })
    return this.#checking
  }

  async #check(): Promise<Upstream[]> {
    const versions = await Promise.all(this.#files.map((file) => stat(file).then(({ mtimeMs, ino }) => `${ino} ${mtimeMs}`, () => '')))
    if (versions.join() !== this.#versions || this.#known.length === 0) {
      this.#known = await this.#read()
      this.#versions = versions.join()
    }
    this.#checkedAtMs = performance.now()
    return this.#known
  }

  async #read(): Promise<Upstream[]> {
    for (const file of this.#files) {
      const listed = parseResolvConf(await readFile(file, 'utf8').catch(() => '')).filter(({ address }) => address !== this.#own)
      const usable: Upstream[] = []
      for (const upstream of listed) if (!isLoopback(upstream.address) || await hasUdpListener(upstream)) usable.push(upstream)
      if (usable.length > 0) return usable
    }
    return []
  }
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

/**
 * A loopback resolver of the machine cannot be reached from another network namespace, where the same file is often seen; only
 * sockets of this namespace are listed here.
 */
async function hasUdpListener({ address, port }: Upstream): Promise<boolean> {
  if (isIPv6(address)) return false
  const hex = address.split('.').reverse().map((part) => Number(part).toString(16).padStart(2, '0')).join('').toUpperCase()
  const portHex = port.toString(16).padStart(4, '0').toUpperCase()
  const sockets = await readFile('/proc/self/net/udp', 'utf8').catch(() => '')
  return sockets.includes(` ${hex}:${portHex} `) || sockets.includes(` 00000000:${portHex} `)
}
