/** Docker's API of a cluster's nodes: which one `gantry env` names, that it is that node's own, and that restart policies outlive the host. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { DockerDaemon } from '../support/docker.ts'
import { dockerCommands } from '../support/docker.ts'
import { type Result, run, TestCluster, waitFor } from '../support/gantry.ts'
import { busyboxArchive } from '../support/transcript.ts'

const skip = process.getuid?.() !== 0 ? 'needs root' : dockerCommands.length === 0 ? 'needs the docker command' : false

describe('Docker on the nodes of a cluster', { skip }, () => {
  const cluster = new TestCluster()
  const dir = mkdtempSync(join(tmpdir(), 'gantry-docker-cluster-'))
  const hosts = new Map<string, string>()

  const docker = (node: string, ...args: string[]): Promise<Result> =>
    run(dockerCommands[0]!, args, { env: { PATH: process.env['PATH'], HOME: dir, DOCKER_HOST: hosts.get(node) } })
  const ok = async (node: string, ...args: string[]): Promise<string> => {
    const r = await docker(node, ...args)
    assert.equal(r.code, 0, `docker ${args.join(' ')}: ${r.stderr}`)
    return r.stdout.trim()
  }

  before(async () => {
    await cluster.ok('up', '--nodes', '2')
    for (const node of ['node-1', 'node-2']) hosts.set(node, (await cluster.json<{ DOCKER_HOST: string }>('env', '--node', node)).DOCKER_HOST)
    await busyboxArchive(dir, { ok: (...args: string[]) => ok('node-1', ...args) } as DockerDaemon)
  }, { timeout: 120_000 })

  after(async () => {
    await cluster.stop()
    rmSync(dir, { recursive: true, force: true })
  }, { timeout: 120_000 })

  test('env names the first node, or the one asked for', async () => {
    assert.equal((await cluster.json<{ DOCKER_HOST: string }>('env')).DOCKER_HOST, hosts.get('node-1'))
    assert.match(await cluster.ok('env', '--node', 'node-2'), new RegExp(`^export DOCKER_HOST='${hosts.get('node-2')}'$`, 'm'))
    assert.match((await cluster.gantry('env', '--node', 'nope')).stderr, /there is no host "nope" here; there are: node-1, node-2/)
  })

  test('a container is its node\'s, and comes back with its host', async () => {
    const id = await ok('node-1', 'run', '-d', '--restart', 'always', '--name', 'lasting', 'busybox', 'sleep', '1000')
    assert.equal(await ok('node-1', 'ps', '-q', '--no-trunc'), id)
    assert.equal(await ok('node-2', 'ps', '-aq'), '')
    await cluster.ok('machine', 'kill', 'node-1')
    assert.notEqual((await docker('node-1', 'ps')).code, 0)
    await cluster.ok('machine', 'start', 'node-1')
    await waitFor('the container to run again', 30_000, async () => (await docker('node-1', 'ps', '-q', '--no-trunc')).stdout.trim() === id)
    await ok('node-1', 'rm', '-f', 'lasting')
  })
})
