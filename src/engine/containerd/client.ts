/** containerd's services as typed promise methods: `connectContainerd({ socket, namespace })`. */
import { Connection } from './grpc.ts'
import { openWriter, readContent } from './content.ts'
import type { ContentWriter, WriterOptions } from './content.ts'
import { watchEvents } from './events.ts'
import type { EventWatch, WatchOptions } from './events.ts'
import type {
  Any, CallOptions, Container, ContentInfo, CreateTask, Deleted, Descriptor, Envelope, ExecProcess, Exited, FieldMask, Image, Ingest,
  Labels, Lease, LeaseResource, Mount, Namespace, NewContainer, Plugin, SnapshotInfo, TaskProcess,
} from './types.ts'

type Call<Req, Res> = (request: Req, options?: CallOptions) => Promise<Res>
const S = 'containerd.services'

export interface ConnectOptions { socket: string; namespace: string }
export type ContainerdClient = ReturnType<typeof connectContainerd>

/**
 * Makes the client at once; the connection is opened by the first call (or `ready`), and again after containerd restarted.
 * Calls reject with ContainerdError; nothing is retried.
 */
export function connectContainerd(options: ConnectOptions) {
  const c = new Connection(options.socket, options.namespace)
  return {
    namespace: options.namespace,
    containers: containers(c),
    tasks: tasks(c),
    content: content(c),
    snapshots: snapshots(c),
    diff: diff(c),
    images: images(c),
    leases: leases(c),
    namespaces: namespaces(c),
    events: events(c, options.namespace),
    introspection: introspection(c),
    version: async (): Promise<{ version: string; revision: string }> =>
      c.unary<object, { version: string; revision: string }>(`${S}.version.v1.Version`, 'Version')({}),
    /** Resolves when containerd answers; rejects after `timeoutMs`. */
    ready: (timeoutMs: number): Promise<void> => c.ready(timeoutMs),
    close: (): void => { c.close() },
  }
}

function containers(c: Connection) {
  const s = `${S}.containers.v1.Containers`
  const get = c.unary<{ id: string }, { container: Container }>(s, 'Get')
  const list = c.unary<{ filters: string[] }, { containers: Container[] }>(s, 'List')
  const create = c.unary<{ container: NewContainer }, { container: Container }>(s, 'Create')
  const update = c.unary<{ container: NewContainer; updateMask: FieldMask }, { container: Container }>(s, 'Update')
  const remove = c.unary<{ id: string }, object>(s, 'Delete')
  return {
    get: async (id: string, o?: CallOptions): Promise<Container> => (await get({ id }, o)).container,
    list: async (filters: string[] = [], o?: CallOptions): Promise<Container[]> => (await list({ filters }, o)).containers,
    create: async (container: NewContainer, o?: CallOptions): Promise<Container> => (await create({ container }, o)).container,
    /** Mask paths: labels, labels.KEY, spec, extensions.KEY, image, snapshotkey. */
    update: async (container: NewContainer, paths: string[], o?: CallOptions): Promise<Container> =>
      (await update({ container, updateMask: { paths } }, o)).container,
    delete: async (id: string, o?: CallOptions): Promise<void> => { await remove({ id }, o) },
  }
}

