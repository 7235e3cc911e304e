import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf, identify, isAlive, signal, waitForEnd } from './process.ts'
import { serviceProcess, startServices, stopServices, supervisorOf, writeServices } from './services.ts'

test('a process is known by pid and start', async () => {
  const child = spawn('sleep', ['60'])
  const id = identify(child.pid!)!
  assert.ok(isAlive(id))
  assert.ok(childrenOf(process.pid).includes(child.pid!))
  assert.ok(!isAlive({ ...id, startTicks: '1' }))
  signal(id, 'SIGKILL')
  assert.ok(await waitForEnd(id, 2000))
  assert.equal(identify(2 ** 22 + 1), undefined)
})

test('the supervisor starts services again, and stops them all', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-services-'))
  try {
    // A service with an argument that a shell would take apart.
    writeServices(dir, [{ name: 'one', command: ['sh', '-c', 'echo "$1" >>"$0.out"; exec sleep 60', join(dir, 'one'), '$(touch /tmp/x) "a  b"'] }])
    await startServices(dir)
    const first = await until(() => existsSync(join(dir, 'one.out')) ? serviceProcess(dir, 'one') : undefined)
    signal(first, 'SIGKILL')
    await until(() => {
      const now = serviceProcess(dir, 'one')
      return now !== undefined && now.pid !== first.pid && readFileSync(join(dir, 'one.out'), 'utf8').split('\n').length === 3 ? now : undefined
    })
    assert.equal(readFileSync(join(dir, 'one.out'), 'utf8'), '$(touch /tmp/x) "a  b"\n'.repeat(2))
    const second = serviceProcess(dir, 'one')!
    await stopServices(dir)
    assert.ok(!isAlive(second))
    assert.equal(supervisorOf(dir), undefined)
  } finally {
    await stopServices(dir)
    rmSync(dir, { recursive: true, force: true })
  }
})

async function until<T>(look: () => T | undefined): Promise<T> {
  for (let n = 0; n < 250; n++) {
    const found = look()
    if (found !== undefined) return found
    await sleep(20)
  }
  throw new Error('it did not come true in 5 s')
}
