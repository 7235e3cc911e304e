/** Addresses of one subnet: who has which, and the next one in turn. Memory only: networks' and sandboxes' records are the truth. */
import { CnmError } from './cnm.ts'
import type { Address, Subnet } from './ip.ts'
import { addressOf, formatAddress, formatSubnet, includes, lastOf, sizeOf, subnetOf } from './ip.ts'

export interface PoolRecord { subnet: string; gateway?: string; range?: string; auxiliary?: Record<string, string> }

export class SubnetAddresses {
  readonly subnet: Subnet
  readonly #range: Subnet
  readonly #used = new Set<bigint>()
  #next: bigint

  /** Gateway and auxiliary addresses count as in use. */
  constructor({ subnet, gateway, range, auxiliary }: PoolRecord) {
    this.subnet = subnetOf(subnet)
    this.#range = range === undefined ? this.subnet : subnetOf(range)
    this.#next = this.#range.base
    for (const text of [gateway, ...Object.values(auxiliary ?? {})]) if (text !== undefined) this.#used.add(addressOf(text).value)
  }

  /** The next free one after the last that was given, so that a released address rests as long as possible. */
  take(): string {
    const [first, last] = [this.#range.base, lastOf(this.#range)]
    for (let tried = first; tried <= last; tried++) {
      const value = this.#next
      this.#next = value >= last ? first : value + 1n
      if (this.#usable(value) && !this.#used.has(value)) return this.#give(value)
    }
    throw new CnmError('exhausted', `no available IPv${this.subnet.family} addresses on this network's address pools: ${formatSubnet(this.subnet)}`)
  }

  /** One that was asked for. */
  claim(address: Address): string {
    if (!includes(this.subnet, address)) throw new CnmError('invalid', 'no configured subnet or ip-range contain the IP address ' + formatAddress(address))
    if (this.#used.has(address.value) || !this.#usable(address.value)) throw new CnmError('forbidden', 'Address already in use')
    return this.#give(address.value)
  }

  /** What a former process gave: taken over whatever it is. */
  restore(address: Address): void {
    this.#used.add(address.value)
    if (includes(this.#range, address) && address.value >= this.#next) {
      this.#next = address.value >= lastOf(this.#range) ? this.#range.base : address.value + 1n
    }
  }

  release(address: Address): void {
    this.#used.delete(address.value)
  }

  /** Neither the network's own address nor IPv4's broadcast; the two of a /31 are both hosts (RFC 3021). */
  #usable(value: bigint): boolean {
    if (sizeOf(this.subnet) <= 2n) return true
    return value !== this.subnet.base && (this.subnet.family === 6 || value !== lastOf(this.subnet))
  }

  #give(value: bigint): string {
    this.#used.add(value)
    return `${formatAddress({ family: this.subnet.family, value })}/${this.subnet.prefix}`
  }
}
