/**
 * How long `gantry up` takes on a machine that is set up: from the command to one node Ready, the launcher included; every time a
 * new cluster in a folder of its own. `node bench/up.ts [ROUNDS]`, as root.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run } from '../test/support/gantry.ts'
import { median, row, spread, timed } from './support.ts'

const rounds = Number(process.argv[2] ?? 5)
const launcher = join(root, 'gantry')
const [fresh, again, down]: [number[], number[], number[]] = [[], [], []]

async function succeed(env: NodeJS.ProcessEnv, ...args: string[]): Promise<void> {
  const r = await run(launcher, args, { env })
  if (r.code !== 0) throw new Error(`gantry ${args.join(' ')} ended with ${r.code}: ${r.stdout}${r.stderr}`)
}

for (let i = -1; i < rounds; i++) {
  const home = mkdtempSync(join(tmpdir(), 'gantry-bench-'))
  const env = { ...process.env, GANTRY_HOME: home, KUBECONFIG: '' }
  try {
    const times = [
      await timed(() => succeed(env, 'up')), await timed(() => succeed(env, 'down')), await timed(() => succeed(env, 'up')),
    ]
    // The first round compiles what a machine has never run.
    if (i < 0) continue
    fresh.push(times[0]!)
    down.push(times[1]!)
    again.push(times[2]!)
  } finally {
    await succeed(env, 'down', '--purge')
    rmSync(home, { recursive: true, force: true })
  }
}
row('gantry up, a new cluster, to one node Ready', spread(fresh), '≤ 2000 ms, aim 1500', median(fresh) <= 2000)
row('  the same cluster again after gantry down', spread(again))
row('  gantry down', spread(down))
