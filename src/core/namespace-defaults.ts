/** What every namespace holds from the start: the service account `default` and the cluster's CA for its Pods. */
import { isReason } from './errors.ts'
import type { ConfigMap, ServiceAccount } from './types/index.ts'

/** ConfigMap with the CA that Pods trust, below `ca.crt`. */
export const ROOT_CA = 'kube-root-ca.crt'

export function defaultServiceAccount(namespace: string): ServiceAccount {
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } }
}

export function rootCaConfigMap(namespace: string, caPem: string): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: ROOT_CA, namespace }, data: { 'ca.crt': caPem } }
}

/** Of creating one of them: somebody else was faster, or the namespace is going. Anything else is thrown on. */
export function mayBeThere(e: unknown): void {
  if (!isReason(e, 'AlreadyExists') && !isReason(e, 'Forbidden') && !isReason(e, 'NotFound')) throw e
}
