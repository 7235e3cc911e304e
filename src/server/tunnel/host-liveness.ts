/**
 * A node's tunnel ends when its agent does, which a supervisor mends within a second or two, while its containers run on. Only
 * when the host itself is silent too is the node on its way to be given up: so a lost tunnel is told on after the host's kernel
 * has left a connection attempt unanswered.
 */
import { connect } from 'node:net'

/** Agents listen here for their peers; a host without an agent refuses, and a refusal is an answer. */
const PROBE_PORT = 10255
const PROBE_TIMEOUT_MS = 500
const PROBE_INTERVAL_MS = 500

export type StateHandler = (node: string, connected: boolean) => void
export type Subscribe = (handler: StateHandler) => () => void

/**
 * Like `tunnels`, but a node stays connected while its host answers. `addressOf` gives a node's address, undefined if unknown;
 * `answers` asks the host.
 */
export function hostConnections(
  tunnels: Subscribe, addressOf: (node: string) => string | undefined, answers: (address: string) => Promise<boolean> = hostAnswers,
): Subscribe {
  return (handler) => {
    /** Nodes without a tunnel whose host is being asked; the token tells one loss from the next. */
    const lost = new Map<string, symbol>()
    const off = tunnels((node, connected) => {
      lost.delete(node)
      if (connected) return handler(node, true)
      const token = Symbol(node)
      lost.set(node, token)
      void ask(node, token)
    })
    return () => {
      lost.clear()
      off()
    }

    async function ask(node: string, token: symbol): Promise<void> {
      for (;;) {
        const address = addressOf(node)
        const alive = address !== undefined && await answers(address)
        if (lost.get(node) !== token) return
        if (!alive) {
          lost.delete(node)
          return handler(node, false)
        }
        await new Promise((resolve) => { setTimeout(resolve, PROBE_INTERVAL_MS).unref() })
        if (lost.get(node) !== token) return
      }
    }
  }
}

/** Whether the host at an address answers a TCP connection attempt, be it with a refusal. */
export function hostAnswers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: PROBE_PORT })
    const done = (alive: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(alive)
    }
    const timer = setTimeout(() => done(false), PROBE_TIMEOUT_MS)
    socket.once('connect', () => done(true))
    socket.once('error', (e: NodeJS.ErrnoException) => done(e.code === 'ECONNREFUSED' || e.code === 'ECONNRESET'))
  })
}
