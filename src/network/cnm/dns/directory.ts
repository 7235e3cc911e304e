/**
 * Who is called what, network by network: a name means something only to those who share a network with its owner. Answers are made of
 * records that were encoded when the endpoint came.
 */
import { askedName, encodeName, encodeRecord, Type } from '../../dns/wire.ts'
import { addressBytes, addressOf, reverseName, withoutPrefix } from '../ip.ts'

/** As Docker's embedded server. */
const ttlSeconds = 600

export interface Member {
  endpointId: string
  sandboxId: string
  /** With or without prefix; '' where there is none. */
  ipv4: string
  ipv6: string
  /** Any case. The first one is what its address resolves to. */
  names: string[]
  /** Alias that only this member knows → name of another one in the same network, lower case. */
  links: Map<string, string>
}

interface Encoded { member: Member; a: Buffer | undefined; aaaa: Buffer | undefined }

interface Scope {
  /** Lower case. */
  name: string
  byName: Map<string, Encoded[]>
  byReverse: Map<string, Encoded>
  members: Map<string, Member>
}

/** `unknown`: not a name of any network of the asker. */
export type Answer = { records: Buffer[] } | 'unknown'

export class Directory {
  readonly #scopes = new Map<string, Scope>()
  /** Sandbox → ids of its networks, in the order they are asked. */
  readonly #networksOf = new Map<string, string[]>()
  /** Grows with every change: answers kept elsewhere hold no longer. */
  #version = 0

  get version(): number {
    return this.#version
  }

  /** Joins, or comes with new names. */
  put(networkId: string, networkName: string, member: Member): void {
    this.remove(networkId, member.endpointId)
    let scope = this.#scopes.get(networkId)
    if (scope === undefined) {
      this.#scopes.set(networkId, (scope = { name: networkName.toLowerCase(), byName: new Map(), byReverse: new Map(), members: new Map() }))
    }
    scope.members.set(member.endpointId, member)
    const encoded: Encoded = { member, a: encodeAddress(Type.A, member.ipv4), aaaa: encodeAddress(Type.AAAA, member.ipv6) }
    for (const name of new Set(member.names.map((each) => each.toLowerCase()))) {
      const list = scope.byName.get(name)
      if (list === undefined) scope.byName.set(name, [encoded])
      else list.push(encoded)
    }
    for (const ip of [member.ipv4, member.ipv6]) if (ip !== '') scope.byReverse.set(reverseOf(ip), encoded)
    const networks = this.#networksOf.get(member.sandboxId) ?? []
    if (!networks.includes(networkId)) networks.push(networkId)
    this.#networksOf.set(member.sandboxId, networks)
    this.#version++
  }

  remove(networkId: string, endpointId: string): void {
    const scope = this.#scopes.get(networkId)
    const member = scope?.members.get(endpointId)
    if (scope === undefined || member === undefined) return
    scope.members.delete(endpointId)
    for (const name of new Set(member.names.map((each) => each.toLowerCase()))) {
      const left = (scope.byName.get(name) ?? []).filter((encoded) => encoded.member !== member)
      if (left.length === 0) scope.byName.delete(name)
      else scope.byName.set(name, left)
    }
    for (const ip of [member.ipv4, member.ipv6]) if (ip !== '') scope.byReverse.delete(reverseOf(ip))
    const networks = (this.#networksOf.get(member.sandboxId) ?? []).filter((id) => id !== networkId)
    if (networks.length === 0) this.#networksOf.delete(member.sandboxId)
    else this.#networksOf.set(member.sandboxId, networks)
    if (scope.members.size === 0) this.#scopes.delete(networkId)
    this.#version++
  }

  /** `name` in lower case, without the trailing dot. A known name without a record of the type has an answer without records. */
  lookup(sandboxId: string, name: string, type: number): Answer {
    const scopes = (this.#networksOf.get(sandboxId) ?? []).flatMap((id) => this.#scopes.get(id) ?? [])
    if (name.endsWith('.arpa')) return reverse(scopes, name, type)
    const found = this.#owners(sandboxId, scopes, name)
    if (found === undefined) return 'unknown'
    const records: Buffer[] = []
    for (const { a, aaaa } of found) {
      if (a !== undefined && (type === Type.A || type === Type.ANY)) records.push(a)
      if (aaaa !== undefined && (type === Type.AAAA || type === Type.ANY)) records.push(aaaa)
    }
    return { records }
  }

  #owners(sandboxId: string, scopes: Scope[], name: string): Encoded[] | undefined {
    for (const scope of scopes) {
      const found = inScope(scope, sandboxId, name)
      if (found !== undefined) return found
    }
    for (const scope of scopes) {
      if (!name.endsWith(`.${scope.name}`)) continue
      const found = inScope(scope, sandboxId, name.slice(0, -1 - scope.name.length))
      if (found !== undefined) return found
    }
    return undefined
  }
}

function inScope(scope: Scope, sandboxId: string, name: string): Encoded[] | undefined {
  for (const member of scope.members.values()) {
    const target = member.sandboxId === sandboxId ? member.links.get(name) : undefined
    const linked = target === undefined ? undefined : scope.byName.get(target)
    if (linked !== undefined) return linked
  }
  return scope.byName.get(name)
}

function reverse(scopes: Scope[], name: string, type: number): Answer {
  for (const scope of scopes) {
    const found = scope.byReverse.get(name)
    const first = found?.member.names[0]
    const target = first === undefined ? undefined : encodeName(`${first}.${scope.name}`)
    if (target !== undefined) return { records: type === Type.PTR || type === Type.ANY ? [encodeRecord(askedName, Type.PTR, ttlSeconds, target)] : [] }
  }
  return 'unknown'
}

function reverseOf(ip: string): string {
  return reverseName(addressOf(withoutPrefix(ip)))
}

function encodeAddress(type: number, ip: string): Buffer | undefined {
  return ip === '' ? undefined : encodeRecord(askedName, type, ttlSeconds, addressBytes(addressOf(withoutPrefix(ip))))
}
