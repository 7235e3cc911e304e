/** Answers from the records this machine was given; needs nobody else. */
import type { Cidr } from '../ipv4.ts'
import { contains, isIPv4, parseIPv4 } from '../ipv4.ts'
import type { DnsRecords } from '../network.ts'
import { askedName, encodeName, encodeRecord, Type } from './wire.ts'

/** As in Kubernetes: short, because endpoints come and go. */
const ttlSeconds = 5
const maxCnameChain = 8

/** `unknown`: not this server's to answer. `external`: an alias whose target an upstream has to resolve. */
export type ZoneAnswer =
  | { kind: 'found'; answers: Buffer[]; additional: Buffer[] }
  | { kind: 'external'; answers: Buffer[]; target: string }
  | { kind: 'empty' | 'no-such-name'; authority: Buffer[] }
  | { kind: 'unknown' }

export class Zone {
  readonly #domain: string
  readonly #ownRanges: Cidr[]
  readonly #soa: Buffer
  #records: DnsRecords = { a: new Map(), srv: new Map(), cname: new Map(), ptr: new Map() }
  /** Encoded addresses of the names asked for since `set`. */
  #encoded = new Map<string, Buffer[]>()
  /** Names above existing ones, made when first needed. */
  #parents: Set<string> | undefined
  #turn = 0

  constructor(domain: string, ownRanges: Cidr[]) {
    this.#domain = domain
    this.#ownRanges = ownRanges
    const serverName = encodeName(`ns.dns.${domain}`) ?? Buffer.from([0])
    const numbers = Buffer.alloc(20)
    for (const [index, value] of [1, 7200, 1800, 86_400, ttlSeconds].entries()) numbers.writeUInt32BE(value, index * 4)
    const mailbox = encodeName(`hostmaster.${domain}`) ?? Buffer.from([0])
    this.#soa = encodeRecord(encodeName(domain) ?? Buffer.from([0]), Type.SOA, ttlSeconds, Buffer.concat([serverName, mailbox, numbers]))
  }

  set(records: DnsRecords): void {
    this.#records = records
    this.#encoded = new Map()
    this.#parents = undefined
  }

