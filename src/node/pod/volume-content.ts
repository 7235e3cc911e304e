/** From a Pod's volume to what the volumes room mounts: ConfigMaps, Secrets, the downward API and tokens become files. */
import { bytes } from '../../core/quantity.ts'
import type { ConfigMap, DownwardFile, KeyToPath, Pod, Secret, Volume } from '../../core/types/index.ts'
import type { ContentFile, HostPathType, VolumeSource } from '../../volumes/volumes.ts'
import type { RefKind, Refs } from '../refs.ts'
import { containerNamed, fieldText, resourceText } from './downward.ts'
import type { DownwardContext } from './downward.ts'
import type { Tokens } from './tokens.ts'

export interface ContentContext { downward: DownwardContext; refs: Pick<Refs, 'get'>; tokens: Pick<Tokens, 'get'>; nowMs: number }
export interface ResolvedVolume {
  source: VolumeSource
  /** When its content has to be made anew (a token's renewal). */
  renewAtMs?: number
}

/** Rejects with an Error that names what is missing. */
export async function resolveVolume(pod: Pod, v: Volume, c: ContentContext): Promise<ResolvedVolume> {
  if (v.hostPath !== undefined) return { source: { type: 'hostPath', path: v.hostPath.path, check: (v.hostPath.type ?? '') as HostPathType } }
  if (v.configMap !== undefined) {
    const files = await keyed('configMap', v.configMap.name, v.configMap.items, v.configMap.optional, pod, c)
    return { source: { type: 'content', files, defaultMode: v.configMap.defaultMode ?? 0o644 } }
  }
  if (v.secret !== undefined) {
    const files = await keyed('secret', v.secret.secretName, v.secret.items, v.secret.optional, pod, c)
    return { source: { type: 'content', files, defaultMode: v.secret.defaultMode ?? 0o644, memory: true } }
  }
  if (v.downwardAPI !== undefined) {
    return {
      source: { type: 'content', files: downwardFiles(v.downwardAPI.items, pod, c.downward), defaultMode: v.downwardAPI.defaultMode ?? 0o644 },
    }
  }
  if (v.projected !== undefined) return projected(pod, v.projected, c)
  if (v.persistentVolumeClaim !== undefined) {
    throw new Error(`volume "${v.name}": persistent volume claims are not supported on this node`)
  }
  const limit = v.emptyDir?.sizeLimit
  return {
    source: {
      type: 'emptyDir', ...(v.emptyDir?.medium === 'Memory' && { memory: true }), ...(limit !== undefined && { sizeLimitBytes: bytes(limit) }),
    },
  }
}

/** True if the volume's files may change while the Pod runs. */
export function isContent(v: Volume): boolean {
  return v.configMap !== undefined || v.secret !== undefined || v.downwardAPI !== undefined || v.projected !== undefined
}

async function projected(pod: Pod, p: NonNullable<Volume['projected']>, c: ContentContext): Promise<ResolvedVolume> {
  const files: ContentFile[] = []
  let renewAtMs: number | undefined
  let memory = false
  for (const s of p.sources ?? []) {
    if (s.configMap !== undefined) files.push(...await keyed('configMap', s.configMap.name, s.configMap.items, s.configMap.optional, pod, c))
    if (s.secret !== undefined) {
      memory = true
      files.push(...await keyed('secret', s.secret.name, s.secret.items, s.secret.optional, pod, c))
    }
    if (s.downwardAPI !== undefined) files.push(...downwardFiles(s.downwardAPI.items, pod, c.downward))
    if (s.serviceAccountToken !== undefined) {
      memory = true
      const t = s.serviceAccountToken
      const token = await c.tokens.get(pod, t.audience, t.expirationSeconds ?? 3600, c.nowMs)
      files.push({ path: t.path, data: token.token })
      renewAtMs = Math.min(renewAtMs ?? Infinity, token.renewAtMs)
    }
  }
  return {
    source: { type: 'content', files, defaultMode: p.defaultMode ?? 0o644, ...(memory && { memory }) },
    ...(renewAtMs !== undefined && { renewAtMs }),
  }
}

async function keyed(
  kind: RefKind, name: string, items: KeyToPath[] | undefined, optional: boolean | undefined, pod: Pod, c: ContentContext,
): Promise<ContentFile[]> {
  const found = await c.refs.get(kind, pod.metadata.namespace ?? 'default', name)
  if (found === undefined) {
    if (optional === true) return []
    throw new Error(`${kind.toLowerCase()} "${name}" not found`)
  }
  const data = contents(kind, found)
  if (items === undefined) return [...data].map(([path, bytesOf]) => ({ path, data: bytesOf }))
  return items.flatMap(i => {
    const value = data.get(i.key)
    if (value === undefined) {
      if (optional === true) return []
      throw new Error(`${kind.toLowerCase()} references non-existent key: ${i.key}`)
    }
    return [{ path: i.path, data: value, ...(i.mode !== undefined && { mode: i.mode }) }]
  })
}

function contents(kind: RefKind, o: ConfigMap | Secret): Map<string, Uint8Array | string> {
  const out = new Map<string, Uint8Array | string>()
  if (kind === 'secret') for (const [k, v] of Object.entries(o.data ?? {})) out.set(k, Buffer.from(v, 'base64'))
  else {
    for (const [k, v] of Object.entries(o.data ?? {})) out.set(k, v)
    for (const [k, v] of Object.entries((o as ConfigMap).binaryData ?? {})) out.set(k, Buffer.from(v, 'base64'))
  }
  return out
}

function downwardFiles(items: DownwardFile[] | undefined, pod: Pod, d: DownwardContext): ContentFile[] {
  return (items ?? []).map(i => {
    const data = i.fieldRef !== undefined
      ? fieldText(i.fieldRef.fieldPath, d)
      : resourceText(containerNamed(pod, i.resourceFieldRef?.containerName ?? ''), i.resourceFieldRef?.resource ?? '', i.resourceFieldRef?.divisor, d)
    return { path: i.path, data, ...(i.mode !== undefined && { mode: i.mode }) }
  })
}
