/** Objects of the API of 2014 (`v1beta1`), as far as they differ from today's. */
export interface OldObject {
  kind?: string
  apiVersion?: string
  id?: string
  uid?: string
  namespace?: string
  creationTimestamp?: string | null
  selfLink?: string
  /** A number on the wire. */
  resourceVersion?: number | string
  labels?: Record<string, string>
  annotations?: Record<string, string>
}

export interface OldContainer {
  name: string
  image: string
  command?: string[]
  entrypoint?: string[]
  workingDir?: string
  ports?: { name?: string; containerPort: number; hostPort?: number; hostIP?: string; protocol?: string }[]
  env?: { name?: string; key?: string; value?: string }[]
  /** Milli-cores. */
  cpu?: number
  /** Bytes. */
  memory?: number
  resources?: { limits?: Record<string, string | number>; requests?: Record<string, string | number> }
  volumeMounts?: { name: string; mountPath?: string; path?: string; readOnly?: boolean }[]
  livenessProbe?: OldProbe
  readinessProbe?: OldProbe
  lifecycle?: { postStart?: OldProbe; preStop?: OldProbe }
  imagePullPolicy?: string
  privileged?: boolean
  capabilities?: { add?: string[]; drop?: string[] }
  terminationMessagePath?: string
}

export interface OldProbe {
  httpGet?: { path?: string; port?: number | string; host?: string }
  tcpSocket?: { port?: number | string }
  exec?: { command?: string[] }
  initialDelaySeconds?: number
  timeoutSeconds?: number
}

export interface OldVolume {
  name: string
  source?: {
    hostDir?: { path: string } | null
    emptyDir?: object | null
    secret?: { target?: { name?: string }; secretName?: string } | null
    persistentVolumeClaim?: { claimName: string; readOnly?: boolean } | null
  } | null
}

export interface OldManifest {
  version?: string
  id?: string
  uuid?: string
  volumes?: OldVolume[] | null
  containers?: OldContainer[]
  restartPolicy?: { always?: object | null; onFailure?: object | null; never?: object | null } | string
  dnsPolicy?: string
  hostNetwork?: boolean
  terminationGracePeriodSeconds?: number
  activeDeadlineSeconds?: number
}

export interface OldPod extends OldObject {
  desiredState?: { manifest?: OldManifest; host?: string }
  currentState?: object
  nodeSelector?: Record<string, string>
  serviceAccount?: string
}

export interface OldController extends OldObject {
  desiredState?: {
    replicas?: number
    replicaSelector?: Record<string, string>
    podTemplate?: {
      desiredState?: { manifest?: OldManifest }
      labels?: Record<string, string>
      annotations?: Record<string, string>
      nodeSelector?: Record<string, string>
    }
    /** Not of the API, and yet in files of the time: the controller's own labels. */
    labels?: Record<string, string>
  }
  currentState?: { replicas?: number }
}

export interface OldService extends OldObject {
  port?: number
  portName?: string
  protocol?: string
  containerPort?: number | string
  ports?: { name?: string; protocol?: string; port: number; containerPort?: number | string }[]
  selector?: Record<string, string>
  portalIP?: string
  publicIPs?: string[]
  createExternalLoadBalancer?: boolean
  sessionAffinity?: string
}

export interface OldEndpoints extends OldObject { endpoints?: string[]; protocol?: string }
export interface OldMinion extends OldObject { hostIP?: string; resources?: { capacity?: Record<string, string | number> }; status?: object }
