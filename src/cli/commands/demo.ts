/** `gantry demo`: the talk's story on this machine, every step the command a user could type. */
import type { Command } from 'commander'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pods } from '../../core/kinds.ts'
import { readClusterFile } from '../../machines/cluster-file.ts'
import { layout } from '../../machines/layout.ts'
import { type Session, session } from '../context.ts'
import { gantry, heading, isReady, tell, visit, visitors, visitUntil, whenPods } from '../demo/tools.ts'
import { line, paint, UserError } from '../output.ts'
import { nodesReady } from './up.ts'

/** As short as it can be typed from here. */
const example = (path: string) => {
  const whole = fileURLToPath(new URL(`../../../examples/${path}`, import.meta.url))
  const short = relative(process.cwd(), whole)
  return short.startsWith('..') ? whole : short
}
const APP = 'name=lattice-app'
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

export function register(program: Command): void {
  program.command('demo')
    .description('tell the talk\'s story for real: a cluster of three nodes, Compose, a replicated application, failures, an update')
    .addHelpText('after', '\nExample:\n  gantry demo\n  gantry down --purge')
    .action(async (_o: object, command: Command) => {
      await heading('1. A cluster of three nodes on this machine')
      await gantry('up', '--nodes', '3')
      const s = session(command)
      const cluster = readClusterFile(layout())!
      try {
        await images()
        await composeStory()
        await replicated(s, cluster.httpPort, cluster.domain)
        await update(s, cluster.httpPort, cluster.domain)
        await look()
        await reach(cluster.httpPort, cluster.domain)
      } finally {
        s.client.close()
      }
    })
}

async function images(): Promise<void> {
  await heading('2. A base image, where no registry is needed')
  await gantry('image', 'bootstrap', 'debian:bookworm', '--if-missing')
}

async function composeStory(): Promise<void> {
  await heading('3. The talk\'s Compose file: Flask counts visits in Redis')
  await gantry('build', '-q', '-t', 'redis', example('redis'))
  await gantry('compose', 'up', '-f', example('talk/docker-compose.yml'))
  await visitUntil('the counter answers', 5000, 'localhost', '/', a => a.status === 200)
  await line(paint('cyan', '$ curl http://localhost:5000/   # three times'))
  for (let n = 0; n < 3; n++) await line((await visit(5000, 'localhost')).text.trim())
}

async function replicated(s: Session, port: number, domain: string): Promise<void> {
  const host = `lattice-app.${domain}`
  await heading('4. The talk\'s ReplicationController, as on its slide')
  await gantry('build', '-q', '-t', 'mstine/lattice-app', '--build-arg', 'VERSION=1', example('lattice-app'))
  await gantry('apply', '-f', example('talk/lattice-app.json'))
  await whenPods(s.client, APP, 'three instances are ready', all => all.filter(isReady).length === 3)

  await heading('5. A route to all instances; then more of them, fewer of them, and a node less')
  await gantry('route', 'add', 'lattice-app', '--port', '8080')
  const seen = new Set<string>()
  // An instance is ready when its process runs, and listens a moment later: the router finds out by trying.
  await visitUntil('all three instances answer', port, host, '/json', a => {
    if (a.status === 200) seen.add((JSON.parse(a.text) as { name: string }).name)
    return seen.size === 3
  })
  await tell(`http://${host}${port === 80 ? '' : `:${port}`}/ answered from ${[...seen].sort().join(', ')}`)

  await gantry('scale', 'lattice-app-controller', '6')
  await tell(`six ready after ${seconds(await whenPods(s.client, APP, 'six instances are ready', all => all.filter(isReady).length === 6))}`)

  await crashOne(s, port, host)
  await loseNode(s)
}

async function crashOne(s: Session, port: number, host: string): Promise<void> {
  await line(paint('cyan', `$ curl http://${host}/crash   # twice the same instance would wait longer: back-off`))
  const restarts = async () => (await s.client.list(pods, { labelSelector: APP })).items
    .reduce((sum, p) => sum + (p.status?.containerStatuses?.[0]?.restartCount ?? 0), 0)
  const before = await restarts()
  for (let n = 0; n < 2; n++) {
    const restarted = whenPods(s.client, APP, 'the crashed instance was started again', all =>
      all.reduce((sum, p) => sum + (p.status?.containerStatuses?.[0]?.restartCount ?? 0), 0) > before + n)
    await visit(port, host, '/crash')
    await tell(`crashed; started again after ${seconds(await restarted)}`)
  }
  await whenPods(s.client, APP, 'all six are ready again', all => all.filter(isReady).length === 6)
}

async function loseNode(s: Session): Promise<void> {
  const victim = 'node-2'
  const restored = whenPods(s.client, APP, 'six instances run on the other nodes',
    all => all.filter(p => isReady(p) && p.spec.nodeName !== victim).length >= 6)
  const began = performance.now()
  await gantry('machine', 'kill', victim)
  await restored
  await tell(`six ready on the remaining nodes ${seconds(performance.now() - began)} after the kill`)
  await gantry('nodes')
  await gantry('machine', 'start', victim)
  await nodesReady(s, readClusterFile(layout())!, 30_000)
}

async function update(s: Session, port: number, domain: string): Promise<void> {
  const host = `lattice-app.${domain}`
  await heading('6. A rolling update while visitors keep coming')
  await gantry('build', '-q', '-t', 'mstine/lattice-app:2', '--build-arg', 'VERSION=2', example('lattice-app'))
  await tell('a ReplicationController cannot roll; its application moves to a Deployment, whose instances bear the same label')
  const crowd = visitors(8, port, host, '/version')
  let took = 0
  try {
    took = await moveAndUpdate(s)
  } finally {
    await crowd.stop()
  }
  const { requests, failed, seen } = await crowd.stop()
  await line(`${requests} requests during the move and the update, ${seconds(took)} of it: ${paint(failed === 0 ? 'green' : 'red', `${failed} failed`)}; `
    + `answers: ${[...seen].map(([text, n]) => `${n} from version ${text.trim()}`).join(', ')}`)
  if (failed > 0) throw new UserError(`${failed} requests failed during the update`)
}

/** Resolves with the milliseconds of the rolling update. */
async function moveAndUpdate(s: Session): Promise<number> {
  await gantry('apply', '-f', example('talk/lattice-app-deployment.yml'))
  await whenPods(s.client, APP, 'the Deployment\'s six instances are ready', all => all.filter(isReady).length === 12)
  await gantry('delete', 'rc', 'lattice-app-controller')
  await whenPods(s.client, APP, 'the old six are gone', all => all.length === 6)
  await gantry('apply', '-f', example('talk/lattice-app-v2.yml'))
  return whenPods(s.client, APP, 'six instances run version 2',
    all => all.length === 6 && all.every(p => isReady(p) && p.spec.containers[0]!.image === 'mstine/lattice-app:2'))
}

async function look(): Promise<void> {
  await heading('7. One view of everything')
  await gantry('ps')
  await gantry('logs', 'talk', 'lattice-app', '--tail', '2')
  await gantry('nodes')
  await gantry('events', '--tail', '15')
}

async function reach(port: number, domain: string): Promise<void> {
  await heading('It is yours')
  await line(`  http://lattice-app.${domain}${port === 80 ? '' : `:${port}`}/   http://localhost:5000/`)
  await line('  eval "$(./gantry env)"; kubectl get pods -A')
  await line('  ./gantry down --purge          leaves nothing behind')
}
