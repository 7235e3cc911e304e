/**
 * Other projects' test suites, unmodified, against a daemon that speaks Docker's API: the suites' sources come from checkouts named by the
 * environment, what they pull comes from a registry of the test's own that stands in for Docker Hub.
 */
import type { ChildProcess } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { run, waitFor } from './gantry.ts'
import type { DockerDaemon } from './docker.ts'

export interface CaseResult { name: string; outcome: 'passed' | 'failed' | 'skipped'; message: string }

/** Tests that fail for a reason outside the daemon, or on Docker's own daemon as well. A name that ends in `*` stands for all that begin so. */
export interface Expected { name: string; why: string }

/** A registry inside the daemon's network namespace, where it is 127.0.0.1:PORT. */
export interface LocalRegistry { host: string; stop(): Promise<void> }

const SUITE_MS = 1_500_000

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => { resolve(port) })
    })
  })
}

/** Debian's docker-registry with an empty store in `dir`. Rejects if it does not answer within 20 s. */
export async function startRegistry(spawnInside: DockerDaemon['spawnInside'], dir: string, port: number): Promise<LocalRegistry> {
  const host = `127.0.0.1:${port}`
  mkdirSync(dir, { recursive: true })
  const config = join(dir, 'registry.yml')
  writeFileSync(config, `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${join(dir, 'data')}}, delete: {enabled: true}}\nhttp: {addr: "${host}"}\n`)
  const child: ChildProcess = spawnInside('docker-registry', 'serve', config)
  return {
    host,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = new Promise(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      await gone
    },
  }
}

/** What the suites take from Docker Hub, made of this machine's own programs. */
interface Made { references: string[]; bash?: boolean; command: string; marker: string }
const images: Made[] = [
  { references: ['busybox:latest'], command: '["sh"]', marker: 'busybox' },
  { references: ['alpine:latest'], command: '["/bin/sh"]', marker: 'alpine' },
  { references: ['alpine:3.10'], command: '["/bin/sh"]', marker: 'alpine 3.10' },
  { references: ['hello-world:latest'], command: '["/bin/echo","Hello from Docker!"]', marker: 'hello' },
  { references: ['ubuntu:latest'], bash: true, command: '["/bin/bash"]', marker: 'ubuntu' },
]

