/**
 * Volumes with names, Docker's: made once, used by many containers, kept until removed. The driver `local` is a folder or a mount of this
 * machine; others are plugins that speak Docker's volume protocol over a socket. What exists is on disk and found again after a restart.
 * Implementation: `index.ts` (`openNamedVolumes`).
 */

export interface NamedVolumesOptions {
  /** Volumes of `local` live in `DATADIR/NAME/_data`. */
  dataDir: string
  /** Where plugins' sockets and spec files are looked for; default Docker's three folders. */
  pluginDirs?: string[]
}

export class NamedVolumeError extends Error {
  readonly code: 'invalid' | 'not-found' | 'conflict' | 'failed'
  constructor(code: NamedVolumeError['code'], message: string) {
    super(message)
    this.name = 'NamedVolumeError'
    this.code = code
  }
}

export interface NamedVolume {
  name: string
  driver: string
  mountpoint: string
  createdAtMs: number
  /** Made without a name, for one container. */
  anonymous: boolean
  labels: Record<string, string>
  /** As given; for `local`: type, o, device, size. */
  options: Record<string, string>
  scope: 'local' | 'global'
  status?: Record<string, unknown>
}

export type NamedVolumeEvent =
  | { type: 'create' | 'destroy'; volume: NamedVolume }
  | { type: 'mount' | 'unmount'; volume: NamedVolume; user: string; readOnly: boolean; target: string }

export interface NamedVolumes {
  list(): Promise<NamedVolume[]>
  /** `not-found`: `get NAME: no such volume`. */
  get(name: string): Promise<NamedVolume>
  /**
   * The same name with the same driver answers what is there; with another one `conflict`. Without a name: anonymous, 64 hex digits.
   * `user`: refers to it from its first moment, if it is new; see `reference`.
   */
  create(request: { name?: string; driver?: string; options?: Record<string, string>; labels?: Record<string, string>; user?: string }): Promise<NamedVolume>
  /** `conflict`: `remove NAME: volume is in use - [ids]`. Anonymous volumes are removed like others. */
  remove(name: string, force: boolean): Promise<void>
  /** Says that `user` (a container's id) refers to the volume, from its creation to its removal. Kept on disk. */
  reference(name: string, user: string): Promise<void>
  release(name: string, user: string): Promise<void>
  users(name: string): string[]
  /**
   * Mounts it for `user`, who runs now, and answers the path on the host; counted, so that a volume with a mount of its own (nfs, tmpfs,
   * a plugin's) is mounted once.
   */
  mount(name: string, user: string, how: { readOnly: boolean; target: string; subpath?: string }): Promise<string>
  unmount(name: string, user: string): Promise<void>
  /** Fills an empty volume from a folder of an image (owner, mode, links, xattrs, times kept); does nothing if the volume holds anything. */
  copyUp(name: string, sourceDir: string): Promise<void>
  /** Bytes a local volume holds; −1 for others. */
  usage(name: string): Promise<number>
  /** Lets go of users that no longer exist: called once after a restart. */
  reconcile(liveUsers: ReadonlySet<string>, runningUsers: ReadonlySet<string>): Promise<void>
  /** Names of drivers: `local` and the plugins found. */
  drivers(): Promise<string[]>
  onEvent(handler: (e: NamedVolumeEvent) => void): () => void
}
