/** `docker cp`, `docker diff`, `docker export`. */
import type { Readable } from 'node:stream'
import { EngineError } from '../../../../engine/engine.ts'
import type { PathInfo } from '../../../../engine/engine.ts'
import { DockerError } from '../../errors.ts'
import type { FilesystemChange, PathStat } from '../../model.ts'
import { goFileMode } from '../../shared/file-mode.ts'
import { rfc3339Nano } from '../../shared/time.ts'
import type { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'

function toStat(info: PathInfo): PathStat {
  return { name: info.name, size: info.sizeBytes, mode: goFileMode(info.mode), mtime: rfc3339Nano(info.mtimeMs), linkTarget: info.linkTarget }
}

function pathError(e: unknown, ref: string, path: string): DockerError {
  if (e instanceof EngineError && e.code === 'not-found') return new DockerError('not-found', `Could not find the file ${path} in container ${ref}`)
  return dockerError(e)
}

export async function archiveStat(x: Context, c: Container, ref: string, path: string): Promise<PathStat> {
  return toStat(await x.engine.containers.statPath(c.id, path).catch((e: unknown) => { throw pathError(e, ref, path) }))
}

export async function archiveGet(x: Context, c: Container, ref: string, path: string): Promise<{ stat: PathStat; tar: Readable }> {
  const { info, tar } = await x.engine.containers.readArchive(c.id, path).catch((e: unknown) => { throw pathError(e, ref, path) })
  emit(x, c, 'archive-path')
  return { stat: toStat(info), tar }
}

export async function archivePut(
  x: Context, c: Container, ref: string, path: string, tar: Readable, options: { noOverwriteDirNonDir: boolean; copyUIDGID: boolean },
): Promise<void> {
  const how = { noOverwriteDirNonDir: options.noOverwriteDirNonDir, keepOwner: options.copyUIDGID }
  await x.engine.containers.writeArchive(c.id, path, tar, how).catch((e: unknown) => { throw pathError(e, ref, path) })
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