/** Makes the images in the daemon and pushes them to `registry` as Docker Hub's library. */
export async function stockImages(daemon: DockerDaemon, registry: LocalRegistry, dir: string): Promise<void> {
  await waitFor('docker-registry', 20_000, async () => (await daemon.inside('curl', '-sf', `http://${registry.host}/v2/`)).code === 0)
  for (const [i, image] of images.entries()) {
    const rootfs = join(dir, `rootfs-${i}`)
    await plant(rootfs, image)
    const tar = join(dir, `rootfs-${i}.tar`)
    await must('tar', '-C', rootfs, '--owner=0', '--group=0', '--numeric-owner', '-cf', tar, '.')
    for (const reference of image.references) {
      const remote = `${registry.host}/library/${reference}`
      await daemon.ok('import', '-c', `CMD ${image.command}`, '-c', 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', tar, reference)
      await daemon.ok('tag', reference, remote)
      await daemon.ok('push', '-q', remote)
      await daemon.ok('rmi', remote)
    }
  }
}

/** A root file system of static busybox, and bash with its libraries where asked for. */
async function plant(rootfs: string, image: Made): Promise<void> {
  for (const d of ['bin', 'etc', 'tmp', 'root', 'var/log', 'var/opt', 'home', 'usr/bin', 'usr/lib', 'lib', 'lib64', 'proc', 'sys', 'dev', 'mnt']) {
    mkdirSync(join(rootfs, d), { recursive: true })
  }
  chmodSync(join(rootfs, 'tmp'), 0o1777)
  copyFileSync(existsSync('/bin/busybox') ? '/bin/busybox' : '/usr/bin/busybox', join(rootfs, 'bin/busybox'))
  const applets = await must('busybox', '--list')
  for (const applet of applets.trim().split('\n')) if (applet !== 'busybox') symlinkSync('busybox', join(rootfs, 'bin', applet))
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n')
  writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\npostgres:x:70:\nnobody:x:65534:\n')
  writeFileSync(join(rootfs, 'etc/image-name'), `${image.marker}\n`)
  if (image.bash !== true) return
  copyFileSync('/bin/bash', join(rootfs, 'bin/bash'))
  for (const [, library] of (await must('ldd', '/bin/bash')).matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(join(rootfs, dirname(library!)), { recursive: true })
    copyFileSync(library!, join(rootfs, library!))
  }
}

async function must(command: string, ...args: string[]): Promise<string> {
  const r = await run(command, args)
  if (r.code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${r.code}: ${r.stderr}`)
  return r.stdout
}

/** dockerode's mocha suite. `source` is copied to `dir` and gets its dependencies there from npm. */
export async function dockerode(daemon: DockerDaemon, source: string, dir: string): Promise<CaseResult[]> {
  const copy = join(dir, 'dockerode')
  copySource(source, copy)
  const installed = await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: copy, timeoutMs: 300_000 })
  if (installed.code !== 0) throw new Error(`npm ci in dockerode's checkout: ${installed.stderr}`)
  const report = join(dir, 'dockerode.json')
  // Any value of DOCKER_SOCKET makes the suite take DOCKER_HOST (its test/spec_helper.js).
  const env = { ...daemon.env, DOCKER_SOCKET: daemon.socket }
  const files = ['container', 'docker', 'image', 'networks', 'promises', 'util'].map(n => `test/${n}.js`)
  const r = await run(process.execPath, ['node_modules/mocha/bin/mocha.js', '--exit', '--reporter', 'json', '--reporter-option', `output=${report}`, ...files],
    { cwd: copy, env, timeoutMs: SUITE_MS })
  if (!existsSync(report)) throw new Error(`dockerode's suite gave no report:\n${r.stdout.slice(-4000)}\n${r.stderr.slice(-4000)}`)
  type Case = { fullTitle: string; err: { message?: string } }
  const { passes, failures, pending } = JSON.parse(readFileSync(report, 'utf8')) as Record<'passes' | 'failures' | 'pending', Case[]>
  const as = (outcome: CaseResult['outcome']) => (c: Case): CaseResult => ({ name: c.fullTitle, outcome, message: c.err.message ?? '' })
  return [...passes.map(as('passed')), ...failures.map(as('failed')), ...pending.map(as('skipped'))]
}

/** Modules of docker-py's integration tests that need swarm mode or Docker Hub's plugins. */
const absentModules = ['api_config', 'api_plugin', 'api_secret', 'api_service', 'api_swarm', 'models_nodes', 'models_services', 'models_swarm']

/** The suite makes errors of warnings, and Python 3.11 warns of what docker-py 5 compares versions with. */
const QUIET_DISTUTILS = 'import distutils.version, types\ndistutils.version.warnings = types.SimpleNamespace(warn=lambda *a, **k: None)\n'

/** docker-py's integration tests, with the library of the same checkout. `only`: more arguments for pytest. */
export async function dockerPy(daemon: DockerDaemon, source: string, dir: string, only: string[] = []): Promise<CaseResult[]> {
  const copy = join(dir, 'docker-py')
  copySource(source, copy)
  const report = join(dir, 'docker-py.xml')
  const files = readdirSync(join(copy, 'tests/integration')).filter(f => f.endsWith('_test.py') && !absentModules.includes(f.slice(0, -8)))
  const plugins = join(dir, 'plugins')
  mkdirSync(plugins, { recursive: true })
  writeFileSync(join(plugins, 'quiet_distutils.py'), QUIET_DISTUTILS)
  const env = { ...daemon.env, DOCKER_TEST_API_VERSION: '1.41', PYTHONDONTWRITEBYTECODE: '1', PYTHONPATH: plugins }
  const r = await run('/usr/bin/python3', [
    '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-p', 'quiet_distutils', `--junitxml=${report}`,
    ...files.map(f => `tests/integration/${f}`), ...only,
  ], { cwd: copy, env, timeoutMs: SUITE_MS })
  if (!existsSync(report)) throw new Error(`docker-py's suite gave no report:\n${r.stdout.slice(-4000)}\n${r.stderr.slice(-4000)}`)
  return readJunit(readFileSync(report, 'utf8'))
}

function copySource(from: string, to: string): void {
  if (!existsSync(to)) cpSync(from, to, { recursive: true, filter: f => !/\/(\.git|node_modules|__pycache__)$/.test(f) })
}

const entities: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: '\'', '#10': '\n' }
const unescape = (s: string): string => s.replace(/&(#10|\w+);/g, (all, name: string) => entities[name] ?? all)

/** The few elements that pytest writes. A case may appear twice: its call and its tear-down; the worse one counts. */
export function readJunit(xml: string): CaseResult[] {
  const found = new Map<string, CaseResult>()
  for (const [, attributes, body] of xml.matchAll(/<testcase ([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs)) {
    const attribute = (name: string): string => unescape(new RegExp(`(?:^| )${name}="([^"]*)"`).exec(attributes!)?.[1] ?? '')
    const name = `${attribute('classname').replace(/^tests\.integration\./, '')}.${attribute('name')}`
    const bad = /<(failure|error|skipped)\b[^>]*?message="([^"]*)"[^>]*>([^<]*)/s.exec(body ?? '')
    const outcome = bad === null ? 'passed' : bad[1] === 'skipped' ? 'skipped' : 'failed'
    if (found.get(name)?.outcome === 'failed') continue
    found.set(name, { name, outcome, message: bad === null ? '' : `${unescape(bad[2]!)}\n${unescape(bad[3]!)}` })
  }
  return [...found.values()]
}

/** Failures that no entry of `expected` explains. */
export function unexpected(results: CaseResult[], expected: Expected[]): CaseResult[] {
  const covers = (e: Expected, name: string): boolean => e.name.endsWith('*') ? name.startsWith(e.name.slice(0, -1)) : e.name === name
  return results.filter(r => r.outcome === 'failed' && !expected.some(e => covers(e, r.name)))
}
