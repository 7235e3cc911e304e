/** Debian's docker-compose 1.29.2, unmodified, with files of every format, on Gantry's engine. GANTRY_TEST_PEER=1 runs the same on dockerd. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Dockerd, GantryEngine, type DockerDaemon } from '../support/docker.ts'
import { freePort, type LocalRegistry, startRegistry } from '../support/docker-suites.ts'
import { type Result, run, waitFor } from '../support/gantry.ts'
import { busyboxArchive } from '../support/transcript.ts'

const COMMAND_MS = 120_000
const dir = mkdtempSync(join(tmpdir(), 'gantry-compose-'))
const peer = process.env['GANTRY_TEST_PEER'] === '1'
let daemon: DockerDaemon
let registry: LocalRegistry

before(async () => {
  daemon = peer ? await Dockerd.start() : await GantryEngine.start()
  const archive = await busyboxArchive(dir, daemon)
  await daemon.ok('load', '-q', '-i', archive)
  registry = await startRegistry((c, ...a) => daemon.spawnInside(c, ...a), join(dir, 'registry'), await freePort())
  await waitFor('docker-registry', 20_000, async () => (await daemon.inside('curl', '-sf', `http://${registry.host}/v2/`)).code === 0)
}, { timeout: 120_000 })

after(async () => {
  await registry?.stop()
  await daemon?.stop()
  rmSync(dir, { recursive: true, force: true })
}, { timeout: 120_000 })

/** One project in a folder of its own; its name is the folder's. */
class Project {
  readonly name: string
  readonly dir: string
  readonly #env: NodeJS.ProcessEnv

  constructor(name: string, files: Record<string, string>, env: NodeJS.ProcessEnv = {}) {
    this.name = name
    this.dir = join(dir, name)
    this.#env = { ...daemon.env, COMPOSE_ANSI: 'never', ...env }
    for (const [file, text] of Object.entries(files)) this.write(file, text)
  }

