/** The command line as a user meets it: help, exit codes, JSON, up and down, both stores, Compose, the talk's file. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { killDaemon } from '../support/faults.ts'
import { root, run, TestCluster, waitFor } from '../support/gantry.ts'

/** The cluster of this file keeps its state in a real etcd; the other files' clusters are on SQLite. */
const c = new TestCluster()
after(() => c.stop())

before(async () => {
  await c.ok('up', '--nodes', '1', '--store', 'etcd')
  await c.importBusybox()
})

/** Names of the commands in a help text, below "Commands:". */
function commandsIn(help: string): string[] {
  return (help.split('Commands:\n')[1] ?? '').split('\n\n')[0]!.split('\n').map(l => /^ {2}([a-z]+)\b/.exec(l)?.[1]).filter(n => n !== undefined && n !== 'help') as string[]
}

test('every command has help with an example that is a command', { timeout: 120_000 }, async () => {
  const found: string[] = []
  const visit = async (path: string[]): Promise<void> => {
    const r = await c.gantry(...path, '--help')
    assert.equal(r.code, 0, r.stderr)
    assert.match(r.stdout, new RegExp(`^Usage: gantry ${path.join(' ')}`))
    const below = commandsIn(r.stdout)
    if (below.length === 0) {
      found.push(path.join(' '))
      const examples = r.stdout.split(/Examples?:\n/)[1]
      assert.ok(examples !== undefined, `gantry ${path.join(' ')} --help has no example`)
      assert.match(examples, new RegExp(`gantry ${path.join(' ')}|eval`), path.join(' '))
    }
    await Promise.all(below.map(name => visit([...path, name])))
  }
  const top = commandsIn((await c.gantry('--help')).stdout)
  for (let i = 0; i < top.length; i += 4) await Promise.all(top.slice(i, i + 4).map(name => visit([name])))
  for (const name of ['up', 'down', 'demo', 'doctor', 'env', 'nodes', 'ps', 'run', 'scale', 'logs', 'exec', 'apply', 'get', 'delete', 'build', 'image ls',
    'image pull', 'image push', 'image import', 'image bootstrap', 'compose up', 'compose down', 'compose ps', 'compose logs', 'route add', 'route ls',
    'events', 'top', 'version', 'machine ls']) assert.ok(found.includes(name), `gantry ${name} is missing: ${found.join(', ')}`)
})

test('exit codes: 0 done, 1 failed, 2 called wrongly', { timeout: 60_000 }, async () => {
  const cases: [number, RegExp, string[]][] = [
    [0, /client/, ['version']],
    [1, /no application or instance "absent"/, ['logs', 'absent']],
    [1, /nothing that can be scaled is called "absent"/, ['scale', 'absent', '2']],
    [1, /"absent" not found/, ['delete', 'pod', 'absent']],
    [1, /no file/, ['--kubeconfig', '/nowhere/config', 'ps']],
    [2, /unknown command/, ['absent']],
    [2, /unknown option/, ['ps', '--absent']],
    [2, /missing required argument/, ['scale', 'absent']],
    [2, /"many" is not a number of instances/, ['scale', 'absent', 'many']],
    [2, /"99999" is not a port/, ['run', 'x', 'busybox:1', '--port', '99999']],
    [2, /not "paper"/, ['up', '--store', 'paper']],
    [2, /there is no kind "gadgets"/, ['get', 'gadgets']],
    [1, /take it down first/, ['up', '--nodes', '2']],
  ]
  for (const [code, words, args] of cases) {
    const r = await c.gantry(...args)
    assert.equal(r.code, code, `gantry ${args.join(' ')}: ${r.stdout}${r.stderr}`)
    assert.match(code === 0 ? r.stdout : r.stderr, words, args.join(' '))
  }
})

