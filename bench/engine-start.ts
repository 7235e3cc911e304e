/**
 * How long from nothing to a running container: the engine's create + start against `ctr run -d` on the same containerd, image and
 * network namespace, in turns. Needs root, containerd, runc and busybox-static: `node bench/engine-start.ts [ROUNDS]`.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { IMAGE, TestMachine } from '../test/integration/engine-support.ts'

const rounds = Number(process.argv[2] ?? 15)
const run = promisify(execFile)
const m = new TestMachine()

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await work()
  return performance.now() - from
}

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
    const row = [engine, grouped, plain, peer, create, engine - create]
    for (const [at, list] of Object.values(rows).entries()) list.push(row[at] as number)
  }
  for (const [name, values] of Object.entries(rows)) {
    console.log(`${name.padEnd(20)} median ${median(values).toFixed(1)} ms  (${Math.min(...values).toFixed(1)} – ${Math.max(...values).toFixed(1)})`)
  }
  console.log(`ratio engine / ctr run -d: ${(median(rows['engine']!) / median(rows['ctr run -d']!)).toFixed(2)} (target ≤ 1.5), ${rounds} rounds in turns`)
} finally {
  await m.stop()
}
