/** A Pod's volumes and the mounts of its containers. */
import { dns1123Label } from '../names.ts'
import { isQuantity } from '../quantity.ts'
import type { DownwardFile, KeyToPath, Volume, VolumeMount } from '../types/index.ts'
import type { FieldErrors } from './field-errors.ts'

const HOST_PATH_TYPES = ['', 'DirectoryOrCreate', 'Directory', 'FileOrCreate', 'File', 'Socket', 'CharDevice', 'BlockDevice']
const MODE_RANGE = 'must be a number between 0 and 0777 (octal), both inclusive'

/** Returns the volumes' names. */
export function validateVolumes(path: string, volumes: readonly Volume[], e: FieldErrors): Set<string> {
  const names = new Set<string>()
  volumes.forEach((volume, i) => {
    const here = `${path}[${i}]`
    if (!volume.name) e.required(`${here}.name`)
    else {
      e.check(`${here}.name`, volume.name, dns1123Label(volume.name))
      if (names.has(volume.name)) e.duplicate(`${here}.name`, volume.name)
      names.add(volume.name)
    }
    validateSource(here, volume, e)
  })
  return names
}

function validateSource(path: string, volume: Volume, e: FieldErrors): void {
  let sources = 0
  for (const field in volume) {
    if (field !== 'name' && ++sources > 1) e.forbidden(`${path}.${field}`, 'may not specify more than 1 volume type')
  }
  if (sources === 0) e.required(path, 'must specify a volume type')
  if (volume.emptyDir) {
    e.oneOf(`${path}.emptyDir.medium`, volume.emptyDir.medium, ['', 'Memory'])
    const limit = volume.emptyDir.sizeLimit
    if (limit !== undefined && (!isQuantity(limit) || limit.startsWith('-'))) {
      e.invalid(`${path}.emptyDir.sizeLimit`, limit, 'must be a non-negative quantity')
    }
  }
  if (volume.hostPath) {
    if (!volume.hostPath.path) e.required(`${path}.hostPath.path`)
    else if (hasBackstep(volume.hostPath.path)) e.invalid(`${path}.hostPath.path`, volume.hostPath.path, "must not contain '..'")
    e.oneOf(`${path}.hostPath.type`, volume.hostPath.type, HOST_PATH_TYPES)
  }
  if (volume.configMap) {
    if (!volume.configMap.name) e.required(`${path}.configMap.name`)
    validateFiles(`${path}.configMap`, volume.configMap, e)
  }
  if (volume.secret) {
    if (!volume.secret.secretName) e.required(`${path}.secret.secretName`)
    validateFiles(`${path}.secret`, volume.secret, e)
  }
  if (volume.downwardAPI) {
    validateMode(`${path}.downwardAPI.defaultMode`, volume.downwardAPI.defaultMode, e)
    validateDownward(`${path}.downwardAPI.items`, volume.downwardAPI.items, e)
  }
  if (volume.projected) validateProjected(`${path}.projected`, volume.projected, e)
  if (volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName) {
    e.required(`${path}.persistentVolumeClaim.claimName`)
  }
}

function validateProjected(path: string, projected: NonNullable<Volume['projected']>, e: FieldErrors): void {
  validateMode(`${path}.defaultMode`, projected.defaultMode, e)
  projected.sources?.forEach((source, i) => {
    const here = `${path}.sources[${i}]`
    if (source.configMap) {
      if (!source.configMap.name) e.required(`${here}.configMap.name`)
      validateFiles(`${here}.configMap`, source.configMap, e)
    }
    if (source.secret) {
      if (!source.secret.name) e.required(`${here}.secret.name`)
      validateFiles(`${here}.secret`, source.secret, e)
    }
    if (source.downwardAPI) validateDownward(`${here}.downwardAPI.items`, source.downwardAPI.items, e)
    const token = source.serviceAccountToken
    if (token) {
      if (!token.path) e.required(`${here}.serviceAccountToken.path`)
      else validateRelative(`${here}.serviceAccountToken.path`, token.path, e)
      if (token.expirationSeconds !== undefined && token.expirationSeconds < 600) {
        e.invalid(`${here}.serviceAccountToken.expirationSeconds`, token.expirationSeconds,
          'may not specify a duration less than 10 minutes')
      }
    }
  })
}

function validateFiles(path: string, source: { items?: KeyToPath[]; defaultMode?: number }, e: FieldErrors): void {
  validateMode(`${path}.defaultMode`, source.defaultMode, e)
  source.items?.forEach((item, i) => {
    const here = `${path}.items[${i}]`
    if (!item.key) e.required(`${here}.key`)
    if (!item.path) e.required(`${here}.path`)
    else validateRelative(`${here}.path`, item.path, e)
    validateMode(`${here}.mode`, item.mode, e)
  })
}

function validateDownward(path: string, items: readonly DownwardFile[] | undefined, e: FieldErrors): void {
  items?.forEach((item, i) => {
    const here = `${path}[${i}]`
    if (!item.path) e.required(`${here}.path`)
    else validateRelative(`${here}.path`, item.path, e)
    if (item.fieldRef && item.resourceFieldRef) {
      e.invalid(here, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously')
    } else if (!item.fieldRef && !item.resourceFieldRef) e.required(here, 'one of fieldRef and resourceFieldRef is required')
    validateMode(`${here}.mode`, item.mode, e)
  })
}

function validateMode(path: string, mode: number | undefined, e: FieldErrors): void {
  if (mode !== undefined && (mode < 0 || mode > 0o777)) e.invalid(path, mode, MODE_RANGE)
}

function hasBackstep(path: string): boolean { return path.split('/').includes('..') }

/** Paths that must stay inside a volume. */
function validateRelative(path: string, value: string, e: FieldErrors): void {
  if (value.startsWith('/')) e.invalid(path, value, 'must be a relative path')
  if (hasBackstep(value)) e.invalid(path, value, "must not contain '..'")
  if (value.startsWith('..') && !value.startsWith('../') && value !== '..') e.invalid(path, value, "must not start with '..'")
}

export function validateMounts(path: string, mounts: readonly VolumeMount[], volumes: ReadonlySet<string>, e: FieldErrors): void {
  const places = new Set<string>()
  mounts.forEach((mount, i) => {
    const here = `${path}[${i}]`
    if (!mount.name) e.required(`${here}.name`)
    else if (!volumes.has(mount.name)) e.notFound(`${here}.name`, mount.name)
    if (!mount.mountPath) e.required(`${here}.mountPath`)
    else {
      if (places.has(mount.mountPath)) e.invalid(`${here}.mountPath`, mount.mountPath, 'must be unique')
      places.add(mount.mountPath)
    }
    if (mount.subPath) validateRelative(`${here}.subPath`, mount.subPath, e)
    if (mount.subPathExpr) validateRelative(`${here}.subPathExpr`, mount.subPathExpr, e)
    if (mount.subPath && mount.subPathExpr) {
      e.invalid(`${here}.subPathExpr`, mount.subPathExpr, 'subPathExpr and subPath are mutually exclusive')
    }
    e.oneOf(`${here}.mountPropagation`, mount.mountPropagation, ['None', 'HostToContainer', 'Bidirectional'])
  })
}
