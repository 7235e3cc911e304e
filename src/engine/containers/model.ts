/** A container as the service holds it, and what follows from its record alone. */
import { join } from 'node:path'
import type { Exited, Mount } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { ContainerInfo, ContainerSpec } from '../engine.ts'
import { mergeEnv } from './oci-spec.ts'
import type { OpenRequest } from '../logger/protocol.ts'
import type { ContainerRecord, ImageDefaults } from './records.ts'

const ID = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/
const MAX_ID = 76

export interface Entry {
  record: ContainerRecord
  /** Operations of one container go one after another. */
  tail: Promise<unknown>
  /** Resolves at the exit of the present run. */
  exit: PromiseWithResolvers<number>
  /** Mounts of its snapshot, once known. */
  mounts?: Mount[]
  /** The spec containerd has, as JSON, once known; undefined also if it has none. */
  storedSpec?: string
  /** Releasing the last run's task and output. */
  cleanup?: Promise<void>
  starting?: boolean
  /** Exits told of while it was starting: its own, or late news of a run before. */
  earlyExits: { pid: number; exit: Exited }[]
  /** Counts its runs since this process began. */
  runs: number
  sawOom?: boolean
  /** Set while its files are mounted for somebody, as it does not run: ends that. */
  closeFiles?: (() => Promise<void>) | undefined
}

export const emptyImage: ImageDefaults = { entrypoint: [], cmd: [], env: [], workingDir: '', user: '' }

export function newEntry(record: ContainerRecord): Entry {
  return { record, tail: Promise.resolve(), exit: Promise.withResolvers(), earlyExits: [], runs: 0 }
}

export function checkId(id: string): string {
  if (id.length > MAX_ID || !ID.test(id)) {
    throw new EngineError('invalid', `invalid container id "${id}": at most ${MAX_ID} letters, digits, and single . _ - between them`)
  }
  return id
}

export function defaultsOf(c: ImageDefaults): ImageDefaults {
  return {
    entrypoint: c.entrypoint, cmd: c.cmd, env: c.env, workingDir: c.workingDir, user: c.user,
    ...(c.stopSignal === undefined ? {} : { stopSignal: c.stopSignal }),
  }
}

/** The command line. Docker's rule: an entrypoint of one's own drops the image's command. */
export function commandOf({ spec, image }: ContainerRecord): string[] {
  if (spec.entrypoint !== undefined) return [...spec.entrypoint, ...(spec.args ?? [])]
  return [...image.entrypoint, ...(spec.args ?? image.cmd)]
}

/** Of the container and of what is run in it; PATH, HOME and HOSTNAME are filled in later. */
export function environmentOf({ spec, image }: ContainerRecord, ...more: string[][]): string[] { return mergeEnv(image.env, spec.env, ...more) }

export function cgroupOf(spec: ContainerSpec): string { return join(spec.cgroupParent ?? '/gantry', spec.id) }

/** What the log daemon is told of a container's `log`. */
export function logLimits({ log }: ContainerSpec): Pick<OpenRequest, 'maxBytes' | 'maxFiles' | 'driver' | 'options'> {
  return {
    maxBytes: log?.maxBytes ?? 10 << 20, maxFiles: log?.maxFiles ?? 5, ...(log?.driver === undefined ? {} : { driver: log.driver }),
    ...(log?.options === undefined ? {} : { options: log.options }),
  }
}

export function toInfo(r: ContainerRecord): ContainerInfo {
  const { pid, exitCode, oomKilled, startedAtMs, finishedAtMs, error } = r
  return {
    id: r.spec.id, labels: r.spec.labels ?? {}, image: r.spec.image, imageId: r.imageId, state: r.state, createdAtMs: r.createdAtMs,
    ...(pid === undefined ? {} : { pid }), ...(exitCode === undefined ? {} : { exitCode }), ...(oomKilled === undefined ? {} : { oomKilled }),
    ...(startedAtMs === undefined ? {} : { startedAtMs }), ...(finishedAtMs === undefined ? {} : { finishedAtMs }),
    ...(error === undefined ? {} : { error }),
  }
}
