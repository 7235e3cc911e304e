/** What the server adds to, or refuses of, objects that depend on others: namespaces' life, service accounts, tolerations. */
import { randomInt } from 'node:crypto'
import { ApiError, notFound, qualifiedName } from '../core/errors.ts'
import { machines, namespaces, serviceAccounts } from '../core/kinds.ts'
import type { Kind } from '../core/kinds.ts'
import { generateName } from '../core/names.ts'
import { ROOT_CA } from '../core/namespace-defaults.ts'
import type { ApiObject, Machine, Namespace, Node, Pod, ServiceAccount } from '../core/types/index.ts'
import type { Cache } from './cache.ts'

const TOKEN_MOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'
const TOKEN_EXPIRATION_S = 3607
const TOLERATION_S = 300

function forbid(kind: Kind, object: ApiObject, why: string, causes?: { reason: string; message: string; field?: string }[]): ApiError {
  const { name } = object.metadata
  return new ApiError('Forbidden', `${qualifiedName(kind)} "${name}" is forbidden: ${why}`, {
    name, kind: kind.plural, ...(kind.group !== '' && { group: kind.group }), ...(causes && { causes }),
  })
}

/** Refuses objects for a namespace that is missing or going. */
export function admitNamespace(cache: Cache, kind: Kind, object: ApiObject): void {
  const name = object.metadata.namespace!
  const namespace = cache.of(namespaces).get(name)?.object as Namespace | undefined
  if (namespace === undefined) throw notFound(namespaces, name)
  if (namespace.metadata.deletionTimestamp !== undefined) {
    const why = `unable to create new content in namespace ${name} because it is being terminated`
    throw forbid(kind, object, why, [{ reason: 'NamespaceTerminating', message: `namespace ${name} is being terminated`, field: 'metadata.namespace' }])
  }
}

/** True if the Pod asks for a service account that is not there. */
export function lacksServiceAccount(cache: Cache, pod: Pod): boolean {
  if (pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) return false
  return cache.of(serviceAccounts).get(`${pod.metadata.namespace}/${pod.spec.serviceAccountName}`) === undefined
}

/** Service account, its token volume, and the tolerations every Pod gets. */
export function admitPod(cache: Cache, kind: Kind, pod: Pod): void {
  const { runtimeClassName } = pod.spec as { runtimeClassName?: string }
  // Another runtime than the node's own is a wish about isolation: better no Pod than one without it.
  if (runtimeClassName) throw forbid(kind, pod, `pod rejected: RuntimeClass "${runtimeClassName}" not found`)
  const { spec } = pod
  const mirror = pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined
  if (!mirror) {
    const account = cache.of(serviceAccounts).get(`${pod.metadata.namespace}/${spec.serviceAccountName}`)?.object as ServiceAccount | undefined
    if (account === undefined) {
      throw forbid(kind, pod, `error looking up service account ${pod.metadata.namespace}/${spec.serviceAccountName}: `
        + `serviceaccount "${spec.serviceAccountName}" not found`)
    }
    if (account.imagePullSecrets !== undefined && (spec.imagePullSecrets ?? []).length === 0) {
      spec.imagePullSecrets = account.imagePullSecrets.map(s => ({ ...s }))
    }
    if ((spec.automountServiceAccountToken ?? account.automountServiceAccountToken) !== false) mountToken(pod)
  }
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
    const tolerated = spec.tolerations?.some(t =>
      (t.key === key || (!t.key && t.operator === 'Exists')) && (t.effect === 'NoExecute' || !t.effect))
    if (!tolerated) (spec.tolerations ??= []).push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: TOLERATION_S })
  }
}

function mountToken(pod: Pod): void {
  const { spec } = pod
  const containers = [...spec.initContainers ?? [], ...spec.containers]
  const lacking = containers.filter(c => !c.volumeMounts?.some(m => m.mountPath === TOKEN_MOUNT))
  if (lacking.length === 0) return
  let volume = spec.volumes?.find(v => v.name.startsWith('kube-api-access-'))
  if (volume === undefined) {
    volume = {
      name: generateName('kube-api-access-', randomInt),
      projected: {
        defaultMode: 0o644,
        sources: [
          { serviceAccountToken: { expirationSeconds: TOKEN_EXPIRATION_S, path: 'token' } },
          { configMap: { name: ROOT_CA, items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
          { downwardAPI: { items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } as { fieldPath: string } }] } },
        ],
      },
    }
    ;(spec.volumes ??= []).push(volume)
  }
  for (const c of lacking) (c.volumeMounts ??= []).push({ name: volume.name, readOnly: true, mountPath: TOKEN_MOUNT })
}

export function admitNamespaceObject(namespace: Namespace): void {
  namespace.metadata.labels = { ...namespace.metadata.labels, 'kubernetes.io/metadata.name': namespace.metadata.name }
  namespace.spec ??= {}
  if ((namespace.spec.finalizers ?? []).length === 0) namespace.spec.finalizers = ['kubernetes']
  namespace.status = { ...namespace.status, phase: 'Active' }
}

/** A Node shows the subnet of its Machine. */
export function admitNode(cache: Cache, node: Node): void {
  const machine = cache.of(machines).get(node.metadata.name)?.object as Machine | undefined
  node.spec ??= {}
  if (machine?.spec.podCIDR !== undefined && node.spec.podCIDR === undefined) {
    node.spec.podCIDR = machine.spec.podCIDR
    node.spec.podCIDRs = [machine.spec.podCIDR]
  }
}
