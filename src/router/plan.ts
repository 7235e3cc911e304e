/**
 * Backends are slots of the proxy's configuration: `h1…` for HTTP, `k1…` for HTTP with a cookie, `t5432` for a TCP port.
 * The configuration always holds spare slots, so that a new HTTP route only takes one and needs no reload.
 */
import type { Desired, Target, Way } from './desired.ts'

export interface Slot { name: string; targets: Target[] }

export interface Plan {
  /** Backends in use. */
  slots: Map<string, Slot>
  /** `host/path/` → slot. */
  hosts: Map<string, string>
  tcpPorts: number[]
  /** Slots the configuration has room for. */
  httpSlots: number
  stickySlots: number
}

const MIN_HTTP = 64
const MIN_STICKY = 16

/** Routes keep the slot they had in `before`; `held` remembers route → slot between calls and is changed. */
export function planOf(desired: Desired, before: Plan | undefined, held: Map<string, string>): Plan {
  const plan: Plan = {
    slots: new Map(), hosts: new Map(), tcpPorts: [], httpSlots: before?.httpSlots ?? MIN_HTTP, stickySlots: before?.stickySlots ?? MIN_STICKY,
  }
  const live = new Set(desired.ways.map(w => w.route))
  for (const route of [...held.keys()]) if (!live.has(route)) held.delete(route)
  for (const way of desired.ways) {
    const name = slotFor(way, held)
    plan.slots.set(name, { name, targets: way.targets })
    if (way.match !== undefined) plan.hosts.set(way.match, name)
    else plan.tcpPorts.push(way.tcpPort!)
  }
  plan.tcpPorts.sort((a, b) => a - b)
  const highest = (letter: string) => Math.max(0, ...[...plan.slots.keys()].filter(n => n.startsWith(letter)).map(n => Number(n.slice(1))))
  while (plan.httpSlots < highest('h')) plan.httpSlots *= 2
  while (plan.stickySlots < highest('k')) plan.stickySlots *= 2
  return plan
}

function slotFor(way: Way, held: Map<string, string>): string {
  if (way.tcpPort !== undefined) return `t${way.tcpPort}`
  const letter = way.sticky ? 'k' : 'h'
  const has = held.get(way.route)
  if (has?.startsWith(letter)) return has
  const used = new Set(held.values())
  let n = 1
  while (used.has(`${letter}${n}`)) n++
  held.set(way.route, `${letter}${n}`)
  return `${letter}${n}`
}

/** True if going from one plan to the other needs a new configuration to be loaded. */
export function needsReload(before: Plan, after: Plan): boolean {
  return before.httpSlots !== after.httpSlots || before.stickySlots !== after.stickySlots
    || before.tcpPorts.join() !== after.tcpPorts.join()
}

export const serverName = (t: Target) => `${t.ip}:${t.port}`.replaceAll(/[.:]/g, '_')

/** Commands for the proxy's run-time API that turn one plan into the other. Servers are drained before they are removed. */
export function commandsBetween(before: Plan, after: Plan, hostsMap: string): { now: string[]; later: string[] } {
  const now: string[] = []
  const later: string[] = []
  for (const name of new Set([...before.slots.keys(), ...after.slots.keys()])) {
    const had = new Map((before.slots.get(name)?.targets ?? []).map(t => [serverName(t), t]))
    const wants = new Map((after.slots.get(name)?.targets ?? []).map(t => [serverName(t), t]))
    for (const [server, t] of wants) {
      if (had.has(server)) continue
      now.push(`add server ${name}/${server} ${t.ip}:${t.port} ${serverOptions}`, `enable health ${name}/${server}`, `enable server ${name}/${server}`)
    }
    for (const server of had.keys()) {
      if (wants.has(server)) continue
      // No new request from here on; those under way finish. Only a server in maintenance can be removed.
      now.push(`set server ${name}/${server} state maint`)
      later.push(`del server ${name}/${server}`)
    }
    // Servers added at run time have no cookie until the backend is told to work cookies out again.
    if (name.startsWith('k')) now.push(`enable dynamic-cookie backend ${name}`)
  }
  for (const [match, slot] of after.hosts) {
    const had = before.hosts.get(match)
    if (had === undefined) now.push(`add map ${hostsMap} ${match} ${slot}`)
    else if (had !== slot) now.push(`set map ${hostsMap} ${match} ${slot}`)
  }
  for (const match of before.hosts.keys()) if (!after.hosts.has(match)) now.push(`del map ${hostsMap} ${match}`)
  return { now, later }
}

/** Options of every server, in the configuration as at run time. A dead one is noticed by its first refused connection. */
export const serverOptions = 'check inter 2s fastinter 500ms downinter 500ms fall 2 rise 1 observe layer4 error-limit 3 on-error mark-down pool-max-conn 32'
