/**
 * Directories of one machine's pods. The node agent resolves what a volume holds (ConfigMaps, Secrets, the downward API,
 * quantities) and hands it over as bytes; this room knows files, modes and mounts, not the API.
 * Implementation: `index.ts` (`createVolumes`).
 */

/** Kubernetes' `hostPath.type`; the empty string checks nothing. */
export type HostPathType =
  '' | 'DirectoryOrCreate' | 'Directory' | 'FileOrCreate' | 'File' | 'Socket' | 'CharDevice' | 'BlockDevice'

export interface ContentFile {
  /** Relative, with `/`; neither absolute nor with a `..` part. */
  path: string
  data: Uint8Array | string
  /** Permission bits, e.g. 0o400; default the source's `defaultMode`. */
  mode?: number
}

export type VolumeSource =
  /** `memory` makes a tmpfs, which then enforces `sizeLimitBytes`; on disk the limit is the caller's to watch with `usage`. */
  | { type: 'emptyDir'; memory?: boolean; sizeLimitBytes?: number }
  | { type: 'hostPath'; path: string; check?: HostPathType }
  /** configMap, secret, downwardAPI, projected. `memory` keeps the bytes off the disk (secrets, tokens). Default mode 0o644. */
  | { type: 'content'; files: ContentFile[]; defaultMode?: number; memory?: boolean }

export interface MountOptions {
  /**
   * Group that owns the volume (not for hostPath): gid on every entry, set-gid on directories, group gets what the owner may read
   * or write.
   */
  fsGroup?: number
}

export class VolumeError extends Error {
  /**
   * `invalid`: the request is wrong. `check`: a hostPath is not what its type says. `missing`: no such volume. `failed`: the
   * machine refused.
   */
  readonly code: 'invalid' | 'check' | 'missing' | 'failed'
  constructor(code: VolumeError['code'], message: string) {
    super(message)
    this.name = 'VolumeError'
    this.code = code
  }
}

export interface Volumes {
  /**
   * Makes the volume, or finds it as it is, and answers its path on the host. Content of an existing `content` volume is brought
   * up to date.
   */
  mount(podUid: string, name: string, source: VolumeSource, options?: MountOptions): Promise<string>
  /**
   * Swaps a `content` volume's files atomically: a reader sees all old or all new files. False if nothing differed.
   * Modes and group stay those of the mount unless a file names its own.
   */
  update(podUid: string, name: string, files: ContentFile[]): Promise<boolean>
  /**
   * Host path of `subPath` below a mounted volume, for a mount with `subPath`; made as a directory when absent.
   * Never leaves the volume, whatever symbolic links it holds.
   */
  subPath(podUid: string, name: string, subPath: string): Promise<string>
  /** Bytes a pod's own volumes hold (not hostPath), by volume name. */
  usage(podUid: string): Promise<Map<string, number>>
  /** Takes all of a pod's volumes away; what a hostPath points to stays. Resolves also if there are none. */
  unmountPod(podUid: string): Promise<void>
  /** Pods that have volumes here. */
  pods(): Promise<string[]>
  /** Takes away the volumes of all pods but these; answers whose. */
  removeOrphans(livePodUids: ReadonlySet<string>): Promise<string[]>
}

export interface VolumesOptions {
  /** Volumes live in `DATADIR/pods/UID/volumes/NAME`. */
  dataDir: string
  /** Where `memory` content lies; made a tmpfs unless it is on one. Default `DATADIR/memory`. */
  memoryDir?: string
}