test('-o json is JSON', { timeout: 60_000 }, async () => {
  await c.ok('run', 'web', 'busybox:1', '--port', '8080', '--route', 'web', '--', 'sh', '-c', 'trap exit TERM; echo hello >/tmp/index.html; httpd -p 8080 -h /tmp; while :; do echo tick; sleep 1 & wait; done')
  await waitFor('the instance', 30_000, async () => (await c.json<{ status: string }[]>('ps', 'web')).every(i => i.status === 'Running'))
  const lists: [string[], (v: never) => boolean][] = [
    [['nodes'], (v: { name: string; ready: boolean }[]) => v.length === 1 && v[0]!.ready],
    [['ps'], (v: { app: string }[]) => v.some(i => i.app === 'web')],
    [['get', 'pods'], (v: unknown) => JSON.stringify(v).includes('"busybox:1"')],
    [['image', 'ls'], (v: { name: string }[]) => v.some(i => i.name === 'docker.io/library/busybox:1')],
    [['route', 'ls'], (v: { metadata: { name: string } }[]) => v[0]!.metadata.name === 'web'],
    [['events'], (v: { reason: string }[]) => v.some(e => e.reason === 'Scheduled')],
    [['top'], (v: { instance: string }[]) => v.length === 1],
    [['machine', 'ls'], (v: { running: boolean }[]) => v[0]!.running],
    [['version'], (v: { server: string }) => v.server !== undefined],
    [['env'], (v: { KUBECONFIG: string }) => v.KUBECONFIG === c.kubeconfig],
    [['doctor'], (v: { what: string }[]) => v.some(f => f.what === 'overlayfs')],
    [['scale', 'web', '1'], (v: { replicas: number }) => v.replicas === 1],
  ]
  for (const [args, holds] of lists) assert.ok(holds(await c.json<never>(...args)), args.join(' '))
  for (const l of (await c.ok('logs', 'web', '-o', 'json')).trim().split('\n')) assert.equal((JSON.parse(l) as { text: string }).text, 'tick')
  const env = await run('sh', ['-c', `${await c.ok('env')}\nprintf %s "$KUBECONFIG"`])
  assert.equal(env.stdout, c.kubeconfig)
})

test('exec passes exit codes on; a second up finds the cluster', { timeout: 60_000 }, async () => {
  assert.equal((await c.gantry('exec', 'web', '--', 'sh', '-c', 'exit 42')).code, 42)
  assert.equal(await c.ok('exec', 'web', '--', 'cat', '/tmp/index.html'), 'hello\n')
  const before = (await c.json<{ name: string; since: string }[]>('nodes'))[0]!.since
  await c.ok('up')
  await c.ok('up', '--nodes', '1', '--store', 'etcd')
  assert.equal((await c.json<{ name: string; since: string }[]>('nodes'))[0]!.since, before)
})

const identities = () => c.k('get', 'configmaps,secrets,services,deployments,replicasets,pods', '-A', '-o',
  'jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name} {.metadata.uid}{"\\n"}{end}')
const restarts = () => c.k('get', 'pods', '-o', 'jsonpath={.items[*].status.containerStatuses[*].restartCount}')

test('with etcd, the objects survive kills of server and etcd', { timeout: 120_000 }, async () => {
  for (let n = 0; n < 20; n++) await c.k('create', 'configmap', `kept-${n}`, `--from-literal=n=${n}`)
  const before = await identities()
  assert.ok(before.split('\n').length > 20)
  await killDaemon(c, 'server')
  await waitFor('the server', 30_000, async () => (await c.raw('GET', '/readyz')).status === 200)
  assert.equal(await identities(), before)
  await killDaemon(c, 'etcd')
  await waitFor('a write', 60_000, async () => (await c.kubectl('create', 'configmap', 'after')).code === 0)
  await c.k('delete', 'configmap', 'after')
  assert.equal(await identities(), before)
  assert.equal(await restarts(), '0')
})

test('down, then up: the same objects and Pods', { timeout: 120_000 }, async () => {
  const before = await identities()
  await c.ok('down')
  assert.equal((await c.gantry('ps')).code, 1)
  await c.ok('up')
  await waitFor('the Pod to run again', 60_000, async () =>
    (await c.json<{ status: string; restarts: string }[]>('ps', 'web')).every(i => i.status === 'Running' && !i.restarts.startsWith('0')))
  assert.equal(await identities(), before)
  await waitFor('its log', 30_000, async () => (await c.ok('logs', 'web', '--tail', '1')).includes('tick'))
  await c.ok('delete', 'deployment', 'web')
})

