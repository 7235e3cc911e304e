/** `--network|--pid|--ipc container:OTHER`: whose namespaces a container joins. */
import { DockerError } from '../../errors.ts'
import type { HostConfig } from '../../model.ts'
import { sharedContainer } from '../../shared/network-mode.ts'
import type { Container } from './container.ts'
import type { Context } from './context.ts'

/** Ids instead of names, so that a renamed container is found. One that is not there stays as it was said: only the start fails of it, as dockerd's. */
export function keepJoined(x: Context, h: HostConfig): void {
  const byId = (mode: string | undefined): string | undefined => {
    const name = sharedContainer(mode)
    const other = name === undefined ? undefined : x.registry.find(name)
    return other === undefined ? mode : `container:${other.id}`
  }
  Object.assign(h, { NetworkMode: byId(h.NetworkMode), PidMode: byId(h.PidMode), IpcMode: byId(h.IpcMode) })
}

/** Throws if a process or IPC namespace to join is not there or not shared. The network's is looked at where it is joined. */
export function checkJoined(x: Context, c: Container): void {
  const { PidMode, IpcMode } = c.record.hostConfig
  for (const [mode, ipc] of [[PidMode, false], [IpcMode, true]] as const) {
    const name = sharedContainer(mode)
    if (name === undefined) continue
    const other = x.registry.find(name)
    if (other === undefined) throw new DockerError('invalid', `No such container: ${name}`)
    if (ipc && ['private', 'none'].includes(other.record.hostConfig.IpcMode ?? 'private')) {
      throw new DockerError('invalid', `can't join IPC of container ${other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`)
    }
  }
}
