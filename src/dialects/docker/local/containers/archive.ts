/** `docker cp`, `docker diff`, `docker export`. */
import type { Readable } from 'node:stream'
import { EngineError } from '../../../../engine/engine.ts'
import type { Mount, PathInfo } from '../../../../engine/engine.ts'
import { DockerError } from '../../errors.ts'
import type { FilesystemChange, PathStat } from '../../model.ts'
import { goFileMode } from '../../shared/file-mode.ts'
import { rfc3339Nano } from '../../shared/time.ts'
import type { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'
import { makeBindSources, mountVolumes } from './lifecycle.ts'
import { madeFiles } from './sandbox.ts'
import { engineMounts } from './spec.ts'
import { filesUser } from '../volume-users.ts'

function toStat(info: PathInfo): PathStat {
  return { name: info.name, size: info.sizeBytes, mode: goFileMode(info.mode), mtime: rfc3339Nano(info.mtimeMs), linkTarget: info.linkTarget }
}

function pathError(e: unknown, ref: string, path: string): DockerError {
  if (e instanceof EngineError && e.code === 'not-found') return new DockerError('not-found', `Could not find the file ${path} in container ${ref}`)
  return dockerError(e)
}

/** What a container that does not run would have mounted: its volumes are there meanwhile. Undefined for one that runs. */
async function openMounts(x: Context, c: Container): Promise<{ mounts?: Mount[]; close(): Promise<void> }> {
  if (c.alive) return { close: () => Promise.resolve() }
  const user = filesUser(c.id)
  const mounted: string[] = []
  const close = async (): Promise<void> => { await Promise.all(mounted.map((name) => x.volumes.unmount(name, user))) }
  try {
    makeBindSources(c)
    const paths = await mountVolumes(x, c, user, (name) => { mounted.push(name) })
    return { mounts: engineMounts(c.record, paths, madeFiles(x, c)), close }
  } catch (e) {
    await close()
    throw dockerError(e)
  }
}

async function withMounts<T>(x: Context, c: Container, work: (mounts: Mount[] | undefined) => Promise<T>): Promise<T> {
  const open = await openMounts(x, c)
  try {
    return await work(open.mounts)
  } finally {
    await open.close()
  }
}

export async function archiveStat(x: Context, c: Container, ref: string, path: string): Promise<PathStat> {
  return withMounts(x, c, async (mounts) => {
    const info = await x.engine.containers.statPath(c.id, path, mounts).catch((e: unknown) => { throw pathError(e, ref, path) })
    return toStat(info)
  })
}

export async function archiveGet(x: Context, c: Container, ref: string, path: string): Promise<{ stat: PathStat; tar: Readable }> {
  const open = await openMounts(x, c)
  const { info, tar } = await x.engine.containers.readArchive(c.id, path, open.mounts).catch(async (e: unknown) => {
    await open.close()
    throw pathError(e, ref, path)
  })
  tar.once('close', () => { open.close().catch((e: unknown) => { x.logger.warn(`volumes of ${c.id} stay mounted`, { error: String(e) }) }) })
  emit(x, c, 'archive-path')
  return { stat: toStat(info), tar }
}

export async function archivePut(
  x: Context, c: Container, ref: string, path: string, tar: Readable, options: { noOverwriteDirNonDir: boolean; copyUIDGID: boolean },
): Promise<void> {
  const how = { noOverwriteDirNonDir: options.noOverwriteDirNonDir, keepOwner: options.copyUIDGID }
  await withMounts(x, c, async (mounts) => {
    await x.engine.containers.writeArchive(c.id, path, tar, { ...how, ...(mounts === undefined ? {} : { mounts }) })
      .catch((e: unknown) => { throw pathError(e, ref, path) })
  })
  emit(x, c, 'extract-to-dir')
}

export async function changes(x: Context, c: Container): Promise<FilesystemChange[]> {
  const list = await x.engine.containers.changes(c.id).catch((e: unknown) => { throw dockerError(e) })
  return list.map(({ path, kind }) => ({ Path: path, Kind: kind }))
}

export async function exportRoot(x: Context, c: Container): Promise<Readable> {
  if (c.dead || c.removing) throw new DockerError('conflict', `You cannot export container ${c.id} which is ${c.dead ? 'Dead' : 'being removed'}`)
  const tar = await x.engine.containers.export(c.id).catch((e: unknown) => { throw dockerError(e, `container export failed: `) })
  emit(x, c, 'export')
  return tar
}
