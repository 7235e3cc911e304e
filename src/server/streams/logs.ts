/** `GET pods/NAME/log`. */
import { ApiError } from '../../core/errors.ts'
import { pods } from '../../core/kinds.ts'
import type { ServerHost } from '../host.ts'
import type { Tunnels } from '../tunnel/tunnels.ts'
import { flag, podTarget } from './pod-target.ts'
import { goneSignal, relay, throwIfError } from './relay.ts'

/** Numbers the API takes, with the least value of each. */
const MINIMUM = { tailLines: 0, sinceSeconds: 1, limitBytes: 1 }

export function mountLogs(host: ServerHost, tunnels: Tunnels): void {
  host.handleSubresource(pods, 'log', async (context, res) => {
    if (context.info.verb !== 'get') throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource')
    const options = logOptions(context.query)
    const { node, container, pod } = await podTarget(host, context)
    options.set('namespace', context.info.namespace)
    options.set('pod', context.info.name)
    options.set('uid', pod.metadata.uid ?? '')
    options.set('container', container)
    const answer = await tunnels.request(node, 'GET', `/logs?${options}`, { signal: goneSignal(res) })
    await throwIfError(answer)
    await relay(answer, res, 200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' })
  })
}

/** The checked options as the node takes them. Throws Invalid in Kubernetes' words. */
export function logOptions(query: URLSearchParams): URLSearchParams {
  const options = new URLSearchParams()
  for (const name of ['follow', 'previous', 'timestamps']) if (flag(query, name)) options.set(name, 'true')
  for (const [name, minimum] of Object.entries(MINIMUM)) {
    const text = query.get(name)
    if (text === null || text === '') continue
    const value = Number(text)
    if (!Number.isInteger(value)) throw invalid(`${name}: Invalid value: ${JSON.stringify(text)}: must be an integer`)
    if (value < minimum) throw invalid(`${name}: Invalid value: ${value}: must be greater than ${minimum === 0 ? 'or equal to 0' : '0'}`)
    options.set(name, String(value))
  }
  const since = query.get('sinceTime')
  if (since) {
    if (options.has('sinceSeconds')) throw invalid('sinceSeconds: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified')
    if (Number.isNaN(Date.parse(since))) throw invalid(`sinceTime: Invalid value: ${JSON.stringify(since)}: must be an RFC 3339 time`)
    options.set('sinceTime', since)
  }
  return options
}

function invalid(message: string): ApiError { return new ApiError('Invalid', `PodLogOptions "" is invalid: ${message}`) }
