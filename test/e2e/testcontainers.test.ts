/**
 * Testcontainers for Node.js on Gantry's engine, with real servers: Redis and PostgreSQL from Debian's packages. Ryuk, the container
 * that Testcontainers leaves to clean up after a crash, is turned off: its image is Docker Hub's, which tests cannot reach.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type * as Testcontainers from 'testcontainers'
import { GantryEngine } from '../support/docker.ts'
import { run, type Result } from '../support/gantry.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-testcontainers-'))
const TEXT = 'what was written is read: äöü'
let daemon: GantryEngine
let tc: typeof Testcontainers

before(async () => {
  daemon = await GantryEngine.start()
  const tar = join(dir, 'databases.tar')
  const made = await run('mmdebstrap', ['--mode=root', '--variant=minbase', '--format=tar', '--skip=output/dev', '--include=redis-server,postgresql', 'bookworm', tar], {
    timeoutMs: 300_000, env: { ...process.env, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
  })
  assert.equal(made.code, 0, made.stderr.slice(-2000))
  await daemon.ok('import', tar, 'databases:1')
  rmSync(tar)
  // It looks for the daemon when it is loaded.
  Object.assign(process.env, { DOCKER_HOST: daemon.env['DOCKER_HOST'], TESTCONTAINERS_RYUK_DISABLED: 'true', HOME: daemon.env['HOME'] })
  tc = await import('testcontainers')
}, { timeout: 400_000 })

after(async () => {
  await daemon?.stop()
  rmSync(dir, { recursive: true, force: true })
}, { timeout: 120_000 })

async function ok(command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const r: Result = await run(command, args, { env: { ...process.env, ...env } })
  assert.equal(r.code, 0, `${command} ${args.join(' ')}: ${r.stderr}`)
  return r.stdout.trim()
}

/** PostgreSQL's own programs are not on Debian's PATH. */
const POSTGRES = `
FROM databases:1
ENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin PGDATA=/data
RUN mkdir -p /data /run/postgresql && chown postgres:postgres /data /run/postgresql
USER postgres
RUN initdb --auth-host=scram-sha-256 --pwfile=/dev/stdin <<PASSWORD
secret
PASSWORD
RUN echo "host all all all scram-sha-256" >> /data/pg_hba.conf && echo "listen_addresses = '*'" >> /data/postgresql.conf
VOLUME /data
EXPOSE 5432
CMD ["postgres"]
`

describe('containers', () => {
  test('Redis: a published port, a log line to wait for, exec, files copied, restart', { timeout: 180_000 }, async () => {
    const redis = await new tc.GenericContainer('databases:1')
      .withCommand(['redis-server', '/etc/redis/test.conf'])
      .withCopyContentToContainer([{ content: 'bind *\nprotected-mode no\ndir /var/lib/redis\nappendonly yes\nrequirepass word\n', target: '/etc/redis/test.conf' }])
      .withExposedPorts(6379).withWaitStrategy(tc.Wait.forLogMessage('Ready to accept connections')).start()
    const cli = (...args: string[]): Promise<string> =>
      ok('redis-cli', ['-h', redis.getHost(), '-p', String(redis.getMappedPort(6379)), ...args], { REDISCLI_AUTH: 'word' })
    try {
      assert.equal(await cli('set', 'key', TEXT), 'OK')
      assert.equal(await cli('--raw', 'get', 'key'), TEXT)
      const inside = await redis.exec(['redis-cli', '-a', 'word', '--no-auth-warning', '--raw', 'get', 'key'])
      assert.deepEqual([inside.exitCode, inside.output.trim()], [0, TEXT])
      assert.equal((await redis.exec(['sh', '-c', 'echo to stderr >&2; exit 3'])).exitCode, 3)
      await redis.restart()
      assert.equal(await cli('--raw', 'get', 'key'), TEXT)
      const logs = await redis.logs()
      let text = ''
      for await (const chunk of logs) {
        text += String(chunk)
        if (/Ready to accept connections[^]*Ready to accept connections/.test(text)) break
      }
      logs.destroy()
      const archive = await redis.copyArchiveFromContainer('/etc/redis/test.conf')
      const parts: Buffer[] = []
      for await (const p of archive) parts.push(p as Buffer)
      assert.match(Buffer.concat(parts).toString('latin1'), /requirepass word/)
    } finally {
      await redis.stop()
    }
    assert.equal(await daemon.ok('ps', '-aq'), '')
  })

  test('PostgreSQL: built from a Dockerfile, healthy, on a network with a client of its own', { timeout: 300_000 }, async () => {
    writeFileSync(join(dir, 'Dockerfile'), POSTGRES)
    const image = await tc.GenericContainer.fromDockerfile(dir).build('postgres-of-debian:1', { deleteOnExit: false })
    const network = await new tc.Network().start()
    const server = await image.withNetwork(network).withNetworkAliases('db').withExposedPorts(5432)
      .withTmpFs({ '/scratch': 'rw,size=16m' })
      .withHealthCheck({ test: ['CMD-SHELL', 'pg_isready'], interval: 300, timeout: 3_000, retries: 50 })
      .withWaitStrategy(tc.Wait.forAll([tc.Wait.forHealthCheck(), tc.Wait.forListeningPorts()])).start()
    try {
      const url = `postgresql://postgres@${server.getHost()}:${server.getMappedPort(5432)}/postgres`
      const psql = (sql: string): Promise<string> => ok('psql', ['-At', '-v', 'ON_ERROR_STOP=1', '-c', sql, url], { PGPASSWORD: 'secret' })
      await psql('create table t (n int primary key, words text)')
      await psql(`insert into t select n, '${TEXT} ' || n from generate_series(1, 10000) n`)
      assert.equal(await psql('select count(*), max(words) from t where n <= 5'), `5|${TEXT} 5`)
      const client = await new tc.GenericContainer('databases:1').withNetwork(network).withEnvironment({ PGPASSWORD: 'secret' })
        .withEntrypoint(['psql', '-At', '-h', 'db', '-U', 'postgres', '-c', 'select sum(n) from t']).withWaitStrategy(tc.Wait.forOneShotStartup()).start()
      let said = ''
      for await (const chunk of await client.logs()) said += String(chunk)
      assert.equal(said.trim(), '50005000')
      await client.stop()
    } finally {
      await server.stop()
      await network.stop()
    }
    assert.equal(await daemon.ok('ps', '-aq'), '')
    assert.equal(await daemon.ok('volume', 'ls', '-q'), '')
  })

  test('what does not start is told with its log', { timeout: 120_000 }, async () => {
    const failing = new tc.GenericContainer('databases:1').withCommand(['sh', '-c', 'echo cannot go on; exit 1'])
      .withWaitStrategy(tc.Wait.forLogMessage('never said')).withStartupTimeout(10_000)
    await assert.rejects(failing.start(), /Log stream ended and message "never said" was not received|cannot go on/)
    assert.equal(await daemon.ok('ps', '-q'), '')
  })
})
