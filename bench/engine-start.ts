/**
 * How long from nothing to a running container: the engine's create + start against `ctr run -d` on the same containerd, image and
 * network namespace, in turns. Needs root, containerd, runc and busybox-static: `node bench/engine-start.ts [ROUNDS]`.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { IMAGE, TestMachine } from '../test/integration/engine-support.ts'
import { median, row, spread, timed } from './support.ts'

const rounds = Number(process.argv[2] ?? 15)
const run = promisify(execFile)
const m = new TestMachine()

await m.start()
try {
  const c = m.engine.containers
  const image = m.engine.images.normalize(IMAGE)
  const ctr = (...args: string[]): Promise<unknown> => run('ctr', ['-a', m.options.containerdSocket, '-n', 'gantry', ...args])
  const rows: Record<string, number[]> = { engine: [], 'engine, in a group': [], 'engine, no seccomp': [], 'ctr run -d': [], create: [], start: [] }
  await m.run('holder', ['/bin/sleep', '100000'], { group: 'bench' })
  for (let i = -2; i < rounds; i++) {
    const id = `bench-${i + 2}`
    let create = 0
    const engine = await timed(async () => {
      create = await timed(() => c.create(m.spec(id, ['/bin/sleep', '100000'])))
      await c.start(id)
    })
    await c.remove(id, true)
    const grouped = await timed(async () => {
      await c.create(m.spec(id, ['/bin/sleep', '100000'], { group: 'bench' }))
      await c.start(id)
    })
    await c.remove(id, true)
    const plain = await timed(async () => {
      await c.create(m.spec(id, ['/bin/sleep', '100000'], { seccomp: 'unconfined' }))
      await c.start(id)
    })
    await c.remove(id, true)
    const peer = await timed(() => ctr('run', '-d', '--with-ns', `network:${m.netns}`, image, `ctr-${id}`, '/bin/sleep', '100000'))
    await ctr('task', 'rm', '-f', `ctr-${id}`)
    await ctr('container', 'rm', `ctr-${id}`)
    if (i < 0) continue
    const times = [engine, grouped, plain, peer, create, engine - create]
    for (const [at, list] of Object.values(rows).entries()) list.push(times[at] as number)
  }
  const names: Record<string, string> = {
    engine: 'start a container in a network namespace, engine call to running', create: '  of it create', start: '  of it start',
    'engine, in a group': '  as one more of a pod', 'engine, no seccomp': '  without seccomp', 'ctr run -d': '  ctr run -d, same containerd',
  }
  for (const [key, name] of Object.entries(names)) row(name, spread(rows[key]!, 1))
  const ratio = median(rows['engine']!) / median(rows['ctr run -d']!)
  row('  engine to ctr run -d', ratio.toFixed(2), '≤ 1.5', ratio <= 1.5)
} finally {
  await m.stop()
}