function tasks(c: Connection) {
  const s = `${S}.tasks.v1.Tasks`
  const create = c.unary<CreateTask, { pid: number }>(s, 'Create')
  const start = c.unary<{ containerId: string; execId: string }, { pid: number }>(s, 'Start')
  const remove: Call<{ containerId: string }, Deleted> = c.unary(s, 'Delete')
  const removeProcess: Call<{ containerId: string; execId: string }, Deleted> = c.unary(s, 'DeleteProcess')
  const get = c.unary<{ containerId: string; execId: string }, { process: TaskProcess }>(s, 'Get')
  const list = c.unary<object, { tasks: TaskProcess[] }>(s, 'List')
  const kill = c.unary<{ containerId: string; execId: string; signal: number; all: boolean }, object>(s, 'Kill')
  const exec = c.unary<ExecProcess, object>(s, 'Exec')
  const resize = c.unary<{ containerId: string; execId: string; width: number; height: number }, object>(s, 'ResizePty')
  const closeIO = c.unary<{ containerId: string; execId: string; stdin: boolean }, object>(s, 'CloseIO')
  const pause = c.unary<{ containerId: string }, object>(s, 'Pause')
  const resume = c.unary<{ containerId: string }, object>(s, 'Resume')
  const listPids = c.unary<{ containerId: string }, { processes: { pid: number; info: Any | null }[] }>(s, 'ListPids')
  const update = c.unary<{ containerId: string; resources: Any }, object>(s, 'Update')
  const wait: Call<{ containerId: string; execId: string }, Exited> = c.unary(s, 'Wait')
  return {
    /** Resolves with the pid of the created, not yet started, init. */
    create: async (request: CreateTask, o?: CallOptions): Promise<number> => (await create(request, o)).pid,
    start: async (containerId: string, execId = '', o?: CallOptions): Promise<number> => (await start({ containerId, execId }, o)).pid,
    delete: (containerId: string, o?: CallOptions): Promise<Deleted> => remove({ containerId }, o),
    deleteProcess: (containerId: string, execId: string, o?: CallOptions): Promise<Deleted> => removeProcess({ containerId, execId }, o),
    get: async (containerId: string, execId = '', o?: CallOptions): Promise<TaskProcess> =>
      (await get({ containerId, execId }, o)).process,
    list: async (o?: CallOptions): Promise<TaskProcess[]> => (await list({}, o)).tasks,
    kill: async (containerId: string, signal: number, k: { execId?: string; all?: boolean } = {}, o?: CallOptions): Promise<void> => {
      await kill({ containerId, execId: k.execId ?? '', signal, all: k.all ?? false }, o)
    },
    exec: async (request: ExecProcess, o?: CallOptions): Promise<void> => { await exec(request, o) },
    resize: async (containerId: string, execId: string, width: number, height: number): Promise<void> => {
      await resize({ containerId, execId, width, height })
    },
    closeStdin: async (containerId: string, execId = ''): Promise<void> => { await closeIO({ containerId, execId, stdin: true }) },
    pause: async (containerId: string): Promise<void> => { await pause({ containerId }) },
    resume: async (containerId: string): Promise<void> => { await resume({ containerId }) },
    pids: async (containerId: string): Promise<number[]> => (await listPids({ containerId })).processes.map((p) => p.pid),
    /** `resources`: ociAny('LinuxResources', …). */
    update: async (containerId: string, resources: Any): Promise<void> => { await update({ containerId, resources }) },
    wait: (containerId: string, execId = '', o?: CallOptions): Promise<Exited> => wait({ containerId, execId }, o),
  }
}

function content(c: Connection) {
  const s = `${S}.content.v1.Content`
  const info = c.unary<{ digest: string }, { info: ContentInfo }>(s, 'Info')
  const update = c.unary<{ info: { digest: string; labels: Labels }; updateMask: FieldMask }, { info: ContentInfo }>(s, 'Update')
  const remove = c.unary<{ digest: string }, object>(s, 'Delete')
  const status = c.unary<{ ref: string }, { status: Ingest }>(s, 'Status')
  const listStatuses = c.unary<{ filters: string[] }, { statuses: Ingest[] }>(s, 'ListStatuses')
  const abort = c.unary<{ ref: string }, object>(s, 'Abort')
  return {
    info: async (digest: string, o?: CallOptions): Promise<ContentInfo> => (await info({ digest }, o)).info,
    /** Sets these labels and keeps the others; an empty value removes one. */
    label: async (digest: string, labels: Labels, o?: CallOptions): Promise<ContentInfo> =>
      (await update({ info: { digest, labels }, updateMask: { paths: Object.keys(labels).map((k) => `labels.${k}`) } }, o)).info,
    list: async (filters: string[] = [], o?: CallOptions): Promise<ContentInfo[]> => {
      const all: ContentInfo[] = []
      for await (const part of c.serverStream<{ info: ContentInfo[] }>(s, 'List', { filters }, o)) all.push(...part.info)
      return all
    },
    delete: async (digest: string, o?: CallOptions): Promise<void> => { await remove({ digest }, o) },
    /** Chunks of a blob, from `offset`, `size` bytes (0 = to the end). Leaving the loop cancels. */
    read: (digest: string, range: { offset?: number; size?: number } = {}, o?: CallOptions): AsyncGenerator<Buffer> =>
      readContent(c, digest, range, o),
    /** A whole small blob (manifest, config). */
    readAll: async (digest: string, o?: CallOptions): Promise<Buffer> => {
      const parts: Buffer[] = []
      for await (const part of readContent(c, digest, {}, o)) parts.push(part)
      return Buffer.concat(parts)
    },
    /** Opens or resumes the upload `ref`; see ContentWriter. `alreadyExists` if the expected digest is present. */
    writer: (w: WriterOptions, o?: CallOptions): Promise<ContentWriter> => openWriter(c, w, o),
    status: async (ref: string, o?: CallOptions): Promise<Ingest> => (await status({ ref }, o)).status,
    statuses: async (filters: string[] = [], o?: CallOptions): Promise<Ingest[]> => (await listStatuses({ filters }, o)).statuses,
    abort: async (ref: string, o?: CallOptions): Promise<void> => { await abort({ ref }, o) },
  }
}

