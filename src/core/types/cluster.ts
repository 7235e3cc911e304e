/** Cluster-level kinds: nodes, namespaces, services and what they are made of. */
import type { ApiObject, Condition, IntOrString, LabelSelector, LocalObjectReference, MicroTime, ObjectReference, Quantity, Time } from './meta.ts'

export interface Taint {
  key: string
  value?: string
  effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute'
  timeAdded?: Time
}

export interface Node extends ApiObject {
  spec: { podCIDR?: string; podCIDRs?: string[]; unschedulable?: boolean; taints?: Taint[]; providerID?: string }
  status?: {
    capacity?: Record<string, Quantity>
    allocatable?: Record<string, Quantity>
    conditions?: Condition[]
    addresses?: { type: 'InternalIP' | 'ExternalIP' | 'Hostname'; address: string }[]
    nodeInfo?: {
      machineID: string; systemUUID: string; bootID: string
      kernelVersion: string; osImage: string; containerRuntimeVersion: string
      kubeletVersion: string; kubeProxyVersion: string; operatingSystem: string; architecture: string
    }
    /** Every image this node can serve to its peers. `names` holds tags and digests (`name@sha256:…`). */
    images?: { names: string[]; sizeBytes?: number }[]
    daemonEndpoints?: { kubeletEndpoint?: { Port: number } }
  }
}

export interface Namespace extends ApiObject {
  spec?: { finalizers?: string[] }
  status?: { phase?: 'Active' | 'Terminating'; conditions?: Condition[] }
}

export interface ServicePort {
  name?: string
  protocol?: 'TCP' | 'UDP' | 'SCTP'
  port: number
  targetPort?: IntOrString
  nodePort?: number
  appProtocol?: string
}

export interface Service extends ApiObject {
  spec: {
    type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
    selector?: Record<string, string>
    clusterIP?: string
    clusterIPs?: string[]
    ipFamilies?: string[]
    ipFamilyPolicy?: string
    ports?: ServicePort[]
    externalName?: string
    externalIPs?: string[]
    sessionAffinity?: 'None' | 'ClientIP'
    sessionAffinityConfig?: { clientIP?: { timeoutSeconds?: number } }
    publishNotReadyAddresses?: boolean
    internalTrafficPolicy?: 'Cluster' | 'Local'
    externalTrafficPolicy?: 'Cluster' | 'Local'
    allocateLoadBalancerNodePorts?: boolean
  }
  status?: { loadBalancer?: { ingress?: { ip?: string; hostname?: string }[] }; conditions?: Condition[] }
}

export interface Endpoint {
  addresses: string[]
  conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean }
  hostname?: string
  nodeName?: string
  zone?: string
  targetRef?: ObjectReference
}

export interface EndpointSlice extends ApiObject {
  addressType: 'IPv4' | 'IPv6' | 'FQDN'
  endpoints: Endpoint[]
  ports?: { name?: string; protocol?: string; port?: number; appProtocol?: string }[]
}

export interface Endpoints extends ApiObject {
  subsets?: {
    addresses?: { ip: string; hostname?: string; nodeName?: string; targetRef?: ObjectReference }[]
    notReadyAddresses?: { ip: string; hostname?: string; nodeName?: string; targetRef?: ObjectReference }[]
    ports?: { name?: string; port: number; protocol?: string }[]
  }[]
}

export interface ConfigMap extends ApiObject {
  data?: Record<string, string>
  /** Base64 values. */
  binaryData?: Record<string, string>
  immutable?: boolean
}

export interface Secret extends ApiObject {
  type?: string
  /** Base64 values. */
  data?: Record<string, string>
  /** Write-only convenience: plain text, merged into `data` by the server. */
  stringData?: Record<string, string>
  immutable?: boolean
}

export interface ServiceAccount extends ApiObject {
  secrets?: ObjectReference[]
  imagePullSecrets?: LocalObjectReference[]
  automountServiceAccountToken?: boolean
}

export interface Lease extends ApiObject {
  spec?: {
    holderIdentity?: string
    leaseDurationSeconds?: number
    acquireTime?: MicroTime
    renewTime?: MicroTime
    leaseTransitions?: number
  }
}

/** core/v1 Event. */
export interface Event extends ApiObject {
  involvedObject: ObjectReference
  reason?: string
  message?: string
  source?: { component?: string; host?: string }
  firstTimestamp?: Time
  lastTimestamp?: Time
  eventTime?: MicroTime | null
  count?: number
  type?: 'Normal' | 'Warning'
  action?: string
  reportingComponent?: string
  reportingInstance?: string
}

export interface PolicyRule {
  verbs: string[]
  apiGroups?: string[]
  resources?: string[]
  resourceNames?: string[]
  nonResourceURLs?: string[]
}
export interface Subject { kind: 'User' | 'Group' | 'ServiceAccount'; apiGroup?: string; name: string; namespace?: string }
export interface RoleRef { apiGroup: string; kind: 'Role' | 'ClusterRole'; name: string }
export interface Role extends ApiObject { rules?: PolicyRule[] }
export interface ClusterRole extends ApiObject {
  rules?: PolicyRule[]
  aggregationRule?: { clusterRoleSelectors?: LabelSelector[] }
}
export interface RoleBinding extends ApiObject { subjects?: Subject[]; roleRef: RoleRef }
export interface ClusterRoleBinding extends ApiObject { subjects?: Subject[]; roleRef: RoleRef }
