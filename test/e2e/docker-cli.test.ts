/** `gantry engine` with the real docker commands: what a user does first, and the engine's own life. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { createCA, issueCert } from '../../src/machines/pki.ts'
import { mountsBelow } from '../../src/files/mounts.ts'
import { identify } from '../../src/machines/process.ts'
import type { EngineConfig } from '../../src/machines/layout.ts'
import { namesOf } from '../../src/network/cnm/names.ts'
import { dockerCommands, GantryEngine } from '../support/docker.ts'
import { root, run, waitFor } from '../support/gantry.ts'
import { busyboxArchive, Transcript } from '../support/transcript.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-docker-cli-'))
const skip = process.getuid?.() !== 0 ? 'needs root' : dockerCommands.length === 0 ? 'needs the docker command' : false

describe('gantry engine', { skip }, () => {
  let engine: GantryEngine

  before(async () => {
    engine = await GantryEngine.start()
    await busyboxArchive(dir, engine)
  }, { timeout: 120_000 })

  after(async () => {
    await engine?.stop()
    rmSync(dir, { recursive: true, force: true })
  }, { timeout: 120_000 })

  for (const docker of dockerCommands) {
    describe(docker, () => {
      const call = (args: string[], o: { env?: Record<string, string>; input?: string } = {}) =>
        run(docker, args, { env: { ...engine.env, ...o.env }, ...(o.input !== undefined && { input: o.input }) })

      test('versions: what is spoken, and what is refused', async () => {
        const version = await call(['version', '-f', '{{.Server.APIVersion}} {{.Server.MinAPIVersion}}'])
        assert.equal(version.stdout, '1.50 1.24\n', version.stderr)
        assert.equal((await call(['info', '-f', '{{.Swarm.LocalNodeState}}'])).stdout, 'inactive\n')
        assert.equal((await call(['ps'], { env: { DOCKER_API_VERSION: '1.24' } })).code, 0)
        assert.match((await call(['ps'], { env: { DOCKER_API_VERSION: '1.23' } })).stderr, /client version 1\.23 is too old\. Minimum supported API version is 1\.24/)
        assert.match((await call(['ps'], { env: { DOCKER_API_VERSION: '1.99' } })).stderr, /client version 1\.99 is too new\. Maximum supported API version is 1\.50/)
      })

      test('run: streams of their own, exit codes, nothing left', async () => {
        const r = await call(['run', '--rm', 'busybox', 'sh', '-c', 'echo out; echo err >&2; exit 7'])
        assert.deepEqual(r, { code: 7, stdout: 'out\n', stderr: 'err\n' })
        await waitFor('the container to be gone', 5_000, async () => (await call(['ps', '-aq'])).stdout === '')
        assert.equal((await call(['run', '--rm', 'busybox', '/nonexistent'])).code, 127)
        assert.equal((await call(['run', '--rm', 'busybox', '/etc'])).code, 126)
        assert.equal((await call(['run', '--rm', '--memory', '1k', 'busybox', 'true'])).code, 125)
      })

      test('published ports; a second container on the same one', async () => {
        await engine.ok('run', '-d', '--name', 'web', '-p', '0:80', 'busybox', 'httpd', '-f', '-h', '/etc')
        const port = /:(\d+)$/m.exec((await call(['port', 'web', '80'])).stdout)![1]!
        const answer = await waitFor('the server to answer', 5_000, async () => (await fetch(`http://127.0.0.1:${port}/passwd`)).text())
        assert.match(answer, /^root:/)
        const second = await call(['run', '-d', '--name', 'web2', '-p', `${port}:80`, 'busybox', 'httpd', '-f'])
        assert.equal(second.code, 125)
        assert.match(second.stderr, /port is already allocated/)
        assert.equal((await call(['inspect', '-f', '{{.State.Status}}', 'web2'])).stdout, 'created\n')
        assert.equal((await call(['rm', '-f', 'web', 'web2'])).code, 0)
      })

      test('stdin ends the container; a terminal has its size, detaches, is attached again', async () => {
        assert.deepEqual(await call(['run', '-i', '--rm', 'busybox', 'cat'], { input: 'hi\n' }), { code: 0, stdout: 'hi\n', stderr: '' })
        const t = new Transcript(engine, docker, join(dir, docker.replaceAll('/', '_')))
        const step = await t.terminal('docker run -it --name tty busybox sh', [[/# /, 'stty size\n'], [/24 80[\s\S]*# /, '\x10\x11']])
        assert.equal(step.code, 0, step.stdout)
        assert.equal((await call(['inspect', '-f', '{{.State.Running}}', 'tty'])).stdout, 'true\n')
        const again = await t.terminal('docker attach tty', [[/^/, '\n'], [/# /, 'exit 5\n']])
        assert.equal(again.code, 5, again.stdout)
        assert.equal((await call(['rm', 'tty'])).code, 0)
      })
    })
  }

  const config = (): EngineConfig => JSON.parse(readFileSync(join(engine.dir, 'lib/engine.json'), 'utf8')) as EngineConfig
  const pidOf = (name: string): number => Number(readFileSync(join(engine.dir, 'run/services', `${name}.pid`), 'utf8'))

  test('a second start finds the first, and refuses to be another one', async () => {
    const before = pidOf('engine')
    const found = await engine.gantry('engine', '--detach')
    assert.deepEqual([found.code, found.stdout], [0, `export DOCKER_HOST='unix://${engine.socket}'\n`])
    assert.match(found.stderr, /engine runs at unix:/)
    assert.equal(pidOf('engine'), before)
    const other = await engine.gantry('engine', '--detach', '-H', 'unix:///tmp/elsewhere.sock')
    assert.equal(other.code, 1)
    assert.match(other.stderr, /the engine here listens at unix:.*gantry engine stop/)
    assert.match((await engine.gantry('up')).stderr, /an engine is here/)
  })

  test('containers run on while the daemon is killed, and while the engine is stopped', async () => {
    const id = await engine.ok('run', '-d', '--name', 'lasting', 'busybox', 'sleep', '1000')
    const pid = await engine.ok('inspect', '-f', '{{.State.Pid}}', id)
    process.kill(pidOf('engine'), 'SIGKILL')
    await waitFor('the engine to be back', 20_000, async () => (await engine.docker('ps', '-q')).stdout.trim() === id.slice(0, 12))
    assert.equal(await engine.ok('inspect', '-f', '{{.State.Pid}}', id), pid)
    const stopped = await engine.gantry('engine', 'stop')
    assert.equal(stopped.code, 0, stopped.stderr)
    assert.ok(existsSync(`/proc/${pid}`), 'the container runs on')
    assert.ok(!existsSync(join(engine.dir, 'run/services/supervise.pid')))
    // In the foreground this time: it stays, and TERM stops the daemons alone.
    const foreground: ChildProcess = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(root, 'src/cli/main.ts'), 'engine'],
      { env: { ...process.env, GANTRY_HOME: engine.dir }, stdio: ['ignore', 'pipe', 'pipe'] })
    const ended = new Promise<number | null>(resolve => foreground.once('exit', resolve))
    await new Promise(resolve => foreground.stdout!.once('data', resolve))
    assert.equal(await engine.ok('inspect', '-f', '{{.State.Pid}} {{.State.Status}}', id), `${pid} running`)
    foreground.kill('SIGTERM')
    assert.equal(await ended, 0)
    assert.ok(existsSync(`/proc/${pid}`), 'the container runs on')
    await engine.restart()
    await engine.ok('rm', '-f', 'lasting')
  })

  test('TCP with certificates of the CA alone, half-closed streams included', async () => {
    const certs = join(dir, 'certs')
    mkdirSync(certs)
    const ca = await createCA('docker')
    const server = await issueCert(ca, { commonName: 'engine', server: true, ipAddresses: ['127.0.0.1'] })
    const client = await issueCert(ca, { commonName: 'client', client: true })
    const files = { 'ca.pem': ca.cert, 'server.pem': server.cert, 'server.key': server.key, 'cert.pem': client.cert, 'key.pem': client.key }
    for (const [name, pem] of Object.entries(files)) writeFileSync(join(certs, name), pem, { mode: 0o600 })
    const plain = await engine.gantry('engine', '-H', 'tcp://127.0.0.1:2375')
    assert.match(plain.stderr, /needs --tlscacert, --tlscert and --tlskey/)
    await engine.gantry('engine', 'stop')
    const port = 20_000 + process.pid % 10_000
    const tls = ['--tlscacert', join(certs, 'ca.pem'), '--tlscert', join(certs, 'server.pem'), '--tlskey', join(certs, 'server.key')]
    const started = await engine.gantry('engine', '--detach', '-H', `tcp://127.0.0.1:${port}`, '-H', `unix://${engine.socket}`, ...tls)
    assert.equal(started.code, 0, started.stderr)
    for (const docker of dockerCommands) {
      const env = { ...engine.env, DOCKER_HOST: `tcp://127.0.0.1:${port}`, DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: certs }
      assert.deepEqual(await run(docker, ['run', '-i', '--rm', 'busybox', 'cat'], { env, input: 'over TLS\n' }), { code: 0, stdout: 'over TLS\n', stderr: '' })
      assert.notEqual((await run(docker, ['ps'], { env: { ...env, DOCKER_TLS_VERIFY: '', DOCKER_CERT_PATH: '' } })).code, 0)
    }
  })

  test('purge leaves nothing', async () => {
    await engine.ok('network', 'create', 'net')
    await engine.ok('run', '-d', '--network', 'net', '-v', 'vol:/v', '-p', '0:80', 'busybox', 'sleep', '1000')
    const { instance, bridge } = config()
    const pid = await engine.ok('inspect', '-f', '{{.State.Pid}}', await engine.ok('ps', '-lq'))
    const { group, table } = namesOf(instance)
    const links = async (): Promise<string> => (await run('ip', ['-o', 'link', 'show', 'group', String(group)])).stdout
    assert.notEqual(await links(), '')
    assert.equal((await run('nft', ['list', 'table', 'inet', table])).code, 0)
    const purged = await engine.gantry('engine', 'stop', '--purge')
    assert.equal(purged.code, 0, purged.stderr)
    assert.equal(await links(), '')
    assert.notEqual((await run('nft', ['list', 'table', 'inet', table])).code, 0)
    assert.ok(!existsSync(`/proc/sys/net/ipv4/conf/${bridge}`))
    assert.equal(identify(Number(pid)), undefined, 'its process has ended')
    assert.deepEqual(mountsBelow(engine.dir), [])
    for (const path of ['lib', 'run']) assert.ok(!existsSync(join(engine.dir, path)), path)
    assert.equal((await run('find', ['/sys/fs/cgroup', '-maxdepth', '2', '-name', `gantry-${instance}`])).stdout, '')
    assert.match((await engine.gantry('engine', 'stop', '--purge')).stderr, /there is no engine here/)
  })
})
