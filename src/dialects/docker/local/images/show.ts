/** Images as `docker images`, `inspect` and `history` show them. */
import type { ImageDetails } from '../../../../engine/engine.ts'
import { familiar } from '../../../../engine/images/reference.ts'
import type { ContainerConfig, HistoryItem, ImageInspect, ImageSummary } from '../../model.ts'
import { NEVER, rfc3339Nano } from '../../shared/time.ts'

export const totalBytes = (i: ImageDetails): number => i.layerBytes.reduce((a, b) => a + b, 0)
export const createdMs = (i: ImageDetails): number => Date.parse(i.config.created ?? '') || 0
export const isDangling = (i: ImageDetails): boolean => i.tags.length === 0

export function summaryOf(i: ImageDetails, more: { sharedBytes?: number; containers?: number } = {}): ImageSummary {
  return {
    Id: i.id, ParentId: i.parent ?? '', RepoTags: i.tags.map(familiar), RepoDigests: i.repoDigests.map(familiar),
    Created: Math.floor(createdMs(i) / 1000), Size: totalBytes(i), SharedSize: more.sharedBytes ?? -1, Containers: more.containers ?? -1,
    Labels: i.config.config?.Labels ?? null,
  }
}

/** All fields, as Go's JSON has them: what is not there is empty or null. */
function containerConfig(c: ContainerConfig | undefined): ContainerConfig {
  return {
    Hostname: '', Domainname: '', User: '', AttachStdin: false, AttachStdout: false, AttachStderr: false, Tty: false, OpenStdin: false, StdinOnce: false,
    Env: null, Cmd: null, Image: '', Volumes: null, WorkingDir: '', Entrypoint: null, OnBuild: null, Labels: null, ...c,
  }
}

export function inspectOf(i: ImageDetails, snapshotter: string): ImageInspect {
  const { config } = i
  const last = config.history?.at(-1)
  return {
    Id: i.id, RepoTags: i.tags.map(familiar), RepoDigests: i.repoDigests.map(familiar), Parent: i.parent ?? '',
    Comment: config.comment !== undefined && config.comment !== '' ? config.comment : last?.comment ?? '',
    ...(config.created === undefined ? {} : { Created: config.created }), Container: config.container ?? '',
    ContainerConfig: containerConfig(config.container_config as ContainerConfig | undefined), DockerVersion: config.docker_version ?? '',
    Author: config.author ?? '', Config: containerConfig(config.config as ContainerConfig | undefined), Architecture: config.architecture,
    ...(config.variant === undefined ? {} : { Variant: config.variant }), Os: config.os, Size: totalBytes(i),
    GraphDriver: { Name: snapshotter, Data: null }, RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
    Metadata: { LastTagTime: i.tags.length === 0 || i.taggedAtMs === 0 ? NEVER : rfc3339Nano(i.taggedAtMs) },
  }
}

/** Newest step first. Ids are known of the image and of those it was built from here. */
export function historyOf(image: ImageDetails, ancestors: ImageDetails[]): HistoryItem[] {
  const items: HistoryItem[] = []
  let layer = 0
  for (const h of image.config.history ?? []) {
    const bytes = h.empty_layer === true ? 0 : image.layerBytes[layer++] ?? 0
    items.unshift({
      Id: '<missing>', Created: Math.floor((Date.parse(h.created ?? '') || 0) / 1000), CreatedBy: h.created_by ?? '', Tags: null, Size: bytes, Comment: h.comment ?? '',
    })
  }
  for (const [n, i] of [image, ...ancestors].entries()) {
    const item = items[n]
    if (item === undefined) break
    item.Id = i.id
    item.Tags = i.tags.length === 0 ? null : i.tags.map(familiar)
  }
  return items
}
