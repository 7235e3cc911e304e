/** Removing containers, and all that was theirs alone. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Filters } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import { pruneMatches, untilMs } from '../../shared/filters.ts'
import type { Container } from './container.ts'
import { dockerError, emit, saveSoon } from './context.ts'
import type { Context } from './context.ts'
import { releaseVolumes } from './create.ts'
import type { Lifecycle } from './lifecycle.ts'
import { parseLink } from './links.ts'

export async function removeContainer(
  x: Context, life: Lifecycle, ref: string, options: { volumes: boolean; force: boolean; link: boolean },
): Promise<void> {
  if (options.link) {
    removeLink(x, ref)
    return
  }
  const c = x.registry.resolve(ref)
  if (c.removing) throw new DockerError('conflict', `removal of container ${ref} is already in progress`)
  if (c.running && !options.force) {
    const why = c.paused ? 'container is paused and must be unpaused first'
      : `container is ${c.status}: stop the container before removing or force remove`
    throw new DockerError('conflict', `cannot remove container ${JSON.stringify(ref)}: ${why}`)
  }
  await destroy(x, life, c, options.volumes)
}

/** Of `--rm`, and after a failure of its start. Somebody else may remove it already. */
export async function autoRemove(x: Context, life: Lifecycle, c: Container): Promise<void> {
  if (c.removing) return
  await destroy(x, life, c, true).catch((e: unknown) => { x.logger.error(`container ${c.id} could not be removed`, { error: String(e) }) })
}

async function destroy(x: Context, life: Lifecycle, c: Container, volumes: boolean): Promise<void> {
  c.removing = true
  c.changed()
  try {
    await life.endForRemoval(c)
  } catch (e) {
    c.removing = false
    c.changed()
    throw dockerError(e, 'could not kill container: ')
  }
  await c.locked(async () => {
    if (c.running) {
      c.removing = false
      throw new DockerError('conflict', `cannot remove container "${c.name}": it was started again meanwhile`)
    }
    try {
      for (const a of c.attachments) a.end()
      await releaseVolumes(x, c, volumes)
      // Without its record what a removal that is cut off leaves behind is an orphan, and swept at the next opening.
      await x.records.delete(c.id)
      // Its task and its snapshot take containerd as long as a start does.
      await x.engine.containers.remove(c.id, true, { inBackground: true })
      rmSync(join(x.filesDir, c.id), { recursive: true, force: true })
    } catch (e) {
      Object.assign(c, { removing: false, dead: true })
      c.changed()
      const error = dockerError(e, 'unable to remove filesystem: ')
      c.removed.resolve({ code: c.record.exitCode, error: error.message })
      throw error
    }
    x.registry.drop(c)
    emit(x, c, 'destroy')
    c.removed.resolve({ code: c.record.exitCode })
    // Waiters for an exit that will never be.
    c.tellExit({ code: c.record.exitCode })
  })
}

/** `docker rm --link PARENT/ALIAS`. */
function removeLink(x: Context, ref: string): void {
  const bare = ref.replace(/^\//, '')
  const slash = bare.indexOf('/')
  if (slash < 0) throw new DockerError('conflict', 'Conflict, cannot remove the default link name of the container')
  const parent = x.registry.find(bare.slice(0, slash))
  if (parent === undefined) throw new DockerError('failed', `Cannot get parent /${bare.slice(0, slash)} for link name /${bare}`)
  const links = parent.record.hostConfig.Links ?? []
  parent.record.hostConfig.Links = links.filter((l) => parseLink(l).alias !== bare.slice(slash + 1))
  saveSoon(x, parent)
}

export async function pruneContainers(x: Context, life: Lifecycle, filters: Filters): Promise<{ ContainersDeleted: string[]; SpaceReclaimed: number }> {
  const until = untilMs(filters)
  const deleted: string[] = []
  let reclaimed = 0
  for (const c of [...x.registry.all()]) {
    if (c.running || c.removing || (until !== undefined && c.record.createdAtMs > until) || !pruneMatches(filters, c.record.config.Labels)) continue
    const size = await x.engine.containers.sizes(c.id).then((s) => s.writableBytes, () => 0)
    try {
      await destroy(x, life, c, false)
    } catch (e) {
      x.logger.warn(`container ${c.id} was not pruned`, { error: String(e) })
      continue
    }
    deleted.push(c.id)
    reclaimed += size
  }
  x.events.emit('container', 'prune', '', { reclaimed: String(reclaimed) })
  return { ContainersDeleted: deleted, SpaceReclaimed: reclaimed }
}
