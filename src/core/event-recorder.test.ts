import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '../controllers/testing/manual-clock.ts'
import type { Client } from './client.ts'
import { ApiError } from './errors.ts'
import { EventRecorder } from './event-recorder.ts'
import type { Event, Pod } from './types/index.ts'

const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'ns', uid: 'u1' }, spec: { containers: [] } }

/** Takes what is written; `fail` may refuse. */
function recorder(fail: () => Error | undefined = () => undefined) {
  const clock = new ManualClock()
  const written: Event[] = []
  const write = async (e: Event): Promise<void> => {
    const error = fail()
    if (error !== undefined) throw error
    written.push(e)
  }
  const client = {
    create: (_kind: unknown, e: Event) => write({ ...e }),
    patch: (_kind: unknown, _key: unknown, _type: unknown, e: Event) => write(e),
  } as unknown as Client
  return { clock, written, events: new EventRecorder(client, { component: 'c', host: 'n1', clock }) }
}

test('repeats are counted on one event; another part of the object is another event', async () => {
  const { clock, written, events } = recorder()
  for (let i = 0; i < 3; i++) events.record(pod, 'Warning', 'BackOff', 'again')
  events.record({ kind: 'Pod', namespace: 'ns', name: 'p', uid: 'u1', fieldPath: 'spec.containers{a}' }, 'Warning', 'BackOff', 'again')
  await clock.advance(1000)
  assert.deepEqual(written.map(e => [e.count, e.involvedObject?.fieldPath]), [[3, undefined], [1, 'spec.containers{a}']])
  assert.deepEqual(written[0]!.source, { component: 'c', host: 'n1' })
  events.record(pod, 'Warning', 'BackOff', 'again')
  await clock.advance(1000)
  assert.deepEqual(Object.keys(written[2]!).sort(), ['count', 'lastTimestamp'])
  assert.equal(written[2]!.count, 4)
})

test('what an absent API does not take is written later; what it refuses is dropped', async () => {
  let error: Error | undefined = new ApiError('ServiceUnavailable', 'away')
  const { clock, written, events } = recorder(() => error)
  for (let i = 0; i < 20; i++) events.record(pod, 'Normal', 'R', `m${i}`)
  await clock.advance(1000)
  assert.equal(written.length, 0)
  error = undefined
  await clock.advance(5_000)
  assert.equal(written.length, 20)
  error = new ApiError('Forbidden', 'the namespace is going')
  events.record(pod, 'Normal', 'R', 'late')
  await clock.advance(1000)
  error = undefined
  await clock.advance(60_000)
  assert.equal(written.length, 20)
})