function snapshots(c: Connection) {
  const s = `${S}.snapshots.v1.Snapshots`
  type NewSnapshot = { snapshotter: string; key: string; parent?: string; labels?: Labels }
  type Key = { snapshotter: string; key: string }
  const prepare = c.unary<NewSnapshot, { mounts: Mount[] }>(s, 'Prepare')
  const view = c.unary<NewSnapshot, { mounts: Mount[] }>(s, 'View')
  const mounts = c.unary<Key, { mounts: Mount[] }>(s, 'Mounts')
  const commit = c.unary<Key & { name: string; labels?: Labels }, object>(s, 'Commit')
  const remove = c.unary<Key, object>(s, 'Remove')
  const stat = c.unary<Key, { info: SnapshotInfo }>(s, 'Stat')
  type Change = { snapshotter: string; info: { name: string; labels: Labels }; updateMask: FieldMask }
  const update = c.unary<Change, { info: SnapshotInfo }>(s, 'Update')
  const usage = c.unary<Key, { size: number; inodes: number }>(s, 'Usage')
  return {
    /** Writable; resolves with what to mount. */
    prepare: async (r: NewSnapshot, o?: CallOptions): Promise<Mount[]> => (await prepare(r, o)).mounts,
    view: async (r: NewSnapshot, o?: CallOptions): Promise<Mount[]> => (await view(r, o)).mounts,
    mounts: async (snapshotter: string, key: string, o?: CallOptions): Promise<Mount[]> => (await mounts({ snapshotter, key }, o)).mounts,
    commit: async (r: Key & { name: string; labels?: Labels }, o?: CallOptions): Promise<void> => { await commit(r, o) },
    remove: async (snapshotter: string, key: string, o?: CallOptions): Promise<void> => { await remove({ snapshotter, key }, o) },
    stat: async (snapshotter: string, key: string, o?: CallOptions): Promise<SnapshotInfo> => (await stat({ snapshotter, key }, o)).info,
    /** Sets these labels and keeps the others. */
    label: async (snapshotter: string, name: string, labels: Labels, o?: CallOptions): Promise<SnapshotInfo> => (await update({
      snapshotter, info: { name, labels }, updateMask: { paths: Object.keys(labels).map((k) => `labels.${k}`) },
    }, o)).info,
    list: async (snapshotter: string, filters: string[] = [], o?: CallOptions): Promise<SnapshotInfo[]> => {
      const all: SnapshotInfo[] = []
      for await (const part of c.serverStream<{ info: SnapshotInfo[] }>(s, 'List', { snapshotter, filters }, o)) all.push(...part.info)
      return all
    },
    /** Walks the tree of an active snapshot: slow. */
    usage: (snapshotter: string, key: string, o?: CallOptions): Promise<{ size: number; inodes: number }> => usage({ snapshotter, key }, o),
  }
}

function diff(c: Connection) {
  const s = `${S}.diff.v1.Diff`
  const apply = c.unary<{ diff: Descriptor; mounts: Mount[]; syncFs?: boolean }, { applied: Descriptor }>(s, 'Apply')
  type Compare = { left: Mount[]; right: Mount[]; mediaType?: string; ref?: string; labels?: Labels }
  const compare = c.unary<Compare, { diff: Descriptor }>(s, 'Diff')
  return {
    /** Unpacks a layer; resolves with the descriptor of the uncompressed stream (the diff id). */
    apply: async (descriptor: Descriptor, mounts: Mount[], o?: CallOptions): Promise<Descriptor> =>
      (await apply({ diff: descriptor, mounts }, o)).applied,
    /** Writes the difference as a layer blob. */
    compare: async (r: Compare, o?: CallOptions): Promise<Descriptor> => (await compare(r, o)).diff,
  }
}

