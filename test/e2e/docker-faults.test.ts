/** The daemons of `gantry engine` killed at any moment of any work: nothing acknowledged is lost, nothing half-done stays, containers run on. */
import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe, test } from 'node:test'
import { DockerApiClient } from '../support/docker-api.ts'
import { Chaos, type ContainerView } from '../support/docker-chaos.ts'
import { answers, Dice, type EngineDaemon, endPullLeases, killDaemon, leftOver, restingInventory } from '../support/docker-faults.ts'
import { dockerCommands, GantryEngine } from '../support/docker.ts'
import { FakeRegistry } from '../support/fake-registry.ts'
import { waitFor } from '../support/gantry.ts'
import { busyboxArchive } from '../support/transcript.ts'

/** A run that failed is tried again with the number it printed: the moments are the same, the machine's pace is not. */
const SEED = Number(process.env['GANTRY_FAULTS_SEED'] ?? randomInt(1e9))
const ROUNDS = Number(process.env['GANTRY_FAULTS_ROUNDS'] ?? 8)
const CLIENTS = 6
/** containerd collects its garbage some seconds after a removal. */
const SETTLED_MS = 20_000

const skip = process.getuid?.() !== 0 ? 'needs root' : dockerCommands.length === 0 ? 'needs the docker command' : false
const dir = mkdtempSync(join(tmpdir(), 'gantry-docker-faults-'))

describe('gantry engine under kill -9', { skip }, () => {
  let engine: GantryEngine
  let api: DockerApiClient
  let archive: Buffer
  const registry = new FakeRegistry()

  before(async () => {
    await registry.start()
    engine = await GantryEngine.start()
    api = new DockerApiClient(engine.socket)
    archive = readFileSync(await busyboxArchive(dir, engine))
  }, { timeout: 120_000 })

  after(async () => {
    registry.stop()
    await engine?.stop()
    rmSync(dir, { recursive: true, force: true })
  }, { timeout: 120_000 })

  const inspect = (name: string): Promise<ContainerView> => api.json<ContainerView>('GET', `/containers/${name}/json`)

  test(`daemons killed ${ROUNDS} times in the midst of everything`, { timeout: ROUNDS * 60_000 }, async t => {
    t.diagnostic(`seed ${SEED}`)
    const dice = new Dice(SEED)
    await engine.ok('network', 'create', 'chaos')
    await engine.ok('run', '-d', '--name', 'steady', '-p', '0:80', '-v', 'steady:/v', '--network', 'chaos', 'busybox', 'httpd', '-f', '-h', '/etc')
    await engine.ok('run', '-d', '--name', 'phoenix', '--restart', 'always', '-v', 'phoenix:/v', 'busybox', 'sh', '-c', 'echo began >>/v/runs; sleep 0.5; exit 3')
    const port = /:(\d+)$/m.exec(await engine.ok('port', 'steady', '80'))![1]!
    const runs = (): number => readFileSync(join(engine.dir, 'lib/engine/volumes/phoenix/_data/runs'), 'utf8').length
    const steady = (await inspect('steady')).State
    await engine.ok('stop', '-t', '0', 'phoenix')
    // The same image has other blobs once it has been loaded.
    await api.ok('POST', '/images/load', archive)
    const baseline = await restingInventory(engine)
    const problems: string[] = []
    let [cut, done] = [0, 0]
    for (let round = 0; round < ROUNDS; round++) {
      const daemon: EngineDaemon = dice.chance(0.7) ? 'engine' : dice.of(['logger', 'containerd'])
      const [delayMs, exitMs, exitCode] = [20 + dice.below(900), dice.below(1000), 1 + dice.below(100)]
      const began = performance.now()
      await engine.ok('start', 'phoenix')
      const chaos = new Chaos(api, new Dice(dice.below(2 ** 31)), registry, archive)
      chaos.start(`r${round}`, CLIENTS)
      chaos.containers.set(`r${round}-exits`, { presence: 'unsure' })
      await api.ok('POST', `/containers/create?name=r${round}-exits`, { Image: 'busybox', Cmd: ['sh', '-c', `usleep ${exitMs * 1000}; exit ${exitCode}`] })
      await api.ok('POST', `/containers/r${round}-exits/start`)
      await sleep(delayMs)
      await killDaemon(engine, daemon)
      await answers(api)
      const backMs = performance.now() - began - delayMs
      const runsBefore = runs()
      await sleep(dice.below(300))
      await chaos.stop()
      const say = (what: string): void => { problems.push(`round ${round}, ${daemon} killed after ${delayMs} ms: ${what}`) }
      const check = async (what: string, work: () => Promise<unknown>): Promise<void> => { await work().catch((e: unknown) => { say(`${what}: ${(e as Error).message}`) }) }
      await check('acknowledged', async () => { for (const c of await chaos.contradictions()) say(c) })
      await check('steady', async () => assert.deepEqual((await inspect('steady')).State, steady))
      await check('its port', async () => assert.match(await (await fetch(`http://127.0.0.1:${port}/passwd`)).text(), /^root:/))
      await check('an exit meanwhile', () => waitFor('its code', 5_000, async () => {
        const { State: s } = await inspect(`r${round}-exits`)
        assert.deepEqual([s.Status, s.ExitCode], ['exited', exitCode])
        return true
      }))
      await check('restart policy', () => waitFor('a container that ends to begin again', 15_000, () => runs() > runsBefore)
        .catch(async (e: unknown) => { throw new Error(`${JSON.stringify((await inspect('phoenix')).State)}\n${engine.logs()}`, { cause: e }) }))
      await check('stop', () => engine.ok('stop', '-t', '0', 'phoenix'))
      await check('removing all', () => chaos.clear())
      await check('pulls that were cut off', () => endPullLeases(engine))
      for (const d of await leftOver(engine, baseline, SETTLED_MS)) say(d)
      ;[cut, done] = [cut + chaos.cut.length, done + chaos.done]
      t.diagnostic(`round ${round}: ${daemon} after ${delayMs} ms, back after ${backMs.toFixed(0)} ms; ${chaos.done} done, cut off: ${chaos.cut.join(', ')}; refused: ${chaos.refused.join(' | ')}`)
      if (problems.length > 30) break
    }
    t.diagnostic(`${done} requests done, ${cut} cut off`)
    assert.deepEqual(problems, [], `seed ${SEED}`)
    await engine.ok('rm', '-f', '-v', 'steady', 'phoenix')
    await engine.ok('volume', 'rm', 'steady', 'phoenix')
    await engine.ok('network', 'rm', 'chaos')
  })
})