test('a modern Compose file', { timeout: 180_000 }, async () => {
  const dir = join(c.home, 'shop')
  mkdirSync(join(dir, 'content'), { recursive: true })
  writeFileSync(join(dir, 'content/index.html'), 'from a bind mount\n')
  writeFileSync(join(dir, '.env'), 'GREETING=good day\n')
  writeFileSync(join(dir, 'compose.yaml'), `
services:
  data:
    image: busybox:1
    command: ["sh", "-c", "trap exit TERM; sleep 1; touch /tmp/ready; echo data is up; while :; do sleep 1 & wait $$!; done"]
    healthcheck: {test: [CMD, test, -e, /tmp/ready], interval: 1s, retries: 20}
    volumes: [store:/store]
  web:
    image: busybox:1
    command: >-
      sh -c 'trap exit TERM; nslookup data | grep -q "^Address: " && echo found data; echo "$$GREETING"; httpd -p 8080 -h /srv; while :; do sleep 1 & wait; done'
    environment: {GREETING: "\${GREETING:-none}"}
    depends_on: {data: {condition: service_healthy}}
    volumes: ["./content:/srv:ro"]
    ports: ["18080:8080"]
volumes: {store: {}}
`)
  const file = join(dir, 'compose.yaml')
  await c.ok('compose', 'up', '-f', file)
  const rows = await c.json<{ service: string; status: string }[]>('compose', 'ps', '-f', file)
  assert.deepEqual(rows.map(r => [r.service, r.status]).sort(), [['data', 'Running'], ['web', 'Running']])
  await waitFor('the logs', 20_000, async () => {
    const logs = await c.ok('compose', 'logs', '-f', file)
    return /data is up/.test(logs) && /found data/.test(logs) && /good day/.test(logs)
  })
  assert.doesNotMatch(await c.ok('compose', 'logs', '-f', file, 'web'), /data is up/)
  const answer = await waitFor('the published port', 20_000, () => new Promise<string>((resolve, reject) => {
    get({ host: '127.0.0.1', port: 18080, agent: false, timeout: 2000 }, res => res.setEncoding('utf8').once('data', resolve)).once('error', reject)
  }))
  assert.equal(answer, 'from a bind mount\n')
  assert.match(await c.ok('compose', 'down', '-f', file), /shop removed/)
  assert.equal((await c.gantry('compose', 'down', '-f', file)).code, 1)
  assert.match((await c.kubectl('get', 'namespace', 'shop')).stderr, /NotFound/)
})

test('the talk\'s file of 2014 becomes a ReplicationController', { timeout: 60_000 }, async () => {
  const file = join(root, 'examples/talk/lattice-app.json')
  assert.match(await c.ok('apply', '-f', file), /replicationcontroller\/lattice-app-controller created/)
  assert.match(await c.ok('apply', '-f', file), /replicationcontroller\/lattice-app-controller unchanged/)
  const rc = JSON.parse(await c.k('get', 'rc', 'lattice-app-controller', '-o', 'json')) as {
    spec: { replicas: number; selector: object; template: { spec: { containers: { image: string; env: object[]; resources: { limits: object } }[] } } }
  }
  assert.equal(rc.spec.replicas, 3)
  assert.deepEqual(rc.spec.selector, { name: 'lattice-app' })
  const [container] = rc.spec.template.spec.containers
  assert.equal(container!.image, 'mstine/lattice-app')
  assert.deepEqual(container!.env, [{ name: 'PORT', value: '8080' }])
  assert.deepEqual(container!.resources.limits, { cpu: '100m', memory: '50M' })
  await waitFor('three Pods', 20_000, async () => (await c.json<unknown[]>('ps', 'lattice-app-controller')).length === 3)
  await c.ok('delete', '-f', file)
  await waitFor('no Pod', 30_000, async () => (await c.k('get', 'pods', '-l', 'name=lattice-app', '-o', 'name')) === '')
})

test('down without a cluster says so', { timeout: 60_000 }, async () => {
  const r = await run(process.execPath, ['--disable-warning=ExperimentalWarning', join(root, 'src/cli/main.ts'), 'down'],
    { env: { ...c.env, GANTRY_HOME: join(c.home, 'nothing') } })
  assert.equal(r.code, 0)
  assert.match(r.stderr, /no cluster here/)
  assert.ok(!existsSync(join(c.home, 'nothing')))
})
