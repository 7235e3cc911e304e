/** Which container on which node a streaming request means. */
import { badRequest } from '../../core/errors.ts'
import { pods } from '../../core/kinds.ts'
import type { Pod } from '../../core/types/index.ts'
import type { Context, ServerHost } from '../host.ts'

const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container'

export interface PodTarget { pod: Pod; node: string; container: string }

/**
 * The Pod of the request's path, its node, and the container asked for (the only one, or the annotated default, when none
 * is). Rejects with NotFound or, in Kubernetes' words, BadRequest.
 */
export async function podTarget({ client }: ServerHost, { info, query }: Context): Promise<PodTarget> {
  const pod = await client.get(pods, { namespace: info.namespace, name: info.name })
  const container = containerOf(pod, query.get('container') ?? '')
  if (!pod.spec.nodeName) throw badRequest(`pod ${info.name} does not have a host assigned`)
  return { pod, node: pod.spec.nodeName, container }
}

function containerOf(pod: Pod, asked: string): string {
  const { name, annotations } = pod.metadata
  const all = pod.spec.containers.map((c) => c.name)
  const init = (pod.spec.initContainers ?? []).map((c) => c.name)
  if (asked !== '') {
    if (!all.includes(asked) && !init.includes(asked)) throw badRequest(`container ${asked} is not valid for pod ${name}`)
    return asked
  }
  const annotated = annotations?.[DEFAULT_CONTAINER]
  if (annotated !== undefined && (all.includes(annotated) || init.includes(annotated))) return annotated
  if (all.length === 1) return all[0]!
  const others = init.length > 0 ? ` or one of the init containers: [${init.join(' ')}]` : ''
  throw badRequest(`a container name must be specified for pod ${name}, choose one of: [${all.join(' ')}]${others}`)
}

/** `true` and `1` in any case, as Go's parser has it; what is left out or anything else is false. */
export function flag(query: URLSearchParams, name: string): boolean {
  return /^(true|1|t)$/i.test(query.get(name) ?? '')
}
