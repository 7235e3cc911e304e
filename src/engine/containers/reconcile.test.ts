import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ContainerdClient, Envelope, TaskProcess } from '../containerd/index.ts'
import { protoAny } from '../containerd/index.ts'
import type { EngineEvent } from '../engine.ts'
import { EventHub } from './events.ts'
import { emptyImage, newEntry } from './model.ts'
import type { Entry } from './model.ts'
import { ExitWaiters } from './processes.ts'
import { Reconciler } from './reconcile.ts'
import type { ReconcilerOptions } from './reconcile.ts'
import { Runs } from './runs.ts'
import type { RunsOptions } from './runs.ts'
import { ContainerTable } from './table.ts'

/** What containerd does between the question and the use of its answer. */
let meanwhile: () => void
let listed: Partial<TaskProcess>[]
let got: () => Partial<TaskProcess>
let asked = 0
let dir: string
let table: ContainerTable
let runs: Runs
let reconciler: Reconciler
let events: EngineEvent[]

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'gantry-reconcile-'))
  meanwhile = () => undefined
  listed = []
  events = []
  table = new ContainerTable(dir)
  const hub = new EventHub()
  hub.on((e) => { events.push(e) })
  const nothing = async (): Promise<void> => { /* done */ }
  const parts = {
    table, exits: new ExitWaiters(), events: hub, steps: new Set<string>(),
    tasks: { delete: nothing }, logs: { wait: nothing }, attachments: { started: () => undefined },
    sharedMemory: { release: nothing, sweep: nothing },
  }
  Object.assign(parts.tasks, { removeFifos: () => undefined })
  const client = {
    containers: { list: async () => [] }, snapshots: { list: async () => [] },
    tasks: {
      get: async () => got(),
      list: async () => {
        const answer = [...listed]
        meanwhile()
        return answer
      },
    },
  } as unknown as ContainerdClient
  runs = new Runs(parts as unknown as RunsOptions)
  reconciler = new Reconciler({ ...parts, client, runs } as unknown as ReconcilerOptions)
  reconciler.done = true
})

afterEach(async () => {
  for (const e of table.entries.values()) await e.cleanup
  rmSync(dir, { recursive: true, force: true })
})

function container(state: 'running' | 'exited', pid?: number): Entry {
  const entry = newEntry({
    phase: 'ready', spec: { id: 'c', image: 'i', network: 'host' }, imageId: '', image: emptyImage, state, createdAtMs: 1, startedAtMs: 2,
    ...(pid === undefined ? { exitCode: 1, finishedAtMs: 3 } : { pid }),
  })
  table.entries.set('c', entry)
  return entry
}

function exit(pid: number, exitStatus: number): Envelope {
  const exitedAt = { seconds: 5, nanos: 0 }
  return { topic: '/tasks/exit', event: protoAny('containerd.events.TaskExit', { containerId: 'c', id: 'c', pid, exitStatus, exitedAt }) } as unknown as Envelope
}

describe('reconciling with a list that grows old', () => {
  for (const state of ['running', 'exited'] as const) {
    test(`an exit told after the list was made ends a container recorded as ${state}`, async () => {
      const { record } = container(state, state === 'running' ? 70 : undefined)
      listed = [{ id: 'c', containerId: 'c', pid: 70, status: 'RUNNING' }]
      meanwhile = () => { runs.onEvent(exit(70, 3)) }
      await reconciler.run()
      assert.deepEqual([record.state, record.exitCode, record.finishedAtMs], ['exited', 3, 5000])
      assert.equal(events.at(-1)?.type, 'exit')
    })
  }

  test('a container whose shim is too busy to answer goes on, and is asked again', async () => {
    const { record } = container('running', 70)
    listed = [{ id: 'c', containerId: 'c', pid: 70, status: 'UNKNOWN' }]
    const answers = ['UNKNOWN', 'STOPPED'] as const
    got = () => ({ id: 'c', containerId: 'c', pid: 70, status: answers[Math.min(asked++, 1)]!, exitStatus: 5, exitedAt: null })
    await reconciler.run()
    assert.equal(record.state, 'running')
    for (let i = 0; i < 100 && record.state === 'running'; i++) await sleep(20)
    assert.deepEqual([record.state, record.exitCode, asked], ['exited', 5, 2])
  })

  test('a container started after the list was made goes on', async () => {
    const entry = container('exited')
    listed = [{ id: 'c', containerId: 'c', pid: 70, status: 'STOPPED', exitStatus: 1, exitedAt: null }]
    meanwhile = () => { runs.began(entry, 71, 9) }
    await reconciler.run()
    assert.deepEqual([entry.record.state, entry.record.pid], ['running', 71])
  })
})

describe('exits told before a start has answered', () => {
  test('late news of an earlier run does not hide this one\'s', () => {
    const entry = container('exited')
    entry.starting = true
    runs.onEvent(exit(71, 4))
    runs.onEvent(exit(70, 137))
    runs.began(entry, 71, 9)
    entry.starting = false
    runs.settleEarlyExits(entry)
    assert.deepEqual([entry.record.state, entry.record.exitCode], ['exited', 4])
  })
})
