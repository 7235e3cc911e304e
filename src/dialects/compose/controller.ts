/** Makes what a ComposeProject says: one workload, its names and its routes for each service, in the order of depends_on. */
import { createHash } from 'node:crypto'
import type { Client, Informer } from '../../core/client.ts'
import { keyOf } from '../../core/client.ts'
import { Controller, watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import { composeProjects, deployments, type Kind, pods, routes, services } from '../../core/kinds.ts'
import type { Logger } from '../../core/log.ts'
import type { ApiObject, ComposeProject, Deployment, Pod } from '../../core/types/index.ts'
import { compileService, objectName, objectsOf, runsOnce } from './compile.ts'

/** What an object was made from; equal means nothing to write. */
const HASH = 'gantry.dev/compose-hash'
const MADE: readonly Kind[] = [deployments as Kind, pods as Kind, services as Kind, routes as Kind]

export function composeController(client: Client, o: { volumesDir: string; log: Logger }): Controller {
  const projects = client.informer(composeProjects)
  const made = new Map<Kind, Informer<ApiObject>>(MADE.map(kind => [kind, client.informer(kind, { indexes: { project: ownerKeys } })]))
  const controller = new Controller({
    name: 'compose',
    sources: [watch(projects), ...[...made.values()].map(i => watch(i, object => ownerKeys(object)))],
    reconcile: key => reconcile(key),
    onError: (error, project) => o.log.warn('a compose project could not be made', { project, error: (error as Error).message }),
  })
  const stop = controller.stop.bind(controller)
  controller.stop = async () => {
    await stop()
    for (const i of [projects, ...made.values()]) i.stop()
  }
  return controller

  async function reconcile(key: string): Promise<void> {
    const project = projects.get(key)
    // Deleting a project deletes what it owns: the garbage collector's work.
    if (project === undefined || project.metadata.deletionTimestamp !== undefined) return
    /** `Kind/name` → what it is to be made from. */
    const wanted = new Map<string, string>()
    const waiting: string[] = []
    for (const name of Object.keys(project.spec.services)) {
      const objects = objectsOf(compileService(project, name, o))
      for (const object of objects) wanted.set(`${object.kind}/${object.metadata.name}`, hashOf(object))
      const unmet = unmetDependency(project, name)
      const started = find(objects[0]!) !== undefined
      // Gates hold back the first start only; what runs is not stopped because a dependency falls ill.
      if (unmet !== undefined && !started) {
        waiting.push(`${name} waits for ${unmet}`)
        for (const object of objects.slice(1)) await ensure(object)
      } else for (const object of objects) await ensure(object)
    }
    for (const [kind, informer] of made) {
      for (const object of informer.byIndex('project', key)) {
        if (wanted.has(`${object.kind}/${object.metadata.name}`) || object.metadata.deletionTimestamp !== undefined) continue
        await client.delete(kind, object.metadata, { propagationPolicy: 'Background' }).catch(unless('NotFound'))
      }
    }
    await report(project, waiting, wanted)
  }

  function find(object: ApiObject): ApiObject | undefined {
    return made.get(MADE.find(k => k.kind === object.kind)!)!.get(keyOf(object))
  }

  async function ensure(object: ApiObject): Promise<void> {
    const kind = MADE.find(k => k.kind === object.kind)!
    const hash = hashOf(object)
    const before = find(object)
    if (before?.metadata.annotations?.[HASH] === hash) return
    const marked = { ...object, metadata: { ...object.metadata, annotations: { [HASH]: hash } } }
    // A Pod cannot be changed into another: a service that runs once is made anew.
    if (before !== undefined && kind.kind === pods.kind) {
      await client.delete(kind, object.metadata).catch(unless('NotFound'))
      return
    }
    await client.patch(kind, object.metadata, 'apply', marked, { fieldManager: 'gantry-compose', force: true })
  }

  /** The first dependency that does not hold yet, as words. */
  function unmetDependency(project: ComposeProject, name: string): string | undefined {
    for (const [other, condition] of Object.entries(project.spec.services[name]!.dependsOn ?? {})) {
      const namespace = project.metadata.namespace
      if (runsOnce(project, other)) {
        const pod = made.get(pods as Kind)!.get(`${namespace}/${objectName(other)}-1`) as Pod | undefined
        if (condition === 'service_completed_successfully' ? pod?.status?.phase !== 'Succeeded' : pod === undefined) return `${other} (${condition})`
        continue
      }
      const d = made.get(deployments as Kind)!.get(`${namespace}/${objectName(other)}`) as Deployment | undefined
      const wanted = project.spec.services[other]!.scale ?? 1
      const holds = condition === 'service_healthy' ? (d?.status?.readyReplicas ?? 0) >= wanted : d !== undefined
      if (!holds) return `${other} (${condition})`
    }
    return undefined
  }

  async function report(project: ComposeProject, waiting: string[], wanted: Map<string, string>): Promise<void> {
    const states: NonNullable<NonNullable<ComposeProject['status']>['services']> = {}
    for (const [name, s] of Object.entries(project.spec.services)) {
      const d = made.get(deployments as Kind)!.get(`${project.metadata.namespace}/${objectName(name)}`) as Deployment | undefined
      const pod = made.get(pods as Kind)!.get(`${project.metadata.namespace}/${objectName(name)}-1`) as Pod | undefined
      states[name] = runsOnce(project, name)
        ? { desired: 1, ready: pod?.status?.phase === 'Succeeded' || pod?.status?.phase === 'Running' ? 1 : 0 }
        : { desired: s.scale ?? 1, ready: d?.metadata.annotations?.[HASH] === wanted.get(`Deployment/${objectName(name)}`) ? readyOf(d) : 0 }
    }
    const ready = Object.values(states).every(s => s.ready >= s.desired)
    const status: ComposeProject['status'] = {
      ...(project.metadata.generation !== undefined && { observedGeneration: project.metadata.generation }),
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', reason: waiting.length > 0 ? 'WaitingForDependencies' : ready ? 'Running' : 'Starting', message: waiting.join('; ') }],
      services: states,
    }
    if (JSON.stringify(status.services) === JSON.stringify(project.status?.services)
      && status.conditions![0]!.message === (project.status?.conditions?.[0]?.message ?? '')
      && status.conditions![0]!.status === project.status?.conditions?.[0]?.status
      && status.observedGeneration === project.status.observedGeneration) return
    await client.updateStatus(composeProjects, { ...project, status }).catch(unless('NotFound'))
  }
}

function hashOf(object: ApiObject): string { return createHash('sha256').update(JSON.stringify(object)).digest('hex').slice(0, 16) }

/** Instances that are ready and of the present form; those of an earlier one do not count. */
function readyOf(d: Deployment | undefined): number {
  const s = d?.status
  if (s === undefined || (s.observedGeneration ?? 0) < (d?.metadata.generation ?? 0)) return 0
  // While a rollout goes on, all of the old ones may be among the ready.
  const old = (s.replicas ?? 0) - (s.updatedReplicas ?? 0)
  return Math.max(0, (s.readyReplicas ?? 0) - old)
}

/** The project that owns an object, as a queue key. */
function ownerKeys(object: ApiObject): string[] {
  const owner = object.metadata.ownerReferences?.find(r => r.kind === composeProjects.kind && r.controller === true)
  return owner === undefined ? [] : [`${object.metadata.namespace}/${owner.name}`]
}

function unless(reason: 'NotFound'): (e: unknown) => void {
  return e => { if (!isReason(e, reason)) throw e }
}
