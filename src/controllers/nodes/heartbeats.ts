/**
 * When each node was last heard of: by its Lease in `kube-node-lease`, judged by this process's own clock (never by the time
 * in the Lease, which is another machine's), and by its tunnel.
 */
import type { Lease } from '../../core/types/index.ts'
import type { Context } from '../context.ts'
import { leases } from '../../core/kinds.ts'

export const LEASE_NAMESPACE = 'kube-node-lease'
/** A node's first renewal may be this late: after a restart of the server its agents have to find it again. */
const FIRST_RENEWAL_MS = 10_000
/** A node that is silent and yet holds its tunnel is given this much more: it may only be overloaded. */
const TUNNEL_GRACE_MS = 7_000
/** If a deadline is noticed so much too late, this process was stalled, and renewals may be waiting unread. */
const STALL_MS = 1_000
const DEFAULT_DURATION_S = 3

interface Pulse { renewTime: string | undefined; expiresMs: number; renewed: boolean; excused: boolean }

/** Tells of tunnels that come and go; returns a function that ends it. */
export type NodeConnections = (handler: (node: string, connected: boolean) => void) => () => void

export class Heartbeats {
  readonly #pulses = new Map<string, Pulse>()
  readonly #connected = new Set<string>()
  readonly #now: () => number
  readonly #off: (() => void)[] = []

  /** `changed` is called with the name of a node that renewed for the first time in a while, or whose tunnel came or went. */
  constructor(context: Context, connections: NodeConnections | undefined, changed: (node: string) => void) {
    this.#now = () => context.clock.now()
    this.#off.push(context.informers.of(leases).on((type, lease) => {
      if (lease.metadata.namespace !== LEASE_NAMESPACE) return
      const { name } = lease.metadata
      if (type === 'DELETED') this.#pulses.delete(name)
      else if (!this.#beat(name, lease)) return
      changed(name)
    }))
    if (connections === undefined) return
    this.#off.push(connections((node, connected) => {
      if (connected) this.#connected.add(node)
      else this.#connected.delete(node)
      changed(node)
    }))
  }

  stop(): void { for (const off of this.#off) off() }

  /** `unknown`: there is no Lease, so nothing can be said. `fresh`: renewed since this process started. */
  state(node: string): 'unknown' | 'awaited' | 'fresh' | 'silent' {
    const p = this.#pulses.get(node)
    if (p === undefined) return 'unknown'
    const late = this.#now() - p.expiresMs
    if (late < 0) return p.renewed ? 'fresh' : 'awaited'
    if (late > STALL_MS && !p.excused) {
      p.excused = true
      p.expiresMs = this.#now() + STALL_MS
      return p.renewed ? 'fresh' : 'awaited'
    }
    p.excused = true
    return 'silent'
  }

  /** Silent, and its tunnel is gone too (or has been of no use for long): what ran there is to be replaced. */
  isDead(node: string): boolean { return this.state(node) === 'silent' && (this.#connected.has(node) ? this.#msUntilGivenUp(node) <= 0 : true) }

  /** Milliseconds until {@link state} or {@link isDead} may change by itself; undefined: only by an event. */
  nextChangeMs(node: string): number | undefined {
    const p = this.#pulses.get(node)
    if (p === undefined) return undefined
    const left = p.expiresMs - this.#now()
    if (left > 0) return left
    const givenUp = this.#msUntilGivenUp(node)
    return this.#connected.has(node) && givenUp > 0 ? givenUp : undefined
  }

  /** No node at all is heard of: the fault is more likely here, or there is nowhere to replace anything. */
  allSilent(): boolean {
    for (const name of this.#pulses.keys()) if (this.state(name) !== 'silent') return false
    return true
  }

  #msUntilGivenUp(node: string): number { return this.#pulses.get(node)!.expiresMs + TUNNEL_GRACE_MS - this.#now() }

  /** True if this is news: the first renewal, or the first after silence. */
  #beat(name: string, lease: Lease): boolean {
    const now = this.#now()
    const durationMs = (lease.spec?.leaseDurationSeconds ?? DEFAULT_DURATION_S) * 1000
    const p = this.#pulses.get(name)
    if (p === undefined) {
      this.#pulses.set(name, { renewTime: lease.spec?.renewTime, expiresMs: now + Math.max(FIRST_RENEWAL_MS, durationMs), renewed: false, excused: false })
      return true
    }
    if (p.renewTime === lease.spec?.renewTime) return false
    const isNews = !p.renewed || now >= p.expiresMs || p.excused
    this.#pulses.set(name, { renewTime: lease.spec?.renewTime, expiresMs: now + durationMs, renewed: true, excused: false })
    return isNews
  }
}