  write(file: string, text: string): void {
    const path = join(this.dir, file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
  }

  async try(...args: string[]): Promise<Result> {
    const r = await run('docker-compose', args, { cwd: this.dir, env: this.#env, timeoutMs: COMMAND_MS })
    return { ...r, stdout: plain(r.stdout), stderr: plain(r.stderr) }
  }

  /** stdout; a failure throws. What it does goes to stderr: `told`. */
  async ok(...args: string[]): Promise<string> {
    const r = await this.try(...args)
    assert.equal(r.code, 0, `docker-compose ${args.join(' ')} ended with ${r.code}:\n${r.stdout}\n${r.stderr}\n${daemon.logs()}`)
    return r.stdout
  }

  async told(...args: string[]): Promise<string> {
    const r = await this.try(...args)
    assert.equal(r.code, 0, `docker-compose ${args.join(' ')} ended with ${r.code}:\n${r.stdout}\n${r.stderr}\n${daemon.logs()}`)
    return r.stderr
  }

  spawn(...args: string[]): Watched { return new Watched(spawn('docker-compose', args, { cwd: this.dir, env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] })) }

  /** Names of its containers in any state, sorted. */
  async containers(...filters: string[]): Promise<string[]> {
    const out = await daemon.ok('ps', '-a', '--format', '{{.Names}}', '--filter', `label=com.docker.compose.project=${this.name}`, ...filters.flatMap(f => ['--filter', f]))
    return out.split('\n').filter(Boolean).sort()
  }

  async inspect<T>(container: string, format: string): Promise<T> { return JSON.parse(await daemon.ok('inspect', '--format', `{{json ${format}}}`, container)) as T }
}

/** Compose 1.29 colours its prefixes also where it is asked not to. */
const plain = (text: string): string => text.replaceAll(/\x1b\[\d+m/g, '')

/** A command that goes on, with what it has written so far. */
class Watched {
  out = ''
  readonly #child: ChildProcess
  readonly #ended: Promise<number | null>

  constructor(child: ChildProcess) {
    this.#child = child
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', d => { this.out += plain(String(d)) })
    this.#ended = new Promise(resolve => child.once('close', resolve))
  }

  async shows(pattern: RegExp): Promise<void> {
    await waitFor(`${pattern} in the output`, 30_000, () => pattern.test(this.out)).catch(() => assert.match(this.out, pattern))
  }

  signal(name: NodeJS.Signals): void { this.#child.kill(name) }

  async ended(): Promise<number | null> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 60_000)
    try {
      return await this.#ended
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Runs with a project, and takes it down whatever happens. */
async function project(name: string, files: Record<string, string>, body: (p: Project) => Promise<void>, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const p = new Project(name, files, env)
  try {
    await body(p)
  } finally {
    await p.try('down', '-v', '--remove-orphans', '-t', '1')
  }
}

/** A page from a published port. */
async function page(port: string | number, path = '/'): Promise<string> {
  return waitFor(`an answer at port ${port}`, 15_000, async () => {
    const r = await daemon.inside('curl', '-sf', '--max-time', '2', `http://127.0.0.1:${port}${path}`)
    return r.code === 0 && r.stdout
  })
}

const HTTPD = 'sh -c "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 80 -h /www"'
const SLEEP = 'sh -c "trap exit TERM; while :; do sleep 0.1; done"'

describe('file formats', () => {
  test('version 1: links, variables of links, no network of its own', { timeout: 180_000 }, () => project('talk', {
    'docker-compose.yml': `
web:
  build: .
  ports: ["80"]
  volumes: [".:/code"]
  links: ["redis:db"]
redis:
  image: busybox
  command: ${SLEEP}
  expose: ["6379"]
  environment: {COLOUR: blue}
`,
    Dockerfile: 'FROM busybox\nRUN mkdir -p /www && echo talk > /www/index.html\nCMD ["httpd", "-f", "-p", "80", "-h", "/www"]\n',
  }, async p => {
    const told = await p.told('up', '-d')
    assert.match(told, /Creating talk_redis_1 \.\.\. done[^]*Creating talk_web_1 +\.\.\. done/)
    assert.deepEqual(await p.containers('status=running'), ['talk_redis_1', 'talk_web_1'])
    assert.doesNotMatch(await daemon.ok('network', 'ls', '--format', '{{.Name}}'), /talk/)
    const [address] = Object.values(await p.inspect<Record<string, { IPAddress: string }>>('talk_redis_1', '.NetworkSettings.Networks')).map(n => n.IPAddress)
    assert.match(await p.ok('exec', '-T', 'web', 'cat', '/etc/hosts'), new RegExp(`^${address}\\s.*\\bdb\\b`, 'm'))
    const env = await p.ok('exec', '-T', 'web', 'env')
    for (const line of [`DB_PORT_6379_TCP_ADDR=${address}`, `DB_PORT=tcp://${address}:6379`, 'DB_ENV_COLOUR=blue', 'DB_NAME=/talk_web_1/db']) {
      assert.ok(env.split('\n').includes(line), `${line} in\n${env}`)
    }
    assert.equal(await page((await p.ok('port', 'web', '80')).trim().split(':')[1]!), 'talk\n')
    assert.match(await p.ok('exec', '-T', 'web', 'ls', '/code'), /docker-compose\.yml/)
  }))

  test('version 2: extends, volumes_from, network_mode, limits, depends_on with conditions', { timeout: 180_000 }, () => project('two', {
    'docker-compose.yml': `
version: "2.4"
services:
  base:
    extends: {file: common.yml, service: sleeper}
    volumes: ["data:/data", "/anonymous"]
    command: sh -c "echo kept > /data/file; exec sleep 1000"
    mem_limit: 64m
    cpus: 0.5
  sharer:
    extends: {file: common.yml, service: sleeper}
    volumes_from: ["base:ro"]
    network_mode: "service:base"
    depends_on: {base: {condition: service_healthy}}
volumes: {data: {labels: {tier: two}}}
`,
    'common.yml': `
version: "2.4"
services:
  sleeper:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    labels: {from: common}
    healthcheck: {test: test -f /data/file, interval: 200ms, timeout: 2s, retries: 50}
`,
  }, async p => {
    await p.ok('up', '-d')
    assert.equal(await p.ok('exec', '-T', 'sharer', 'cat', '/data/file'), 'kept\n')
    const refused = await p.try('exec', '-T', 'sharer', 'touch', '/data/no')
    assert.match(refused.stdout + refused.stderr, /Read-only/)
    const [base] = (await p.ok('ps', '-q', 'base')).trim().split('\n')
    assert.equal(await p.inspect('two_sharer_1', '.HostConfig.NetworkMode'), `container:${base}`)
    assert.equal(await p.ok('exec', '-T', 'sharer', 'hostname'), await p.ok('exec', '-T', 'base', 'hostname'))
    assert.equal(await p.inspect('two_base_1', '.HostConfig.Memory'), 64 << 20)
    assert.equal(await p.inspect('two_base_1', '.HostConfig.NanoCpus'), 500_000_000)
    assert.equal((await p.inspect<Record<string, string>>('two_base_1', '.Config.Labels'))['from'], 'common')
    assert.equal(await daemon.ok('volume', 'inspect', '--format', '{{.Labels.tier}}', 'two_data'), 'two')
  }))

  test('version 3 and an override: deploy, secrets, configs, env files, interpolation', { timeout: 180_000 }, () => project('three', {
    'docker-compose.yml': `
version: "3.8"
services:
  app:
    image: busybox:\${TAG:-none}
    command: sleep 1000
    env_file: [app.env]
    environment: ["OWN=\${OWN:?must be set}", PASSED]
    deploy: {replicas: 2, restart_policy: {condition: on-failure, max_attempts: 3}}
    secrets: [{source: token, target: key, mode: 0400}]
    stop_grace_period: 1s
    ulimits: {nofile: {soft: 1000, hard: 2000}}
    sysctls: {net.core.somaxconn: 512}
    tmpfs: /scratch
    read_only: true
    cap_drop: [ALL]
secrets: {token: {file: ./token.txt}}
`,
    'docker-compose.override.yml': 'version: "3.8"\nservices: {app: {labels: {over: ridden}, hostname: inside, extra_hosts: ["far:192.0.2.9"], dns: 192.0.2.53, init: true}}\n',
    'app.env': '# comment\nFROM_FILE=yes\nOWN=file\n',
    '.env': 'TAG=latest\nOWN=dotenv\n',
    'token.txt': 's3cret',
  }, async p => {
    await p.ok('--compatibility', 'up', '-d')
    assert.deepEqual(await p.containers(), ['three_app_1', 'three_app_2'])
    const env = (await p.ok('exec', '-T', '--index', '2', 'app', 'env')).split('\n')
    for (const line of ['FROM_FILE=yes', 'OWN=dotenv', 'PASSED=shell', 'HOSTNAME=inside']) assert.ok(env.includes(line), `${line} in ${env.join(' ')}`)
    assert.equal(await p.ok('exec', '-T', 'app', 'cat', '/run/secrets/key'), 's3cret')
    assert.match(await p.ok('exec', '-T', 'app', 'sh', '-c', 'ulimit -n; ulimit -Hn; cat /proc/sys/net/core/somaxconn; cat /etc/hosts; echo x > /scratch/x && echo wrote'),
      /^1000\n2000\n512\n[^]*192\.0\.2\.9\s+far\n[^]*wrote\n$/)
    assert.notEqual((await p.try('exec', '-T', 'app', 'touch', '/x')).code, 0)
    assert.deepEqual(await p.inspect('three_app_1', '.HostConfig.RestartPolicy'), { Name: 'on-failure', MaximumRetryCount: 3 })
    assert.equal((await p.inspect<Record<string, string>>('three_app_1', '.Config.Labels'))['over'], 'ridden')
    assert.match(await p.ok('exec', '-T', 'app', 'cat', '/proc/1/comm'), /init/)
  }, { PASSED: 'shell' }))

  test('the specification: no version, profiles, config', { timeout: 180_000 }, () => project('spec', {
    'compose.yaml': `
services:
  always: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, deploy: {resources: {limits: {memory: 32M}}}}
  debug: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, profiles: [dev]}
`,
  }, async p => {
    assert.equal(await p.ok('config', '--services'), 'always\ndebug\n')
    assert.match(await p.ok('config', '--hash', '*'), /^always [0-9a-f]{64}\n/)
    await p.ok('up', '-d')
    assert.deepEqual(await p.containers(), ['spec_always_1'])
    await p.ok('--profile', 'dev', 'up', '-d')
    assert.deepEqual(await p.containers(), ['spec_always_1', 'spec_debug_1'])
    assert.equal(await p.inspect('spec_always_1', '.HostConfig.Memory'), 32 << 20)
  }))
})

describe('the life of a project', () => {
  const files = {
    'docker-compose.yml': `
version: "3.8"
services:
  web:
    image: busybox
    command: ${HTTPD}
    stop_signal: SIGKILL
    ports: ["80"]
    environment: {GENERATION: "\${GENERATION:-1}"}
    volumes: [/anonymous, "named:/named"]
  worker:
    image: busybox
    command: sh -c "echo started; trap 'echo stopping; exit 0' TERM; while :; do sleep 0.1; done"
    depends_on: [web]
volumes: {named: }
`,
  }

  test('up, ps, exec, stop, start, restart, pause, kill, rm, down', { timeout: 240_000 }, () => project('life', files, async p => {
    const told = await p.told('up', '-d')
    assert.match(told, /Creating network "life_default" with the default driver/)
    assert.match(told, /Creating volume "life_named" with default driver/)
    assert.match(await p.told('up', '-d'), /life_web_1 is up-to-date\nlife_worker_1 is up-to-date/)
    const ps = await p.ok('ps')
    assert.match(ps, /life_web_1 .* Up +0\.0\.0\.0:\d+->80\/tcp/)
    assert.match(ps, /life_worker_1 .* Up\b/)
    assert.equal(await p.ok('ps', '--services', '--filter', 'status=running'), 'web\nworker\n')
    assert.equal((await p.try('exec', '-T', 'web', 'sh', '-c', 'exit 7')).code, 7)
    assert.equal(await p.ok('exec', '-T', '-e', 'X=1', '-u', '1000', '-w', '/tmp', 'web', 'sh', '-c', 'echo $X $(id -u) $(pwd)'), '1 1000 /tmp\n')
    assert.match(await p.ok('exec', '-T', 'worker', 'wget', '-qO-', 'http://web/'), /^[0-9a-f]{12}\n$/)
    assert.match(await p.ok('top', 'worker'), /life_worker_1[^]*PID[^]*sh -c/)
    assert.match(await p.ok('images'), /life_web_1 +busybox +latest +[0-9a-f]{12}/)

    assert.match(await p.told('stop', '-t', '5', 'worker'), /Stopping life_worker_1 \.\.\. done/)
    assert.match(await p.ok('ps'), /life_worker_1 .* Exit 0/)
    assert.match(await p.ok('logs', '--no-color', 'worker'), /worker_1 {2}\| started\nworker_1 {2}\| stopping\n$/)
    await p.ok('start', 'worker')
    await p.ok('pause', 'web')
    assert.match(await p.ok('ps'), /life_web_1 .* Paused/)
    await p.ok('unpause', 'web')
    const before = await p.inspect<string>('life_web_1', '.State.StartedAt')
    await p.ok('restart', '-t', '1', 'web')
    assert.notEqual(await p.inspect('life_web_1', '.State.StartedAt'), before)
    assert.match(await page((await p.ok('port', 'web', '80')).trim().split(':')[1]!), /^[0-9a-f]{12}\n$/)
    await p.ok('kill', '-s', 'SIGTERM', 'worker')
    await waitFor('the end of the worker', 10_000, async () => !await p.inspect<boolean>('life_worker_1', '.State.Running'))
    assert.match(await p.told('rm', '-f', 'worker'), /Removing life_worker_1 \.\.\. done/)
    assert.deepEqual(await p.containers(), ['life_web_1'])

    const down = await p.told('down', '-v', '-t', '1')
    for (const line of ['Removing life_web_1 ... done', 'Removing network life_default', 'Removing volume life_named']) assert.ok(down.includes(line), down)
    assert.deepEqual(await p.containers(), [])
    assert.doesNotMatch(await daemon.ok('volume', 'ls', '-q'), /life/)
    assert.match(await p.told('down'), /Network life_default not found\./)
  }))

  test('a changed variable and a changed image recreate; anonymous volumes stay; nothing is left over', { timeout: 240_000 }, async () => {
    await daemon.ok('tag', 'busybox', 'changing:1')
    await project('again', { 'docker-compose.yml': files['docker-compose.yml'].replaceAll('image: busybox', 'image: changing:1') }, async p => {
      await p.ok('up', '-d')
      await p.ok('exec', '-T', 'web', 'sh', '-c', 'echo old > /anonymous/file')
      const [first] = (await p.ok('ps', '-q', 'web')).split('\n')

      const q = new Project('again', {}, { GENERATION: '2' })
      assert.match(await q.told('up', '-d', '-t', '1'), /Recreating again_web_1 \.\.\. done/)
      assert.deepEqual(await p.containers(), ['again_web_1', 'again_worker_1'])
      assert.equal(await q.ok('exec', '-T', 'web', 'cat', '/anonymous/file'), 'old\n')
      assert.match(await q.ok('exec', '-T', 'web', 'env'), /^GENERATION=2$/m)
      const [second] = (await q.ok('ps', '-q', 'web')).split('\n')
      assert.notEqual(second, first)

      // Compose looks into the image's ContainerConfig for volumes when it recreates.
      p.write('other/Dockerfile', 'FROM busybox\nRUN echo new > /generation\n')
      await daemon.ok('build', '-q', '-t', 'changing:1', join(p.dir, 'other'))
      assert.match(await q.told('up', '-d', '-t', '1'), /Recreating again_web_1 +\.\.\. done/)
      assert.equal(await q.ok('exec', '-T', 'web', 'cat', '/generation', '/anonymous/file'), 'new\nold\n')
      assert.deepEqual(await p.containers(), ['again_web_1', 'again_worker_1'])

      assert.match(await q.told('up', '-d', '-t', '1', '--force-recreate', '-V', 'web'), /Recreating again_web_1 +\.\.\. done/)
      assert.notEqual((await q.try('exec', '-T', 'web', 'cat', '/anonymous/file')).code, 0)
    })
  })

  test('scale up and down, one index of many, a port of each', { timeout: 180_000 }, () => project('many', files, async p => {
    await p.ok('up', '-d', '--scale', 'web=3')
    assert.deepEqual(await p.containers(), ['many_web_1', 'many_web_2', 'many_web_3', 'many_worker_1'])
    const pages = await Promise.all([1, 2, 3].map(async i => page((await p.ok('port', '--index', String(i), 'web', '80')).trim().split(':')[1]!)))
    assert.equal(new Set(pages).size, 3)
    assert.equal(await p.ok('exec', '-T', '--index', '3', 'web', 'hostname'), pages[2])
    const names = await p.ok('exec', '-T', 'worker', 'sh', '-c', 'for i in 1 2 3; do nslookup many_web_$i >/dev/null && echo $i; done; nslookup web | grep -c ^Address.*172')
    assert.match(names, /^1\n2\n3\n/)
    await p.ok('up', '-d', '--scale', 'web=1')
    assert.deepEqual(await p.containers(), ['many_web_1', 'many_worker_1'])
    await p.ok('scale', 'web=2')
    assert.deepEqual(await p.containers('status=running'), ['many_web_1', 'many_web_2', 'many_worker_1'])
  }))

  test('orphans are told of and removed', { timeout: 180_000 }, () => project('orphan', files, async p => {
    await p.ok('up', '-d')
    p.write('docker-compose.yml', 'version: "3.8"\nservices: {web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}}\n')
    assert.match(await p.told('up', '-d', '-t', '1'), /Found orphan containers \(orphan_worker_1\) for this project/)
    assert.deepEqual(await p.containers(), ['orphan_web_1', 'orphan_worker_1'])
    assert.match(await p.told('up', '-d', '-t', '1', '--remove-orphans'), /Removing orphan container "orphan_worker_1"/)
    assert.deepEqual(await p.containers(), ['orphan_web_1'])
  }))

  test('a host port that is taken', { timeout: 180_000 }, async () => {
    const port = await freePort()
    const file = `version: "3.8"\nservices: {web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, ports: ["${port}:80"]}}\n`
    await project('first', { 'docker-compose.yml': file }, async p => {
      await p.ok('up', '-d')
      await project('second', { 'docker-compose.yml': file }, async q => {
        const r = await q.try('up', '-d')
        assert.equal(r.code, 1)
        assert.match(r.stderr, /ERROR: for web {2}Cannot start service web: .*driver failed programming external connectivity on endpoint second_web_1.*port is already allocated/)
      })
    })
  })
})

describe('attached', () => {
  const files = {
    'docker-compose.yml': `
version: "2.4"
services:
  one: {image: busybox, command: sh -c "for i in 1 2 3; do echo one $$i; done; trap 'exit 3' TERM; while :; do sleep 0.1; done"}
  terminal: {image: busybox, tty: true, command: sh -c "echo from a terminal; exec sleep 1000", stop_signal: SIGKILL}
`,
  }

  test('up shows every line with its service, SIGINT stops all', { timeout: 180_000 }, () => project('shown', files, async p => {
    const up = p.spawn('up', '-t', '5')
    await up.shows(/one_1 +\| one 1\n[^]*one_1 +\| one 3\n/)
    await up.shows(/terminal_1 +\| from a terminal/)
    up.signal('SIGINT')
    await up.ended()
    assert.match(up.out, /Gracefully stopping\.\.\. \(press Ctrl\+C again to force\)/)
    assert.deepEqual(await p.containers('status=running'), [])
  }))

  test('--exit-code-from and --abort-on-container-exit', { timeout: 180_000 }, () => project('code', {
    'docker-compose.yml': `version: "2.4"\nservices:\n  long: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}\n  short: {image: busybox, command: sh -c "sleep 0.5; echo bye; exit 9"}\n`,
  }, async p => {
    const r = await p.try('up', '-t', '1', '--exit-code-from', 'short')
    assert.equal(r.code, 9, r.stdout + r.stderr)
    assert.match(r.stdout, /short_1 +\| bye\n/)
    assert.match(r.stdout, /code_short_1 exited with code 9/)
  }))

  test('logs: tail, timestamps, follow to the end of the containers', { timeout: 180_000 }, () => project('logged', files, async p => {
    await p.ok('up', '-d')
    await waitFor('the lines', 10_000, async () => (await p.ok('logs', '--no-color')).includes('one 3'))
    const tail = await p.ok('logs', '--no-color', '--tail', '2', '-t', 'one')
    assert.match(tail, /\none_1 +\| \d{4}-\d\d-\d\dT[\d:.]+Z one 2\none_1 +\| \d{4}-\d\d-\d\dT[\d:.]+Z one 3\n$/)
    assert.match(await p.ok('logs', '--no-color', 'terminal'), /terminal_1 +\| from a terminal\r?\n$/)
    const follow = p.spawn('logs', '--no-color', '-f')
    await follow.shows(/one_1 +\| one 3/)
    await p.ok('stop', '-t', '5')
    assert.equal(await follow.ended(), 0)
    assert.match(follow.out, /logged_one_1 exited with code 3/)
  }))

  test('events of a scale, with the labels of Compose', { timeout: 180_000 }, () => project('told', files, async p => {
    await p.ok('up', '-d')
    const events = p.spawn('events', '--json')
    await new Promise(resolve => setTimeout(resolve, 1_000))
    await p.ok('scale', '-t', '1', 'one=2')
    await p.ok('kill', 'one')
    await events.shows(/"action": "die"[^]*"action": "die"/)
    events.signal('SIGINT')
    await events.ended()
    type Event = { action: string; service: string; attributes: { name: string; image: string } }
    const seen = events.out.split('\n').filter(l => l.startsWith('{')).map(l => JSON.parse(l) as Event)
    const of = (name: string): string[] => seen.filter(e => e.attributes.name === name).map(e => e.action)
    assert.deepEqual(of('told_one_2'), ['create', 'start', 'kill', 'die'])
    assert.ok(seen.every(e => e.service === 'one' && e.attributes.image === 'busybox'))
  }))

  test('run: removed afterwards, code, input, environment, ports, names, no dependencies', { timeout: 180_000 }, () => project('once', {
    'docker-compose.yml': `
version: "2.4"
services:
  tool: {image: busybox, command: echo default, environment: {A: file}, ports: ["80"], depends_on: [dep]}
  dep: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}
`,
  }, async p => {
    assert.equal((await p.try('run', '--rm', '-T', '--no-deps', 'tool')).stdout, 'default\n')
    assert.deepEqual(await p.containers(), [])
    assert.equal((await p.try('run', '--rm', '-T', 'tool', 'sh', '-c', 'exit 5')).code, 5)
    assert.deepEqual(await p.containers(), ['once_dep_1'])
    assert.equal(await p.ok('run', '--rm', '-T', '-e', 'A=run', '-u', '1000', '-w', '/tmp', '--entrypoint', 'sh -c', 'tool', 'echo $A $(id -u) $(pwd); nslookup dep >/dev/null && echo found'),
      'run 1000 /tmp\nfound\n')
    const piped = await run('sh', ['-c', 'echo through | docker-compose run --rm -T tool cat'], { cwd: p.dir, env: daemon.env })
    assert.equal(piped.stdout, 'through\n')
    await p.ok('run', '-d', '--name', 'once-named', '--service-ports', 'tool', 'httpd', '-f', '-p', '80', '-h', '/etc')
    assert.match(await page((await daemon.ok('port', 'once-named', '80')).split('\n')[0]!.split(':')[1]!, '/passwd'), /root/)
    await daemon.ok('rm', '-f', 'once-named')
  }))

  test('run and exec through a terminal', { timeout: 180_000 }, () => project('typed', {
    'docker-compose.yml': 'version: "2.4"\nservices: {tool: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}}\n',
  }, async p => {
    const inTerminal = (line: string): Promise<Result> => run('script', ['-qec', `stty rows 30 cols 99; ${line}`, '/dev/null'], { cwd: p.dir, env: daemon.env })
    // The first goes through docker-compose's own terminal code, which attaches after the start, the others through the docker command.
    assert.match((await inTerminal('COMPOSE_INTERACTIVE_NO_CLI=1 docker-compose run --rm tool sh -c "sleep 0.5; tty; exit 4"; echo code $?')).stdout, /\/dev\/pts\/\d+\r\n[^]*code 4\r\n/)
    assert.match((await inTerminal('docker-compose run --rm tool sh -c "tty; exit 4"; echo code $?')).stdout, /\/dev\/pts\/\d+\r\n[^]*code 4\r\n/)
    await p.ok('up', '-d')
    assert.match((await inTerminal('docker-compose exec tool sh -c "sleep 0.5; stty size; exit 4"; echo code $?')).stdout, /30 99\r\n[^]*code 4\r\n/)
  }))
})

describe('dependencies and health', () => {
  test('a service waits for the health of another, and for the end of a third', { timeout: 180_000 }, () => project('healthy', {
    'docker-compose.yml': `
services:
  db:
    image: busybox
    command: sh -c "sleep 1; touch /ready; exec sleep 1000"
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD", "test", "-f", "/ready"], interval: 200ms, timeout: 2s, retries: 50}
  init: {image: busybox, command: sh -c "sleep 0.5; echo done"}
  app:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    depends_on: {db: {condition: service_healthy}, init: {condition: service_completed_successfully}}
`,
  }, async p => {
    await p.ok('up', '-d')
    assert.match(await p.ok('ps'), /healthy_db_1 .* Up \(healthy\)/)
    const started = Date.parse(await p.inspect('healthy_app_1', '.State.StartedAt'))
    assert.ok(started >= Date.parse(await p.inspect('healthy_init_1', '.State.FinishedAt')))
    assert.ok(started - Date.parse(await p.inspect('healthy_db_1', '.State.StartedAt')) >= 1_000)
  }))

  test('what is unhealthy, or failed, stops what waits for it', { timeout: 180_000 }, () => project('sick', {
    'docker-compose.yml': `
services:
  db:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    healthcheck: {test: "false", interval: 100ms, timeout: 2s, retries: 2}
  app: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, depends_on: {db: {condition: service_healthy}}}
`,
  }, async p => {
    const r = await p.try('up', '-d')
    assert.equal(r.code, 1)
    assert.match(r.stderr, /ERROR: for app {2}Container "[0-9a-f]{12}" is unhealthy\./)
    assert.deepEqual(await p.containers(), ['sick_db_1'])
  }))
})

describe('networks', () => {
  test('two networks, aliases, static addresses, internal, recreated endpoints only when they change', { timeout: 180_000 }, () => project('nets', {
    'docker-compose.yml': `
version: "2.4"
services:
  front: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [outer]}
  both:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    networks:
      outer: {aliases: [www]}
      inner: {ipv4_address: 10.213.7.77, aliases: [api]}
  back: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: {inner: {ipv4_address: 10.213.7.78}}}
networks:
  outer: {driver: bridge, labels: {side: outer}}
  inner:
    internal: true
    ipam: {config: [{subnet: 10.213.7.0/24, gateway: 10.213.7.1, ip_range: 10.213.7.128/25}]}
`,
  }, async p => {
    await p.ok('up', '-d')
    assert.match(await p.ok('exec', '-T', 'front', 'ping', '-c1', '-W2', 'www'), /1 packets received/)
    assert.match(await p.ok('exec', '-T', 'back', 'ping', '-c1', '-W2', 'api'), /10\.213\.7\.77/)
    assert.notEqual((await p.try('exec', '-T', 'front', 'ping', '-c1', '-W1', 'back')).code, 0)
    assert.notEqual((await p.try('exec', '-T', 'front', 'nslookup', 'api')).code, 0)
    type Networks = Record<string, { Aliases: string[]; IPAddress: string }>
    const seen = await p.inspect<Networks>('nets_both_1', '.NetworkSettings.Networks')
    const id = (await p.ok('ps', '-q', 'both')).slice(0, 12)
    assert.deepEqual([...new Set(seen['nets_inner']!.Aliases)].sort(), [id, 'api', 'both'].sort())
    assert.equal(seen['nets_inner']!.IPAddress, '10.213.7.77')

    // Compose takes a network away and gives it anew on a start if the aliases are not what it knows.
    const events = new Watched(spawn('docker', ['events', '--filter', 'type=network', '--format', '{{.Action}}'], { env: daemon.env, stdio: ['ignore', 'pipe', 'pipe'] }))
    await new Promise(resolve => setTimeout(resolve, 1_000))
    await p.ok('stop', 'both')
    await p.ok('up', '-d')
    assert.equal(await p.inspect('nets_both_1', '.NetworkSettings.Networks.nets_inner.IPAddress'), '10.213.7.77')
    await events.shows(/(connect\n[^]*){4}/)
    events.signal('SIGTERM')
    await events.ended()
    assert.deepEqual(events.out.trim().split('\n').sort(), ['connect', 'connect', 'disconnect', 'disconnect'])
  }))

  test('external network and volume, links on a network of its own', { timeout: 180_000 }, async () => {
    await daemon.ok('network', 'create', 'outside')
    await daemon.ok('volume', 'create', 'outside')
    try {
      await project('guest', {
        'docker-compose.yml': `
version: "3.5"
services:
  app: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [n], volumes: ["v:/v"], links: ["db:store"]}
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [n]}
networks: {n: {external: true, name: outside}}
volumes: {v: {external: true, name: outside}}
`,
      }, async p => {
        await p.ok('up', '-d')
        assert.match(await p.ok('exec', '-T', 'app', 'ping', '-c1', '-W2', 'store'), /1 packets received/)
        await p.ok('exec', '-T', 'app', 'touch', '/v/file')
        assert.match(await p.told('down', '-v', '-t', '1'), /Network outside is external, skipping\nVolume outside is external, skipping/)
      })
      assert.equal(await daemon.ok('run', '--rm', '-v', 'outside:/v', 'busybox', 'ls', '/v'), 'file')
    } finally {
      await daemon.docker('network', 'rm', 'outside')
      await daemon.docker('volume', 'rm', 'outside')
    }
  })
})

describe('images', () => {
  for (const [how, env] of [['by the API', { COMPOSE_DOCKER_CLI_BUILD: '0' }], ['by the docker command', { COMPOSE_DOCKER_CLI_BUILD: '1', DOCKER_BUILDKIT: '0' }]] as const) {
    test(`build ${how}, up, push, pull`, { timeout: 240_000 }, async () => {
      const name = `built${env.COMPOSE_DOCKER_CLI_BUILD}`
      const remote = `${registry.host}/team/${name}:1`
      await project(name, {
        'docker-compose.yml': `
version: "3.8"
services:
  local: {build: {context: ., args: {WORD: hello}, target: last, labels: {made: here}}, command: cat /word}
  remote: {build: {context: sub, dockerfile: Other}, image: "${remote}"}
`,
        Dockerfile: 'FROM busybox AS first\nARG WORD\nRUN echo $WORD > /word\nFROM busybox AS last\nCOPY --from=first /word /word\nCOPY . /context\nFROM busybox\nRUN false\n',
        '.dockerignore': 'sub\n',
        'sub/Other': 'FROM busybox\nCMD ["echo", "pushed"]\n',
      }, async p => {
        const built = await p.try('build')
        assert.equal(built.code, 0, built.stdout + built.stderr)
        assert.match(built.stdout, /Successfully built [0-9a-f]{12}[^]*Successfully tagged/)
        assert.match((await p.try('build')).stdout, /Using cache/)
        assert.equal(await p.ok('run', '--rm', '-T', 'local'), 'hello\n')
        assert.doesNotMatch(await p.ok('run', '--rm', '-T', 'local', 'ls', '/context'), /sub/)
        assert.equal(await daemon.ok('image', 'inspect', '--format', '{{.Config.Labels.made}}', `${name}_local`), 'here')
        const pushed = await p.try('push', 'remote')
        assert.equal(pushed.code, 0, pushed.stdout + pushed.stderr)
        await daemon.ok('rmi', remote)
        assert.match(await p.told('pull', 'remote'), /Pulling remote \.\.\. done/)
        assert.equal(await p.ok('run', '--rm', '-T', '--no-deps', 'remote'), 'pushed\n')
        assert.match(await p.told('down', '--rmi', 'local'), new RegExp(`Removing image ${name}_local`))
        assert.notEqual((await daemon.docker('image', 'inspect', `${name}_local`)).code, 0)
        assert.equal((await daemon.docker('image', 'inspect', remote)).code, 0)
      }, env)
    })
  }

  test('a build that fails and an image that is nowhere are told', { timeout: 180_000 }, () => project('wrong', {
    Dockerfile: 'FROM busybox\nRUN echo trouble; exit 3\n',
  }, async p => {
    p.write('docker-compose.yml', `version: "3.8"\nservices: {bad: {build: .}, gone: {image: "${registry.host}/team/gone:1"}}\n`)
    const build = await p.try('build', 'bad')
    assert.equal(build.code, 1)
    assert.match(build.stderr, /Service 'bad' failed to build.*returned a non-zero code: 3/)
    const up = await p.try('up', '-d', 'gone')
    assert.equal(up.code, 1)
    assert.match(up.stderr, /manifest for .*\/team\/gone:1 not found: manifest unknown/)
  }, { COMPOSE_DOCKER_CLI_BUILD: '0' }))
})