  lookup(name: string, type: number): ZoneAnswer {
    const { a, srv, cname } = this.#records
    if (cname.has(name)) return this.#alias(name, type)
    if (a.has(name)) {
      if (type === Type.A || type === Type.ANY) return { kind: 'found', answers: this.#addresses(name), additional: [] }
      if (type === Type.SRV && srv.has(name)) return this.#services(name)
      return this.#negative('empty')
    }
    if (srv.has(name)) return type === Type.SRV || type === Type.ANY ? this.#services(name) : this.#negative('empty')
    if (name.endsWith('.in-addr.arpa')) return this.#reverse(name, type)
    if (name !== this.#domain && !name.endsWith(`.${this.#domain}`)) return { kind: 'unknown' }
    if (name === this.#domain) return type === Type.SOA ? { kind: 'found', answers: [this.#soa], additional: [] } : this.#negative('empty')
    const pod = this.#podAddress(name)
    if (pod !== undefined) {
      return type === Type.A || type === Type.ANY
        ? { kind: 'found', answers: [encodeRecord(askedName, Type.A, ttlSeconds, addressBytes(pod))], additional: [] } : this.#negative('empty')
    }
    return this.#negative(this.#allParents().has(name) ? 'empty' : 'no-such-name')
  }

  #negative(kind: 'empty' | 'no-such-name'): ZoneAnswer {
    return { kind, authority: [this.#soa] }
  }

  /** Each answer starts with another address, and has all. */
  #addresses(name: string): Buffer[] {
    let records = this.#encoded.get(name)
    if (records === undefined) {
      records = (this.#records.a.get(name) ?? []).filter(isIPv4)
        .map((address) => encodeRecord(askedName, Type.A, ttlSeconds, addressBytes(address)))
      this.#encoded.set(name, records)
    }
    if (records.length < 2) return records
    const first = this.#turn++ % records.length
    return [...records.slice(first), ...records.slice(0, first)]
  }

  #services(name: string): ZoneAnswer {
    const targets = this.#records.srv.get(name) ?? []
    const answers: Buffer[] = []
    const additional: Buffer[] = []
    const weight = Math.max(1, Math.floor(100 / Math.max(1, targets.length)))
    for (const { port, target } of targets) {
      const targetName = encodeName(target)
      if (targetName === undefined) continue
      const head = Buffer.alloc(6)
      head.writeUInt16BE(weight, 2)
      head.writeUInt16BE(port, 4)
      answers.push(encodeRecord(askedName, Type.SRV, ttlSeconds, Buffer.concat([head, targetName])))
      for (const address of (this.#records.a.get(target) ?? []).filter(isIPv4)) {
        additional.push(encodeRecord(targetName, Type.A, ttlSeconds, addressBytes(address)))
      }
    }
    return { kind: 'found', answers, additional }
  }

  #alias(name: string, type: number): ZoneAnswer {
    const answers: Buffer[] = []
    let owner: Buffer = askedName
    let current = name
    for (let step = 0; step < maxCnameChain; step++) {
      const target = this.#records.cname.get(current)
      if (target === undefined) break
      const targetName = encodeName(target)
      if (targetName === undefined) break
      answers.push(encodeRecord(owner, Type.CNAME, ttlSeconds, targetName))
      owner = targetName
      current = target
      if (type === Type.CNAME) return { kind: 'found', answers, additional: [] }
    }
    const addresses = this.#records.a.get(current)
    if (addresses !== undefined) {
      if (type === Type.A || type === Type.ANY) {
        answers.push(...addresses.filter(isIPv4).map((address) => encodeRecord(owner, Type.A, ttlSeconds, addressBytes(address))))
      }
      return { kind: 'found', answers, additional: [] }
    }
    const ours = current === this.#domain || current.endsWith(`.${this.#domain}`)
    return ours ? { kind: 'found', answers, additional: [] } : { kind: 'external', answers, target: current }
  }

  #reverse(name: string, type: number): ZoneAnswer {
    const address = name.slice(0, -'.in-addr.arpa'.length).split('.').reverse().join('.')
    if (!isIPv4(address)) return { kind: 'unknown' }
    const target = this.#records.ptr.get(address)
    const targetName = target === undefined ? undefined : encodeName(target)
    if (targetName !== undefined) {
      return type === Type.PTR || type === Type.ANY
        ? { kind: 'found', answers: [encodeRecord(askedName, Type.PTR, ttlSeconds, targetName)], additional: [] } : this.#negative('empty')
    }
    // Upstreams know nothing of these, and need not hear of them.
    const number = parseIPv4(address)
    return this.#ownRanges.some((range) => contains(range, number)) ? this.#negative('no-such-name') : { kind: 'unknown' }
  }

  /** Kubernetes' `A-B-C-D.NAMESPACE.pod.DOMAIN`. */
  #podAddress(name: string): string | undefined {
    const suffix = `.pod.${this.#domain}`
    if (!name.endsWith(suffix)) return undefined
    const [label = '', namespace, ...rest] = name.slice(0, -suffix.length).split('.')
    if (namespace === undefined || rest.length > 0) return undefined
    const address = label.replaceAll('-', '.')
    return isIPv4(address) ? address : undefined
  }

  #allParents(): Set<string> {
    if (this.#parents !== undefined) return this.#parents
    const parents = new Set<string>()
    for (const names of [this.#records.a, this.#records.srv, this.#records.cname]) {
      for (const name of names.keys()) {
        for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
          const parent = name.slice(dot + 1)
          // Whoever put this one in has put in all above it.
          if (parents.has(parent)) break
          parents.add(parent)
        }
      }
    }
    this.#parents = parents
    return parents
  }
}

function addressBytes(address: string): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(parseIPv4(address))
  return bytes
}