function images(c: Connection) {
  const s = `${S}.images.v1.Images`
  const get = c.unary<{ name: string }, { image: Image }>(s, 'Get')
  const list = c.unary<{ filters: string[] }, { images: Image[] }>(s, 'List')
  const create = c.unary<{ image: Image }, { image: Image }>(s, 'Create')
  const update = c.unary<{ image: Image; updateMask: FieldMask | undefined }, { image: Image }>(s, 'Update')
  const remove = c.unary<{ name: string; sync: boolean }, object>(s, 'Delete')
  return {
    get: async (name: string, o?: CallOptions): Promise<Image> => (await get({ name }, o)).image,
    list: async (filters: string[] = [], o?: CallOptions): Promise<Image[]> => (await list({ filters }, o)).images,
    create: async (image: Image, o?: CallOptions): Promise<Image> => (await create({ image }, o)).image,
    /** Mask paths: target, labels, labels.KEY; all when left out. */
    update: async (image: Image, paths?: string[], o?: CallOptions): Promise<Image> =>
      (await update({ image, updateMask: paths && { paths } }, o)).image,
    /** With `sync`, garbage is collected before this resolves. */
    delete: async (name: string, sync = false, o?: CallOptions): Promise<void> => { await remove({ name, sync }, o) },
  }
}

function leases(c: Connection) {
  const s = `${S}.leases.v1.Leases`
  const create = c.unary<{ id: string; labels: Labels }, { lease: Lease }>(s, 'Create')
  const remove = c.unary<{ id: string; sync: boolean }, object>(s, 'Delete')
  const list = c.unary<{ filters: string[] }, { leases: Lease[] }>(s, 'List')
  const add = c.unary<{ id: string; resource: LeaseResource }, object>(s, 'AddResource')
  const drop = c.unary<{ id: string; resource: LeaseResource }, object>(s, 'DeleteResource')
  const resources = c.unary<{ id: string }, { resources: LeaseResource[] }>(s, 'ListResources')
  return {
    /** `expiresMs`: from now; the lease holds nothing after that, also if its maker died. */
    create: async (id: string, l: { labels?: Labels; expiresMs?: number } = {}, o?: CallOptions): Promise<Lease> => {
      const expiry: Labels = l.expiresMs === undefined ? {} : { 'containerd.io/gc.expire': new Date(Date.now() + l.expiresMs).toISOString() }
      return (await create({ id, labels: { ...l.labels, ...expiry } }, o)).lease
    },
    delete: async (id: string, sync = false, o?: CallOptions): Promise<void> => { await remove({ id, sync }, o) },
    list: async (filters: string[] = [], o?: CallOptions): Promise<Lease[]> => (await list({ filters }, o)).leases,
    addResource: async (id: string, resource: LeaseResource, o?: CallOptions): Promise<void> => { await add({ id, resource }, o) },
    deleteResource: async (id: string, resource: LeaseResource, o?: CallOptions): Promise<void> => { await drop({ id, resource }, o) },
    resources: async (id: string, o?: CallOptions): Promise<LeaseResource[]> => (await resources({ id }, o)).resources,
  }
}

function namespaces(c: Connection) {
  const s = `${S}.namespaces.v1.Namespaces`
  const list = c.unary<object, { namespaces: Namespace[] }>(s, 'List')
  const create = c.unary<{ namespace: Namespace }, { namespace: Namespace }>(s, 'Create')
  const remove = c.unary<{ name: string }, object>(s, 'Delete')
  return {
    list: async (): Promise<Namespace[]> => (await list({})).namespaces,
    create: async (name: string, labels: Labels = {}): Promise<Namespace> => (await create({ namespace: { name, labels } })).namespace,
    /** FailedPrecondition unless empty. */
    delete: async (name: string): Promise<void> => { await remove({ name }) },
  }
}

function events(c: Connection, namespace: string) {
  const s = `${S}.events.v1.Events`
  const publish = c.unary<{ topic: string; event: Any }, object>(s, 'Publish')
  const subscribe = (filters: string[], o?: CallOptions): AsyncGenerator<Envelope> =>
    c.serverStream<Envelope>(s, 'Subscribe', { filters }, o)
  const send = async (topic: string, event: Any, o?: CallOptions): Promise<void> => { await publish({ topic, event }, o) }
  return {
    publish: send,
    /** One subscription, all namespaces unless filtered; ends with the connection. */
    subscribe,
    /** A subscription to this namespace that comes back after containerd restarted; see EventWatch. */
    watch: (w: WatchOptions): EventWatch => watchEvents({ subscribe, publish: send, ready: (ms) => c.ready(ms) }, namespace, w),
  }
}

function introspection(c: Connection) {
  const s = `${S}.introspection.v1.Introspection`
  const plugins = c.unary<{ filters: string[] }, { plugins: Plugin[] }>(s, 'Plugins')
  const server = c.unary<object, { uuid: string; pid: number }>(s, 'Server')
  return {
    plugins: async (filters: string[] = []): Promise<Plugin[]> => (await plugins({ filters })).plugins,
    server: (): Promise<{ uuid: string; pid: number }> => server({}),
  }
}
