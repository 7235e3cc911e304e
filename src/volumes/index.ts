/** Pods' volumes below one directory: `pods/UID/volumes/NAME`, and beside it `pods/UID/NAME.json` with what it is. */
import { createHash } from 'node:crypto'
import { chmodSync, chownSync } from 'node:fs'
import { chmod, chown, lstat, mkdir, readdir, readFile, realpath, rm, statfs, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { replaceFile } from '../files/replace.ts'
import { writeContent } from './atomic-writer.ts'
import { checkHostPath } from './host-path.ts'
import { mountsBelow } from '../files/mounts.ts'
import { mountTmpfs, unmount } from './mounts.ts'
import { checkPart, relativeParts } from './paths.ts'
import { bindSubPath, subPathOf } from './sub-path.ts'
import type { ContentFile, MountOptions, Volumes, VolumeSource, VolumesOptions } from './volumes.ts'
import { VolumeError } from './volumes.ts'

export * from './volumes.ts'

/** What has to be known of a volume after a restart. */
interface VolumeRecord {
  type: VolumeSource['type']
  /** hostPath only. */
  path?: string
  /** content only. */
  defaultMode?: number
  fsGroup?: number
}

const defaultContentMode = 0o644
const tmpfsMagic = 0x01021994

/** What exists below `dataDir` is taken over: there is no other state. Needs root for tmpfs and groups. */
export function createVolumes(options: VolumesOptions): Volumes {
  return new PodVolumes(join(options.dataDir, 'pods'), options.memoryDir ?? join(options.dataDir, 'memory'))
}

class PodVolumes implements Volumes {
  readonly #root: string
  readonly #memory: string
  #memoryReady: Promise<void> | undefined
  /** The last piece of work on each pod: one after the other. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(root: string, memory: string) {
    this.#root = root
    this.#memory = memory
  }

  mount(podUid: string, name: string, source: VolumeSource, options: MountOptions = {}): Promise<string> {
    return this.#inTurn(podUid, name, async () => {
      const path = this.#pathOf(podUid, name)
      if (source.type === 'hostPath') {
        await checkHostPath(source.path, source.check ?? '')
        await this.#saveRecord(podUid, name, { type: 'hostPath', path: source.path })
        return source.path
      }
      const { fsGroup } = options
      if (source.type === 'content' && source.memory === true) await this.#linkToMemory(podUid, name)
      else await mkdir(path, { recursive: true, mode: 0o755 })
      if (source.type === 'emptyDir') {
        const known = await this.#recordOf(podUid, name).then(() => true, () => false)
        const mounted = source.memory === true && await this.#ensureTmpfs(path, { mode: 0o777, sizeBytes: source.sizeLimitBytes })
        if (!known || mounted) {
          if (fsGroup !== undefined) await chown(path, -1, fsGroup)
          await chmod(path, fsGroup === undefined ? 0o777 : 0o2777)
        }
        await this.#saveRecord(podUid, name, { type: 'emptyDir', fsGroup })
        return path
      }
      const defaultMode = source.defaultMode ?? defaultContentMode
      await this.#write(path, source.files, { defaultMode, fsGroup })
      await this.#saveRecord(podUid, name, { type: 'content', defaultMode, fsGroup })
      return path
    })
  }

  update(podUid: string, name: string, files: ContentFile[]): Promise<boolean> {
    return this.#inTurn(podUid, name, async () => {
      const { type, defaultMode = defaultContentMode, fsGroup } = await this.#recordOf(podUid, name)
      if (type !== 'content') throw new VolumeError('invalid', `volume ${name} of pod ${podUid} is not made of files that can be updated`)
      return this.#write(this.#pathOf(podUid, name), files, { defaultMode, fsGroup })
    })
  }

  subPath(podUid: string, name: string, subPath: string): Promise<string> {
    return this.#inTurn(podUid, name, async () => {
      const parts = relativeParts('subPath', subPath)
      const record = await this.#recordOf(podUid, name)
      if (record.type === 'content') return subPathOf(this.#pathOf(podUid, name), parts)
      const { fsGroup } = record
      const target = join(this.#root, podUid, 'subpaths', createHash('sha256').update(`${name}/${parts.join('/')}`).digest('hex').slice(0, 32))
      await bindSubPath(record.path ?? this.#pathOf(podUid, name), parts, target, {
        made: (path) => {
          if (fsGroup === undefined) return
          chownSync(path, -1, fsGroup)
          chmodSync(path, 0o2775)
        },
      })
      return target
    })
  }

  async usage(podUid: string): Promise<Map<string, number>> {
    checkPart('pod uid', podUid)
    const usage = new Map<string, number>()
    for (const name of await readdir(join(this.#root, podUid, 'volumes')).catch(() => [])) {
      usage.set(name, await realpath(this.#pathOf(podUid, name)).then(bytesOf, () => 0))
    }
    return usage
  }

  unmountPod(podUid: string): Promise<void> {
    return this.#inTurn(podUid, undefined, async () => {
      const directory = join(this.#root, podUid)
      await unmount(mountsBelow(directory))
      await rm(join(this.#memory, podUid), { recursive: true, force: true })
      await rm(directory, { recursive: true, force: true })
    })
  }

  async pods(): Promise<string[]> {
    return readdir(this.#root).catch(() => [])
  }

  async removeOrphans(livePodUids: ReadonlySet<string>): Promise<string[]> {
    const orphans = (await this.pods()).filter((uid) => !livePodUids.has(uid))
    for (const uid of orphans) await this.unmountPod(uid)
    return orphans
  }

  #pathOf(podUid: string, name: string): string {
    return join(this.#root, podUid, 'volumes', name)
  }

  async #write(path: string, files: ContentFile[], rules: { defaultMode: number; fsGroup?: number }): Promise<boolean> {
    try {
      return await writeContent(path, files, rules)
    } catch (error) {
      if (error instanceof VolumeError) throw error
      throw new VolumeError('failed', `cannot write the files of ${path}: ${(error as Error).message}`)
    }
  }

  /** One tmpfs holds the content of all pods: a mount for each volume would cost every start and end of a pod a process. */
  async #linkToMemory(podUid: string, name: string): Promise<void> {
    this.#memoryReady ??= this.#prepareMemory().catch((error: unknown) => {
      this.#memoryReady = undefined
      throw error
    })
    await this.#memoryReady
    const target = join(this.#memory, podUid, name)
    await mkdir(join(this.#root, podUid, 'volumes'), { recursive: true, mode: 0o755 })
    await mkdir(target, { recursive: true, mode: 0o755 })
    await symlink(target, this.#pathOf(podUid, name)).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error })
  }

  async #prepareMemory(): Promise<void> {
    await mkdir(this.#memory, { recursive: true, mode: 0o700 })
    if ((await statfs(this.#memory)).type !== tmpfsMagic) await mountTmpfs(this.#memory, { mode: 0o700 })
  }

  /** True if it had to be mounted: at first, and after a reboot. */
  async #ensureTmpfs(path: string, options: { mode: number; sizeBytes?: number }): Promise<boolean> {
    if ((mountsBelow(path)).includes(path)) return false
    await mountTmpfs(path, options)
    return true
  }

  async #saveRecord(podUid: string, name: string, record: VolumeRecord): Promise<void> {
    const path = join(this.#root, podUid, `${name}.json`)
    await mkdir(join(this.#root, podUid), { recursive: true })
    await replaceFile(path, JSON.stringify(record))
  }

  async #recordOf(podUid: string, name: string): Promise<VolumeRecord> {
    try {
      return JSON.parse(await readFile(join(this.#root, podUid, `${name}.json`), 'utf8')) as VolumeRecord
    } catch {
      throw new VolumeError('missing', `pod ${podUid} has no volume ${name}`)
    }
  }

  /** Work on one pod never overlaps: a take-down must not race with a mount. */
  async #inTurn<T>(podUid: string, name: string | undefined, work: () => Promise<T>): Promise<T> {
    checkPart('pod uid', podUid)
    if (name !== undefined) checkPart('volume name', name)
    const before = this.#turns.get(podUid) ?? Promise.resolve()
    const turn = before.catch(() => undefined).then(work)
    this.#turns.set(podUid, turn)
    try {
      return await turn
    } finally {
      if (this.#turns.get(podUid) === turn) this.#turns.delete(podUid)
    }
  }
}

/** Blocks in use, as `du` counts; hard links count once for each name. */
async function bytesOf(path: string): Promise<number> {
  const info = await lstat(path).catch(() => undefined)
  if (info === undefined) return 0
  let bytes = info.blocks * 512
  if (info.isDirectory()) for (const entry of await readdir(path).catch(() => [])) bytes += await bytesOf(join(path, entry))
  return bytes
}
