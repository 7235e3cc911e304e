/** Messages of containerd's API as the client shows them: camelCase, int64 as number, enums as their names. */

export interface Timestamp { seconds: number; nanos: number }
/** `type_url` (protobuf's own spelling) is bare: containerd 1.6 compares it exactly, without `type.googleapis.com/`. */
export interface Any { type_url: string; value: Buffer }
export interface FieldMask { paths: string[] }
export type Labels = Record<string, string>

export interface Descriptor { mediaType: string; digest: string; size: number; annotations?: Labels }
export interface Mount { type: string; source: string; target?: string; options: string[] }

export interface Container {
  id: string
  labels: Labels
  image: string
  runtime: { name: string; options?: Any | null }
  spec: Any | null
  snapshotter: string
  snapshotKey: string
  createdAt: Timestamp | null
  updatedAt: Timestamp | null
  extensions: Record<string, Any>
}
export type NewContainer = Pick<Container, 'id' | 'runtime' | 'spec'> & Partial<Container>

export type TaskStatus = 'UNKNOWN' | 'CREATED' | 'RUNNING' | 'STOPPED' | 'PAUSED' | 'PAUSING'
export interface TaskProcess {
  containerId: string
  /** In Tasks.List the container's id too; an exec's id in Tasks.Get of one. */
  id: string
  pid: number
  status: TaskStatus
  stdin: string
  stdout: string
  stderr: string
  terminal: boolean
  exitStatus: number
  exitedAt: Timestamp | null
}
export interface CreateTask {
  containerId: string
  rootfs: Mount[]
  stdin?: string
  stdout?: string
  stderr?: string
  terminal?: boolean
  options?: Any
}
export interface ExecProcess {
  containerId: string
  execId: string
  spec: Any
  stdin?: string
  stdout?: string
  stderr?: string
  terminal?: boolean
}
export interface Exited { exitStatus: number; exitedAt: Timestamp | null }
export interface Deleted extends Exited { id: string; pid: number }

export interface ContentInfo { digest: string; size: number; createdAt: Timestamp | null; updatedAt: Timestamp | null; labels: Labels }
export interface Ingest { ref: string; offset: number; total: number; expected: string; startedAt: Timestamp | null; updatedAt: Timestamp | null }

export type SnapshotKind = 'UNKNOWN' | 'VIEW' | 'ACTIVE' | 'COMMITTED'
export interface SnapshotInfo {
  name: string
  parent: string
  kind: SnapshotKind
  createdAt: Timestamp | null
  updatedAt: Timestamp | null
  labels: Labels
}

export interface Image { name: string; labels: Labels; target: Descriptor; createdAt?: Timestamp | null; updatedAt?: Timestamp | null }
export interface Lease { id: string; createdAt: Timestamp | null; labels: Labels }
/** `type`: `content`, `ingests`, `snapshots/SNAPSHOTTER`. */
export interface LeaseResource { id: string; type: string }
export interface Namespace { name: string; labels: Labels }
export interface Plugin {
  type: string
  id: string
  requires: string[]
  exports: Labels
  capabilities: string[]
  initErr: { code: number; message: string } | null
}
export interface Envelope { timestamp: Timestamp | null; namespace: string; topic: string; event: Any | null }

export interface CallOptions {
  /** Everything the call makes is added to this lease. */
  lease?: string
  signal?: AbortSignal
  /** Default: none. */
  timeoutMs?: number
}

/** Milliseconds since the epoch; undefined for the zero time. */
export function timestampMs(t: Timestamp | null | undefined): number | undefined {
  if (t === null || t === undefined || t.seconds <= 0) return undefined
  return t.seconds * 1000 + Math.floor(t.nanos / 1e6)
}

export function toTimestamp(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000)
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) }
}
