import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lockMachine } from './lock.ts'

test('who comes second waits until the first gives the lock back', async () => {
  const order: string[] = []
  const first = await lockMachine(() => order.push('waits for another gantry'))
  order.length = 0
  const second = lockMachine(() => order.push('second waits')).then(unlock => {
    order.push('second has it')
    unlock()
  })
  await new Promise(resolve => { setTimeout(resolve, 150) })
  order.push('first gives it back')
  first()
  await second
  assert.deepEqual(order, ['second waits', 'first gives it back', 'second has it'])
})
