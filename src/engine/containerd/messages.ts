/** Messages of containerd 1.6 – 2.x's API (github.com/containerd/containerd, api/), the fields that are used, as tables for protobuf.ts. */
import { bool, bytes, enumeration, int32, int64, list, map, message, string, uint32, uint64 } from './protobuf.ts'
import type { MessageType } from './protobuf.ts'

const empty = message({})
const any = message({ type_url: [1, string], value: [2, bytes] })
const timestamp = message({ seconds: [1, int64], nanos: [2, int32] })
const mask = message({ paths: [1, list(string)] })
const labels = map(string)

const descriptor = message({ mediaType: [1, string], digest: [2, string], size: [3, int64], annotations: [5, labels] })
const mount = message({ type: [1, string], source: [2, string], target: [3, string], options: [4, list(string)] })
const mounts = message({ mounts: [1, list(mount)] })
const filters = message({ filters: [1, list(string)] })

const container = message({
  id: [1, string], labels: [2, labels], image: [3, string],
  runtime: [4, message({ name: [1, string], options: [2, any] })],
  spec: [5, any], snapshotter: [6, string], snapshotKey: [7, string], createdAt: [8, timestamp], updatedAt: [9, timestamp],
  extensions: [10, map(any)],
})
const oneContainer = message({ container: [1, container] })

const taskProcess = message({
  containerId: [1, string], id: [2, string], pid: [3, uint32],
  status: [4, enumeration('UNKNOWN', 'CREATED', 'RUNNING', 'STOPPED', 'PAUSED', 'PAUSING')],
  stdin: [5, string], stdout: [6, string], stderr: [7, string], terminal: [8, bool], exitStatus: [9, uint32], exitedAt: [10, timestamp],
})
const taskRef = message({ containerId: [1, string] })
const processRef = message({ containerId: [1, string], execId: [2, string] })
const deleted = message({ id: [1, string], pid: [2, uint32], exitStatus: [3, uint32], exitedAt: [4, timestamp] })

const blob = message({ digest: [1, string], size: [2, int64], createdAt: [3, timestamp], updatedAt: [4, timestamp], labels: [5, labels] })
const oneBlob = message({ info: [1, blob] })
const blobRef = message({ digest: [1, string] })
const ingest = message({
  startedAt: [1, timestamp], updatedAt: [2, timestamp], ref: [3, string], offset: [4, int64], total: [5, int64], expected: [6, string],
})
const ingestRef = message({ ref: [1, string] })
const writeAction = enumeration('STAT', 'WRITE', 'COMMIT')

const snapshot = message({
  name: [1, string], parent: [2, string], kind: [3, enumeration('UNKNOWN', 'VIEW', 'ACTIVE', 'COMMITTED')],
  createdAt: [4, timestamp], updatedAt: [5, timestamp], labels: [6, labels],
})
const newSnapshot = message({ snapshotter: [1, string], key: [2, string], parent: [3, string], labels: [4, labels] })
const snapshotRef = message({ snapshotter: [1, string], key: [2, string] })
const oneSnapshot = message({ info: [1, snapshot] })

const image = message({ name: [1, string], labels: [2, labels], target: [3, descriptor], createdAt: [7, timestamp], updatedAt: [8, timestamp] })
const oneImage = message({ image: [1, image] })

const lease = message({ id: [1, string], createdAt: [2, timestamp], labels: [3, labels] })
const resource = message({ id: [1, string], type: [2, string] })
const leaseResource = message({ id: [1, string], resource: [2, resource] })

const namespace = message({ name: [1, string], labels: [2, labels] })
const oneNamespace = message({ namespace: [1, namespace] })

const envelope = message({ timestamp: [1, timestamp], namespace: [2, string], topic: [3, string], event: [4, any] })

const plugin = message({
  type: [1, string], id: [2, string], requires: [3, list(string)], exports: [5, labels], capabilities: [6, list(string)],
  initErr: [7, message({ code: [1, int32], message: [2, string] })],
})

