/** From a request's namespace, pod and container to the engine's container. */
import { ApiError, badRequest, notFound } from '../../core/errors.ts'
import { pods } from '../../core/kinds.ts'
import { containerId } from '../pod/container-spec.ts'
import type { ContainerView } from '../pod/view.ts'
import type { PodWorker } from '../pod/worker.ts'
import type { Pods } from '../pods.ts'
import { text } from './query.ts'

export function podOf(all: Pick<Pods, 'byName'>, q: URLSearchParams): PodWorker {
  const [namespace, name] = [text(q, 'namespace'), text(q, 'pod')]
  const worker = all.byName(namespace, name)
  const uid = q.get('uid')
  if (worker === undefined || (uid !== null && uid !== '' && uid !== worker.uid)) throw notFound(pods, name)
  return worker
}

export function containerOf(worker: PodWorker, q: URLSearchParams): ContainerView {
  const all = worker.view.containers
  const asked = q.get('container')
  const name = worker.pod.metadata.name
  if (asked === null || asked === '') {
    const mains = all.filter(c => c.role === 'main')
    if (mains.length === 1) return mains[0]!
    throw badRequest(`a container name must be specified for pod ${name}, choose one of: [${mains.map(c => c.name).join(' ')}]`)
  }
  const found = all.find(c => c.name === asked)
  if (found === undefined) throw badRequest(`container ${asked} is not valid for pod ${name}`)
  return found
}

/** The engine's id of the container's current attempt, or of the one before. */
export function attemptId(worker: PodWorker, c: ContainerView, previous: boolean): string {
  const pod = worker.pod.metadata.name
  if (previous) {
    if (c.attempt < 1) throw badRequest(`previous terminated container "${c.name}" in pod "${pod}" not found`)
    return containerId(worker.uid, c.name, c.attempt - 1)
  }
  if (c.id === undefined) {
    const reason = c.waiting?.reason ?? (c.role === 'main' && worker.view.containers.some(x => x.role === 'init') ? 'PodInitializing' : 'ContainerCreating')
    throw badRequest(`container "${c.name}" in pod "${pod}" is waiting to start: ${reason}`)
  }
  return c.id
}

export function runningId(worker: PodWorker, c: ContainerView): string {
  if (c.state !== 'running' || c.id === undefined) {
    throw new ApiError('BadRequest', `container "${c.name}" of pod "${worker.pod.metadata.name}" is not running`)
  }
  return c.id
}
