import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pods } from '../core/kinds.ts'
import { prepareBinding } from '../core/prepare.ts'
import type { Pod } from '../core/types/index.ts'
import { boundText } from './bound-text.ts'
import { Cached } from './cached.ts'
import { Codec } from './codec.ts'

const codec = new Codec(pods)
const waiting = (more: object = {}): Pod => ({
  apiVersion: 'v1', kind: 'Pod',
  metadata: { name: 'p', namespace: 'n', uid: 'u', annotations: { tricky: '},"status":{"phase":"Pending"}}' } },
  spec: { containers: [{ name: 'c', image: 'größe:1' }] }, status: { phase: 'Pending', message: 'ß "quoted"' }, ...more,
}) as Pod

/** The JSON that a binding gives from what the Pod's state holds, and what encoding would give. */
function both(before: Cached): { text: string | undefined; encoded: string } {
  const bound = prepareBinding(pods, before.object as Pod, 'node "1"', new Date(0))
  const text = boundText(before, bound)?.toString()
  bound.metadata.resourceVersion = undefined
  return { text, encoded: codec.encode(bound).toString() }
}

test('a bound Pod has the JSON that encoding it gives', () => {
  const pod = waiting()
  const plain = new Cached(codec, pod, 7, codec.encode({ ...pod, metadata: { ...pod.metadata } }))
  const { text, encoded } = both(plain)
  assert.equal(text, encoded)
  assert.ok(plain.bytes.includes('"resourceVersion":"7"'))
  assert.equal(both(plain).text, encoded, 'also from the form that clients get')
  const framed = new Cached(codec, waiting(), 8)
  assert.equal(framed.framed('<', '>').toString(), `<${framed.bytes.toString()}>`)
  assert.equal(framed.framed('<', '>').toString(), `<${framed.bytes.toString()}>`, 'and again')
  assert.equal(both(framed).text, encoded)
})

test('a Pod of another order of members, or with an empty nodeName, is left to the encoder', () => {
  const { spec, ...rest } = waiting()
  assert.equal(both(new Cached(codec, { ...rest, spec } as Pod, 7)).text, undefined)
  assert.equal(both(new Cached(codec, waiting({ spec: { ...spec, nodeName: '' } }), 7)).text, undefined)
})