/** Service → method → what goes and what comes. */
export const services: Readonly<Record<string, Readonly<Record<string, readonly [request: MessageType, response: MessageType]>>>> = {
  'containerd.services.containers.v1.Containers': {
    Get: [message({ id: [1, string] }), oneContainer],
    List: [filters, message({ containers: [1, list(container)] })],
    Create: [oneContainer, oneContainer],
    Update: [message({ container: [1, container], updateMask: [2, mask] }), oneContainer],
    Delete: [message({ id: [1, string] }), empty],
  },
  'containerd.services.tasks.v1.Tasks': {
    Create: [
      message({
        containerId: [1, string], rootfs: [3, list(mount)], stdin: [4, string], stdout: [5, string], stderr: [6, string], terminal: [7, bool],
        options: [9, any],
      }),
      message({ pid: [2, uint32] }),
    ],
    Start: [processRef, message({ pid: [1, uint32] })],
    Delete: [taskRef, deleted],
    DeleteProcess: [processRef, deleted],
    Get: [processRef, message({ process: [1, taskProcess] })],
    List: [empty, message({ tasks: [1, list(taskProcess)] })],
    Kill: [message({ containerId: [1, string], execId: [2, string], signal: [3, uint32], all: [4, bool] }), empty],
    Exec: [
      message({
        containerId: [1, string], stdin: [2, string], stdout: [3, string], stderr: [4, string], terminal: [5, bool], spec: [6, any], execId: [7, string],
      }),
      empty,
    ],
    ResizePty: [message({ containerId: [1, string], execId: [2, string], width: [3, uint32], height: [4, uint32] }), empty],
    CloseIO: [message({ containerId: [1, string], execId: [2, string], stdin: [3, bool] }), empty],
    Pause: [taskRef, empty],
    Resume: [taskRef, empty],
    ListPids: [taskRef, message({ processes: [1, list(message({ pid: [1, uint32], info: [2, any] }))] })],
    Update: [message({ containerId: [1, string], resources: [2, any] }), empty],
    Wait: [processRef, message({ exitStatus: [1, uint32], exitedAt: [2, timestamp] })],
  },
  'containerd.services.content.v1.Content': {
    Info: [blobRef, oneBlob],
    Update: [message({ info: [1, blob], updateMask: [2, mask] }), oneBlob],
    List: [filters, message({ info: [1, list(blob)] })],
    Delete: [blobRef, empty],
    Read: [message({ digest: [1, string], offset: [2, int64], size: [3, int64] }), message({ offset: [1, int64], data: [2, bytes] })],
    Status: [ingestRef, message({ status: [1, ingest] })],
    ListStatuses: [filters, message({ statuses: [1, list(ingest)] })],
    Write: [
      message({
        action: [1, writeAction], ref: [2, string], total: [3, int64], expected: [4, string], offset: [5, int64], data: [6, bytes], labels: [7, labels],
      }),
      message({ action: [1, writeAction], offset: [4, int64], total: [5, int64], digest: [6, string] }),
    ],
    Abort: [ingestRef, empty],
  },
  'containerd.services.snapshots.v1.Snapshots': {
    Prepare: [newSnapshot, mounts],
    View: [newSnapshot, mounts],
    Mounts: [snapshotRef, mounts],
    Commit: [message({ snapshotter: [1, string], name: [2, string], key: [3, string], labels: [4, labels] }), empty],
    Remove: [snapshotRef, empty],
    Stat: [snapshotRef, oneSnapshot],
    Update: [message({ snapshotter: [1, string], info: [2, snapshot], updateMask: [3, mask] }), oneSnapshot],
    List: [message({ snapshotter: [1, string], filters: [2, list(string)] }), message({ info: [1, list(snapshot)] })],
    Usage: [snapshotRef, message({ size: [1, int64], inodes: [2, int64] })],
  },
  'containerd.services.diff.v1.Diff': {
    Apply: [message({ diff: [1, descriptor], mounts: [2, list(mount)], syncFs: [4, bool] }), message({ applied: [1, descriptor] })],
    Diff: [
      message({ left: [1, list(mount)], right: [2, list(mount)], mediaType: [3, string], ref: [4, string], labels: [5, labels] }),
      message({ diff: [3, descriptor] }),
    ],
  },
  'containerd.services.images.v1.Images': {
    Get: [message({ name: [1, string] }), oneImage],
    List: [filters, message({ images: [1, list(image)] })],
    Create: [oneImage, oneImage],
    Update: [message({ image: [1, image], updateMask: [2, mask] }), oneImage],
    Delete: [message({ name: [1, string], sync: [2, bool] }), empty],
  },
  'containerd.services.leases.v1.Leases': {
    Create: [message({ id: [1, string], labels: [3, labels] }), message({ lease: [1, lease] })],
    Delete: [message({ id: [1, string], sync: [2, bool] }), empty],
    List: [filters, message({ leases: [1, list(lease)] })],
    AddResource: [leaseResource, empty],
    DeleteResource: [leaseResource, empty],
    ListResources: [message({ id: [1, string] }), message({ resources: [1, list(resource)] })],
  },
  'containerd.services.namespaces.v1.Namespaces': {
    List: [empty, message({ namespaces: [1, list(namespace)] })],
    Create: [oneNamespace, oneNamespace],
    Delete: [message({ name: [1, string] }), empty],
  },
  'containerd.services.events.v1.Events': {
    Publish: [message({ topic: [1, string], event: [2, any] }), empty],
    Subscribe: [filters, envelope],
  },
  'containerd.services.introspection.v1.Introspection': {
    Plugins: [filters, message({ plugins: [1, list(plugin)] })],
    Server: [empty, message({ uuid: [1, string], pid: [2, uint64] })],
  },
  'containerd.services.version.v1.Version': {
    Version: [empty, message({ version: [1, string], revision: [2, string] })],
  },
}

/** What travels inside an Any, by its full name. */
export const packed: Readonly<Record<string, MessageType>> = {
  'containerd.runc.v1.Options': message({
    noPivotRoot: [1, bool], noNewKeyring: [2, bool], shimCgroup: [3, string], ioUid: [4, uint32], ioGid: [5, uint32], binaryName: [6, string],
    root: [7, string], systemdCgroup: [9, bool],
  }),
  'containerd.events.TaskStart': message({ containerId: [1, string], pid: [2, uint32] }),
  'containerd.events.TaskExit': message({ containerId: [1, string], id: [2, string], pid: [3, uint32], exitStatus: [4, uint32], exitedAt: [5, timestamp] }),
  'containerd.events.TaskOOM': taskRef,
  'containerd.events.TaskPaused': taskRef,
  'containerd.events.TaskResumed': taskRef,
}
