/** `docker commit`: a container's file system as an image, its configuration with the changes asked for. */
import type { ContainersBackend } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import type { ContainerConfig } from '../../model.ts'
import { applyChanges } from '../config-changes.ts'
import { commandLine } from '../../shared/image-defaults.ts'
import type { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'

export async function commitContainer(x: Context, c: Container, options: Parameters<ContainersBackend['commit']>[1]): Promise<{ Id: string }> {
  if (c.dead || c.removing) {
    throw new DockerError('conflict', `You cannot commit container ${c.id} which is ${c.dead ? 'Dead' : 'being removed'}`)
  }
  const config = applyChanges(mergeCommit(options.config ?? {}, c.record.config), options.changes)
  const reference = options.repo === undefined || options.repo === '' ? undefined : `${options.repo}${options.tag ? `:${options.tag}` : ''}`
  const tags = reference === undefined ? [] : [name(x, reference)]
  const { path, args } = commandLine(c.record.config)
  const frozen = options.pause && c.alive && !c.paused && await freeze(x, c)
  let id: string
  try {
    id = await x.engine.containers.commit(c.id, {
      config: imageConfig(config), containerConfig: { ...c.record.config }, createdBy: [path, ...args].join(' '), tags,
      ...(options.author ? { author: options.author } : {}), ...(options.comment ? { comment: options.comment } : {}),
    })
  } catch (e) {
    throw dockerError(e)
  } finally {
    if (frozen) await x.engine.containers.resume(c.id).catch(() => undefined)
  }
  emit(x, c, 'commit', { comment: options.comment ?? '', imageID: id, imageRef: reference ?? '' })
  return { Id: id }
}

/** False if it ended by itself just before. */
async function freeze(x: Context, c: Container): Promise<boolean> {
  try {
    await x.engine.containers.pause(c.id)
    return true
  } catch (e) {
    const ended = x.engine.containers.inspect(c.id)?.state === 'exited' || /cannot pause a stopped container|is not running/.test(String(e))
    if (ended) return false
    throw dockerError(e)
  }
}

function name(x: Context, reference: string): string {
  try {
    return x.engine.images.normalize(reference)
  } catch (e) {
    throw dockerError(e)
  }
}

/** The request's configuration over the container's; lists of the request replace, maps are joined. */
function mergeCommit(user: ContainerConfig, own: ContainerConfig): ContainerConfig {
  const out: ContainerConfig = { ...own }
  for (const key of ['User', 'WorkingDir', 'StopSignal'] as const) if (user[key] !== undefined && user[key] !== '') out[key] = user[key]
  for (const key of ['Cmd', 'Entrypoint', 'Shell', 'OnBuild'] as const) if ((user[key]?.length ?? 0) > 0) out[key] = user[key]
  if ((user.Env?.length ?? 0) > 0) {
    const names = new Set(user.Env!.map((e) => e.split('=', 1)[0]))
    out.Env = [...user.Env!, ...(own.Env ?? []).filter((e) => !names.has(e.split('=', 1)[0]))]
  }
  out.Labels = { ...own.Labels, ...user.Labels }
  if (own.ExposedPorts != null || user.ExposedPorts != null) out.ExposedPorts = { ...own.ExposedPorts, ...user.ExposedPorts }
  if (own.Volumes != null || user.Volumes != null) out.Volumes = { ...own.Volumes, ...user.Volumes }
  if (user.Healthcheck != null) out.Healthcheck = user.Healthcheck
  return out
}

/** What belongs to an image; the rest was of this one container. */
function imageConfig(c: ContainerConfig): Record<string, unknown> {
  const { User, ExposedPorts, Env, Entrypoint, Cmd, Volumes, WorkingDir, Labels, StopSignal, Healthcheck, OnBuild, Shell } = c
  const all = { User, ExposedPorts, Env, Entrypoint, Cmd, Volumes, WorkingDir, Labels, StopSignal, Healthcheck, OnBuild, Shell }
  return Object.fromEntries(Object.entries(all).filter(([, v]) => v != null && v !== ''))
}
