import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { hostAnswers, hostConnections, type StateHandler } from './host-liveness.ts'

test('a host that refuses a connection answers; an address nobody has does not', async () => {
  assert.equal(await hostAnswers('127.0.0.1'), true)
  // Reserved for "this network": the kernel refuses to connect there without sending anything.
  assert.equal(await hostAnswers('255.255.255.255'), false)
})

test('a lost tunnel is told on only when the host is silent, and not at all if it comes back before', async () => {
  let tell: StateHandler = () => {}
  let alive = true
  const seen: string[] = []
  const off = hostConnections(h => { tell = h; return () => {} }, () => 'x', async () => alive)((node, connected) => seen.push(`${node} ${connected}`))
  tell('a', true)
  tell('a', false)
  await sleep(50)
  tell('a', true)
  await sleep(600)
  assert.deepEqual(seen, ['a true', 'a true'])
  alive = false
  tell('a', false)
  await sleep(20)
  assert.deepEqual(seen.at(-1), 'a false')
  off()
})

test('a node without an address is lost with its tunnel', async () => {
  let tell: StateHandler = () => {}
  const seen: string[] = []
  hostConnections(h => { tell = h; return () => {} }, () => undefined)((node, connected) => seen.push(`${node} ${connected}`))
  tell('a', false)
  await sleep(5)
  assert.deepEqual(seen, ['a false'])
})
