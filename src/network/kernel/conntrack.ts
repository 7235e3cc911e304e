/**
 * Makes the kernel forget UDP flows whose translation no longer holds: a client that keeps sending would go on to the endpoint that
 * is gone for as long as it sends. (TCP needs no such help: the old endpoint is gone and the connection breaks.)
 */
import { runAny } from '../run.ts'

export interface StaleFlow {
  /** Address the client sends to; left out: any of this machine's. */
  address?: string
  port: number
  /** Where it was translated to; left out: flows that were not translated at all. */
  endpoint?: { ip: string; port: number }
}

let missing = false

/** Needs `conntrack` (package of the same name); without it flows are left to their 30 to 120 s timeout. Answers whether it was there. */
export async function forgetUdpFlows(flows: StaleFlow[]): Promise<boolean> {
  if (missing || flows.length === 0) return !missing
  const lines = flows.map(({ address, port, endpoint }) => ['-D -p udp',
    ...(address === undefined ? [] : [`--orig-dst ${address}`]), `--orig-port-dst ${port}`,
    ...(endpoint === undefined ? [] : [`--reply-src ${endpoint.ip} --reply-port-src ${endpoint.port}`])].join(' '))
  try {
    // A status other than 0 also means that there was no such flow.
    await runAny('conntrack', ['-R', '-'], { input: lines.join('\n') + '\n' })
    return true
  } catch {
    missing = true
    return false
  }
}
