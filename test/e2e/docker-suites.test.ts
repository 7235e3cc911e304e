/**
 * The test suites of dockerode and of docker-py 5.0.3, unmodified, on Gantry's engine. Their sources are not here: DOCKERODE_SOURCE and
 * DOCKER_PY_SOURCE name checkouts (github.com/apocas/dockerode; github.com/docker/docker-py at 5.0.3). GANTRY_TEST_PEER=1 runs them on dockerd.
 */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { Dockerd, type DockerDaemon, GantryEngine } from '../support/docker.ts'
import {
  type CaseResult, dockerode, dockerPy, type Expected, freePort, type LocalRegistry, startRegistry, stockImages, unexpected,
} from '../support/docker-suites.ts'
import { run } from '../support/gantry.ts'

const HUB = 'needs Docker Hub itself: fails without it on dockerd as well'
const SWARM = 'needs swarm mode, which the engine of one machine does not have'
const WORDS = 'wants the words of Docker before 28, which gives these'

const dockerodeExpected: Expected[] = [
  { name: '#docker #searchImages should return search results', why: HUB },
  { name: '#docker #buildImage should build image with buildKit', why: 'needs a BuildKit session; builds here are served by the builder of version 1' },
]

const dockerPyExpected: Expected[] = [
  { name: 'models_containers_test.ContainerCollectionTest.test_run_with_image_that_does_not_exist', why: HUB },
  { name: 'models_images_test.ImageCollectionTest.test_pull_with_sha', why: HUB },
  { name: 'api_network_test.TestNetworks.test_create_inspect_network_with_scope', why: SWARM },
  { name: 'api_network_test.TestNetworks.test_create_network_attachable', why: SWARM },
  { name: 'api_network_test.TestNetworks.test_create_network_ingress', why: SWARM },
  { name: 'api_network_test.TestNetworks.test_create_check_duplicate', why: 'names of networks are unique since API 1.44, whatever CheckDuplicate says' },
  { name: 'api_container_test.CreateContainerTest.test_create_with_restart_policy', why: WORDS },
  { name: 'errors_test.ErrorsTest.test_api_error_parses_json', why: WORDS },
  { name: 'models_containers_test.ContainerTest.test_exec_run_failed', why: 'a program that is not there gives 127, as since Docker 28, and no longer 126' },
]
/** Of dockerd, whose swarm tests leave a network that takes the addresses of this one. */
const peerExpected: Expected[] = [
  { name: 'api_network_test.TestNetworks.test_create_network_with_ipam_config', why: 'docker_gwbridge has its addresses by then' },
]

const peer = process.env['GANTRY_TEST_PEER'] === '1'
const dir = mkdtempSync(join(tmpdir(), 'gantry-suites-'))
const sources = { dockerode: process.env['DOCKERODE_SOURCE'] ?? '', dockerPy: process.env['DOCKER_PY_SOURCE'] ?? '' }
let daemon: DockerDaemon
let registry: LocalRegistry

function missing(source: string, variable: string): string | false {
  if (source === '') return `${variable} names no checkout`
  return existsSync(source) ? false : `${variable}: ${source} is not there`
}

const absent = { dockerode: missing(sources.dockerode, 'DOCKERODE_SOURCE'), dockerPy: missing(sources.dockerPy, 'DOCKER_PY_SOURCE') }

before(async () => {
  if (absent.dockerode !== false && absent.dockerPy !== false) return
  const port = await freePort()
  const mirror = ['--registry-mirror', `http://127.0.0.1:${port}`]
  daemon = peer ? await Dockerd.start(...mirror) : await GantryEngine.start(...mirror)
  registry = await startRegistry((c, ...a) => daemon.spawnInside(c, ...a), join(dir, 'registry'), port)
  await stockImages(daemon, registry, dir)
}, { timeout: 180_000 })

after(async () => {
  await registry?.stop()
  await daemon?.stop()
  rmSync(dir, { recursive: true, force: true })
}, { timeout: 120_000 })

/** Every failure has a reason here, every reason still holds, and enough was run to mean something. */
function judge(t: TestContext, results: CaseResult[], expected: Expected[], atLeast: number): void {
  const count = (outcome: CaseResult['outcome']): number => results.filter(r => r.outcome === outcome).length
  t.diagnostic(`${count('passed')} passed, ${count('skipped')} skipped by the suite's own marks, ${count('failed')} failed`)
  const bad = unexpected(results, expected)
  assert.deepEqual(bad.map(r => r.name), [], bad.map(r => `${r.name}\n${r.message.slice(-1500)}`).join('\n\n'))
  assert.ok(count('passed') >= atLeast, `${count('passed')} passed`)
  if (!peer) assert.deepEqual(expected.filter(e => results.some(r => r.name === e.name && r.outcome === 'passed')), [], 'these pass by now')
}

test('dockerode', { skip: absent.dockerode, timeout: 900_000 }, async t => {
  judge(t, await dockerode(daemon, sources.dockerode, dir), dockerodeExpected, 93)
})

test('docker-py', { skip: absent.dockerPy, timeout: 1_800_000 }, async t => {
  const ready = await run('/usr/bin/python3', ['-c', 'import pytest, paramiko, requests, websocket'])
  assert.equal(ready.code, 0, `Debian's python3-docker, python3-pytest and python3-paramiko are needed: ${ready.stderr}`)
  judge(t, await dockerPy(daemon, sources.dockerPy, dir), peer ? [...dockerPyExpected, ...peerExpected] : dockerPyExpected, 248)
})
