/** Objects the server itself makes: the first namespaces, and what each namespace holds before its first Pod. */
import { configMaps, namespaces, serviceAccounts } from '../core/kinds.ts'
import type { Kind } from '../core/kinds.ts'
import { defaultServiceAccount, mayBeThere, rootCaConfigMap } from '../core/namespace-defaults.ts'
import type { ApiObject, Namespace } from '../core/types/index.ts'
import type { Registry } from './registry.ts'

const FIRST_NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease']

async function ensure<T extends ApiObject>(registry: Registry, kind: Kind<T>, object: T): Promise<void> {
  const { namespace, name } = object.metadata
  if (registry.cache.of(kind).get(kind.namespaced ? `${namespace}/${name}` : name) !== undefined) return
  await registry.create(kind, object).catch(mayBeThere)
}

/**
 * At once with the namespace, so that its first Pod need not wait; the controller `namespace-defaults` keeps them later.
 */
export async function furnishNamespace(registry: Registry, namespace: string, ca: string): Promise<void> {
  await Promise.all([
    ensure(registry, serviceAccounts, defaultServiceAccount(namespace)),
    ensure(registry, configMaps, rootCaConfigMap(namespace, ca)),
  ])
}

/** Makes what is missing of the first namespaces. */
export async function furnishCluster(registry: Registry): Promise<void> {
  await Promise.all(FIRST_NAMESPACES.map(name => ensure<Namespace>(registry, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })))
}
