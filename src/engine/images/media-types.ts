/** Media types and JSON shapes of images, OCI's and Docker's schema 2. */

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'
export const OCI_LAYER_ZSTD = `${OCI_LAYER}+zstd`
export const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json'
export const DOCKER_LAYER_GZIP = 'application/vnd.docker.image.rootfs.diff.tar.gzip'

/** What a client that can read all of them asks for. */
export const ACCEPT_MANIFESTS = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST].join(', ')

export interface Platform { os: string; architecture: string; variant?: string }

export interface Descriptor {
  mediaType: string
  digest: string
  size: number
  annotations?: Record<string, string>
  platform?: Platform
  urls?: string[]
}

export interface Manifest {
  schemaVersion: 2
  mediaType?: string
  config: Descriptor
  layers: Descriptor[]
  annotations?: Record<string, string>
}

export interface Index {
  schemaVersion: 2
  mediaType?: string
  manifests: Descriptor[]
  annotations?: Record<string, string>
}

export interface History { created?: string; created_by?: string; comment?: string; author?: string; empty_layer?: boolean }

export interface Healthcheck {
  Test?: string[]
  Interval?: number
  Timeout?: number
  StartPeriod?: number
  StartInterval?: number
  Retries?: number
}

/** `config` of an image's configuration: Docker's field names. */
export interface RuntimeConfig {
  User?: string
  ExposedPorts?: Record<string, object>
  Env?: string[]
  Entrypoint?: string[] | null
  Cmd?: string[] | null
  Volumes?: Record<string, object>
  WorkingDir?: string
  Labels?: Record<string, string>
  StopSignal?: string
  Shell?: string[]
  OnBuild?: string[]
  Healthcheck?: Healthcheck
}

export interface ConfigFile {
  created?: string
  /** What only Docker's own images have. */
  container?: string
  container_config?: RuntimeConfig
  docker_version?: string
  comment?: string
  author?: string
  architecture: string
  os: string
  variant?: string
  config?: RuntimeConfig
  rootfs: { type: 'layers'; diff_ids: string[] }
  history?: History[]
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_INDEX
}

/** Compressed as every client can read it. */
export function isGzipLayer(mediaType: string): boolean {
  return /[.+]gzip$/.test(mediaType)
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === OCI_MANIFEST || mediaType === DOCKER_MANIFEST
}
