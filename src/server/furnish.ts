/** Objects the server itself makes: the first namespaces, and what each namespace holds before its first Pod. */
import { isReason } from '../core/errors.ts'
import { configMaps, namespaces, serviceAccounts } from '../core/kinds.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject, ConfigMap, Namespace, ServiceAccount } from '../core/types/index.ts'
import { ROOT_CA } from './admission.ts'
import type { Registry } from './registry.ts'

const FIRST_NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease']

async function ensure<T extends ApiObject>(registry: Registry, kind: Kind<T>, object: T): Promise<void> {
  const { namespace, name } = object.metadata
  if (registry.cache.of(kind).get(kind.namespaced ? `${namespace}/${name}` : name) !== undefined) return
  try {
    await registry.create(kind, object)
  } catch (e) {
    // Another server, or another request, was faster; or the namespace is going.
    if (!isReason(e, 'AlreadyExists') && !isReason(e, 'Forbidden') && !isReason(e, 'NotFound')) throw e
  }
}

/** The service account `default` and the CA that its Pods trust. */
export async function furnishNamespace(registry: Registry, namespace: string, ca: string): Promise<void> {
  await Promise.all([
    ensure<ServiceAccount>(registry, serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } }),
    ensure<ConfigMap>(registry, configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: ROOT_CA, namespace }, data: { 'ca.crt': ca } }),
  ])
}

/** Makes what is missing of the first namespaces. */
export async function furnishCluster(registry: Registry): Promise<void> {
  await Promise.all(FIRST_NAMESPACES.map(name => ensure<Namespace>(registry, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })))
}
