/** `docker update` and `docker rename`. */
import { DockerError } from '../../errors.ts'
import type { HostResources, RestartPolicy } from '../../model.ts'
import { checkName } from '../../shared/names.ts'
import { parseNetworkMode } from '../../shared/network-mode.ts'
import { validateResources, validateRestartPolicy } from '../../shared/validate.ts'
import type { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'
import { engineResources } from './spec.ts'

/** What `update` may change; anything else in its body is left alone. */
const RESOURCES = [
  'CpuShares', 'Memory', 'NanoCpus', 'BlkioWeight', 'CpuPeriod', 'CpuQuota', 'CpuRealtimePeriod', 'CpuRealtimeRuntime', 'CpusetCpus', 'CpusetMems',
  'MemoryReservation', 'MemorySwap', 'PidsLimit',
] as const satisfies (keyof HostResources)[]

export async function updateContainer(
  x: Context, c: Container, changes: HostResources & { RestartPolicy?: RestartPolicy },
): Promise<{ Warnings: string[] }> {
  validateRestartPolicy(changes.RestartPolicy)
  return c.locked(async () => {
    const { hostConfig: h } = c.record
    const prefix = `Cannot update container ${c.id}: `
    if (c.removing || c.dead) throw new DockerError('conflict', `${prefix}container is marked for removal and cannot be "update"`)
    const warnings = validateResources(changes, x.facts, h)
    const policy = changes.RestartPolicy
    if (policy?.Name !== undefined && policy.Name !== '' && policy.Name !== 'no' && h.AutoRemove === true) {
      throw new DockerError('conflict', `${prefix}Restart policy cannot be updated because AutoRemove is enabled for the container`)
    }
    const set: Record<string, unknown> = {}
    for (const key of RESOURCES) {
      const value = changes[key]
      if (value !== undefined && value !== null && value !== 0 && value !== '') set[key] = value
    }
    if (Object.keys(set).length > 0) {
      const resources = engineResources(set as HostResources, x.facts)
      // A memory limit alone moves the limit of swap along, as at the creation.
      if (set['Memory'] !== undefined && set['MemorySwap'] === undefined && x.facts.swapLimit && (h.MemorySwap ?? 0) > 0) {
        resources.memorySwapBytes = h.MemorySwap!
      }
      await x.engine.containers.update(c.id, resources).catch((e: unknown) => { throw dockerError(e, prefix) })
      Object.assign(h, set)
    }
    if (policy?.Name !== undefined && policy.Name !== '') {
      h.RestartPolicy = { Name: policy.Name, MaximumRetryCount: policy.MaximumRetryCount ?? 0 }
      c.restartManager.setPolicy(h.RestartPolicy)
    }
    c.changed()
    await x.records.save(c.record)
    emit(x, c, 'update')
    return { Warnings: warnings }
  })
}

export async function renameContainer(x: Context, c: Container, to: string): Promise<void> {
  if (to === '') throw new DockerError('invalid', 'Neither old nor new names may be empty')
  const name = checkName(to)
  await c.locked(async () => {
    const old = c.name
    if (name === old) throw new DockerError('invalid', 'Renaming a container with the same name as its current name')
    try {
      x.registry.reserve(name, c.id)
    } catch (e) {
      throw dockerError(e, 'Error when allocating new name: ')
    }
    try {
      c.record.name = name
      if (x.cnm.sandbox(c.id) !== undefined && parseNetworkMode(c.record.hostConfig.NetworkMode).kind !== 'container') await x.cnm.rename(c.id, name)
      await x.records.save(c.record)
    } catch (e) {
      c.record.name = old
      x.registry.release(name)
      throw dockerError(e)
    }
    x.registry.release(old)
    c.changed()
    emit(x, c, 'rename', { oldName: `/${old}` })
  })
}
