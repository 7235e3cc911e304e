/** Gantry's own kinds, group `gantry.dev/v1`. */
import type { ApiObject, Condition, IntOrString, LabelSelector } from './meta.ts'

/** `node` runs Pods; `router` is the edge; `server` holds the API. */
export type MachineRole = 'node' | 'router' | 'server'

/**
 * A host that takes part in the cluster's network. Every agent and router has one; the overlay's peers are exactly the
 * Machines with an address and a podCIDR. Cluster-scoped. A Machine with the role `node` has a Node of the same name.
 */
export interface Machine extends ApiObject {
  spec: {
    /** Who made it: `local` (the machine `gantry up` runs on), `namespace`, … */
    driver?: string
    roles?: MachineRole[]
    /** The addresses of its bridge, e.g. `10.42.3.0/24`; allocated by the server when it is created. */
    podCIDR?: string
  }
  status?: {
    /** Underlay IPv4 address its peers send VXLAN packets to. */
    address?: string
    phase?: 'Running' | 'Lost' | 'Stopped'
    conditions?: Condition[]
  }
}

/** Which backend a Route leads to: a Service's port, or Pods chosen by labels. Exactly one is set. */
export interface RouteBackend {
  service?: { name: string; port: IntOrString }
  selector?: LabelSelector
  /** With `selector`: the Pods' port. */
  port?: number
}

/** An edge route. Namespaced. Either HTTP (`host`, optionally `path`) or TCP (`tcpPort`). */
export interface Route extends ApiObject {
  spec: {
    /** Host name, or one wildcard label (`*.example.org`). */
    host?: string
    /** Path prefix, by whole elements; default `/`. */
    path?: string
    /** Port of the router that is forwarded as a byte stream. */
    tcpPort?: number
    backend: RouteBackend
    /** HTTP only: stick a client to one instance by cookie. */
    sticky?: boolean
  }
  status?: { url?: string; endpoints?: number; conditions?: Condition[] }
}

/** Compose's service after its file was read: the fields of the Compose specification that Gantry keeps. */
export interface ComposeService {
  image: string
  command?: string[]
  entrypoint?: string[]
  environment?: Record<string, string>
  /** Published ports: the router's (or with `hostPort` scope the node's) port → the container's. */
  ports?: { published: number; target: number; protocol: 'tcp' | 'udp' }[]
  expose?: number[]
  volumes?: { type: 'bind' | 'volume' | 'tmpfs'; source?: string; target: string; readOnly?: boolean }[]
  /** Names under which this service sees others: alias → service. */
  links?: Record<string, string>
  dependsOn?: Record<string, 'service_started' | 'service_healthy' | 'service_completed_successfully'>
  scale?: number
  restart?: 'no' | 'always' | 'on-failure' | 'unless-stopped'
  workingDir?: string
  user?: string
  hostname?: string
  labels?: Record<string, string>
  healthcheck?: { test: string[]; intervalMs?: number; timeoutMs?: number; retries?: number; startPeriodMs?: number }
  cpuMilli?: number
  memoryBytes?: number
  stopGraceMs?: number
  tty?: boolean
  stdinOpen?: boolean
  privileged?: boolean
  capAdd?: string[]
  capDrop?: string[]
  readOnly?: boolean
}

/** One `compose up`: namespaced (the project's namespace bears the project's name). */
export interface ComposeProject extends ApiObject {
  spec: { services: Record<string, ComposeService>; volumes?: string[] }
  status?: { observedGeneration?: number; conditions?: Condition[]; services?: Record<string, { desired: number; ready: number }> }
}
