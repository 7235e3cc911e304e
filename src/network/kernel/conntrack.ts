/**
 * Makes the kernel forget UDP flows whose translation no longer holds: a client that keeps sending would go on to the endpoint
 * that is gone for as long as it sends. (TCP needs no such help: the old endpoint is gone and the connection breaks.)
 */
import { runAny } from '../run.ts'

/** Flows that were translated to an endpoint; or those to a port (of one address, or any) that began before it was translated. */
export type StaleFlow = { endpoint: { ip: string; port: number } } | { address?: string; port: number }

// `conntrack` deletes by one description a call.
const maxAtOnce = 4

let missing = false

/**
 * Needs `conntrack` (package of the same name); without it flows are left to their 30 to 120 s timeout. Answers whether it was
 * there.
 */
export async function forgetUdpFlows(flows: StaleFlow[]): Promise<boolean> {
  const calls = new Map(flows.map((flow) => [JSON.stringify(argumentsOf(flow)), argumentsOf(flow)]))
  const queue = [...calls.values()]
  const work = async (): Promise<void> => {
    for (let args = queue.pop(); args !== undefined && !missing; args = queue.pop()) {
      // A status other than 0 also means that there was no such flow.
      await runAny('conntrack', ['-D', '-p', 'udp', ...args]).catch(() => {
        missing = true
      })
    }
  }
  await Promise.all(Array.from({ length: Math.min(maxAtOnce, queue.length) }, work))
  return !missing
}

function argumentsOf(flow: StaleFlow): string[] {
  if ('endpoint' in flow) return ['--reply-src', flow.endpoint.ip, '--reply-port-src', String(flow.endpoint.port)]
  return [...(flow.address === undefined ? [] : ['--orig-dst', flow.address]), '--orig-port-dst', String(flow.port)]
}
