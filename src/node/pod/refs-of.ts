/** Which ConfigMaps and Secrets a Pod names. */
import type { Pod } from '../../core/types/index.ts'
import type { Ref } from '../refs.ts'

export function refsOf(pod: Pod): Ref[] {
  const namespace = pod.metadata.namespace ?? 'default'
  const found = new Map<string, Ref>()
  const add = (kind: Ref['kind'], name: string | undefined): void => {
    if (name !== undefined && name !== '') found.set(`${kind}/${name}`, { kind, namespace, name })
  }
  for (const c of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    for (const f of c.envFrom ?? []) {
      add('configMap', f.configMapRef?.name)
      add('secret', f.secretRef?.name)
    }
    for (const e of c.env ?? []) {
      add('configMap', e.valueFrom?.configMapKeyRef?.name)
      add('secret', e.valueFrom?.secretKeyRef?.name)
    }
  }
  for (const v of pod.spec.volumes ?? []) {
    add('configMap', v.configMap?.name)
    add('secret', v.secret?.secretName)
    for (const s of v.projected?.sources ?? []) {
      add('configMap', s.configMap?.name)
      add('secret', s.secret?.name)
    }
  }
  for (const s of pod.spec.imagePullSecrets ?? []) add('secret', s.name)
  return [...found.values()]
}

/** `kind/name`: what tells one of a Pod's references from another. */
export function refKey(r: Ref): string { return `${r.kind}/${r.name}` }
