/** Objects the server itself makes: the first namespaces, what each namespace holds, and its own Service. */
import { isReason } from '../core/errors.ts'
import { configMaps, endpointSlices, endpoints, namespaces, serviceAccounts, services } from '../core/kinds.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject, ConfigMap, EndpointSlice, Endpoints, Namespace, Service, ServiceAccount } from '../core/types/index.ts'
import { ROOT_CA } from './admission.ts'
import type { Registry } from './registry.ts'

const FIRST_NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease']
const API_PORT = 443

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

/** Makes what is missing of the first namespaces, and `default/kubernetes` pointing at this server. */
export async function furnishCluster(registry: Registry, apiAddress: string, advertise: string, port: number): Promise<void> {
  await Promise.all(FIRST_NAMESPACES.map(name => ensure<Namespace>(registry, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })))
  const metadata = { name: 'kubernetes', namespace: 'default', labels: { component: 'apiserver', provider: 'kubernetes' } }
  await ensure<Service>(registry, services, {
    apiVersion: 'v1', kind: 'Service', metadata: { ...metadata, labels: { ...metadata.labels } },
    spec: { type: 'ClusterIP', clusterIP: apiAddress, ports: [{ name: 'https', protocol: 'TCP', port: API_PORT, targetPort: port }] },
  })
  const ports = [{ name: 'https', port, protocol: 'TCP' }]
  await replace<Endpoints>(registry, endpoints, {
    apiVersion: 'v1', kind: 'Endpoints', metadata: { ...metadata, labels: { ...metadata.labels, 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
    subsets: [{ addresses: [{ ip: advertise }], ports }],
  })
  await replace<EndpointSlice>(registry, endpointSlices, {
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'kubernetes' } },
    addressType: 'IPv4', endpoints: [{ addresses: [advertise], conditions: { ready: true } }], ports,
  })
}

/** Points it at this server; with several servers, the one that started last. */
async function replace<T extends Endpoints | EndpointSlice>(registry: Registry, kind: Kind<T>, wanted: T): Promise<void> {
  await ensure(registry, kind, structuredClone(wanted))
  await registry.modify(kind, wanted.metadata, old => ({ ...structuredClone(wanted), metadata: { ...old.metadata } }))
}
