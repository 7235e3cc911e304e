import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { readProject, type ReadOptions } from './file.ts'
import { bytesOf, durationMs, portsOf, shellWords, volumesOf } from './values.ts'

const read = (text: string, more: Partial<ReadOptions> = {}) =>
  readProject({ path: '/home/me/shop/compose.yml', text, env: {}, readFile: () => undefined, ...more })

test('the talk\'s file, in the format of 2015', () => {
  const text = readFileSync(new URL('../../../examples/talk/docker-compose.yml', import.meta.url), 'utf8')
  const p = readProject({ path: '/x/talk/docker-compose.yml', text, env: {}, readFile: () => undefined })
  assert.equal(p.name, 'talk')
  assert.deepEqual(Object.keys(p.services), ['web', 'redis'])
  const web = p.services['web']!
  assert.equal(web.image, 'talk-web')
  assert.deepEqual(web.command, ['python', 'app.py'])
  assert.deepEqual(web.ports, [{ published: 5000, target: 5000, protocol: 'tcp' }])
  assert.deepEqual(web.volumes, [{ type: 'bind', source: '/x/talk', target: '/code' }])
  assert.deepEqual(web.links, { redis: 'redis' })
  assert.deepEqual(p.builds, { web: { context: '/x/talk', args: {} } })
  assert.equal(p.services['redis']!.image, 'redis')
})

test('today\'s format: variables, env files, long forms, conditions', () => {
  const p = read(`
name: shop
services:
  db:
    image: postgres:\${PG:-15}
    healthcheck: {test: pg_isready, interval: 1m30s, retries: 5}
    volumes: [data:/var/lib/postgresql, {type: tmpfs, target: /tmp}]
  web:
    build: {context: web, args: {V: "2"}, target: run}
    env_file: web.env
    environment: [MODE=prod, HOME, "PRICE=$$5"]
    depends_on: {db: {condition: service_healthy}}
    deploy: {replicas: 3, resources: {limits: {cpus: "0.5", memory: 64m}}}
    ports: [{target: 80, published: 8080}, "9000-9001:90-91", "7"]
volumes: {data: {}}
`, { env: { HOME: '/root' }, readFile: path => path === '/home/me/shop/web.env' ? 'A=1 # one\nB="x ${A}"\nC=\'$A\'' : undefined })
  assert.equal(p.services['db']!.image, 'postgres:15')
  assert.deepEqual(p.services['db']!.healthcheck, { test: ['/bin/sh', '-c', 'pg_isready'], intervalMs: 90_000, retries: 5 })
  const web = p.services['web']!
  assert.deepEqual(web.environment, { A: '1', B: 'x 1', C: '$A', MODE: 'prod', HOME: '/root', PRICE: '$5' })
  assert.equal(web.scale, 3)
  assert.equal(web.cpuMilli, 500)
  assert.equal(web.memoryBytes, 64 << 20)
  assert.deepEqual(web.ports!.map(x => `${x.published}:${x.target}`), ['8080:80', '9000:90', '9001:91'])
  assert.deepEqual(web.expose, [7])
  assert.deepEqual(p.builds['web'], { context: '/home/me/shop/web', args: { V: '2' }, target: 'run' })
  assert.deepEqual(p.volumes, ['data'])
})

test('faults are named with their place', () => {
  const fails: [string, RegExp][] = [
    ['web: {image: x, foo: 1}', /Unsupported config option for services\.web: 'foo'/],
    ['services: {web: {}}', /services\.web needs image or build/],
    ['services: {a: {image: x, depends_on: [b]}}', /service "a" depends on undefined service "b"/],
    ['services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}', /circle: a → b → a/],
    ['services: {a: {image: x, ports: ["x:1"]}}', /services\.a\.ports: "x:1" is not a port/],
    ['services: {a: {image: x, ports: ["70000:1"]}}', /"70000" is not a port/],
    ['services: {a: {image: "${NO:?say it}"}}', /NO is required: say it/],
    ['services: {a: {image: x, volumes: ["./a:../b"]}}', /"\.\.\/b" is not an absolute path/],
    ['services: {a: {image: x, volumes: ["/a:/b/../../etc"]}}', /not an absolute path/],
    ['services: {a: {image: x, env_file: no.env}}', /there is no file no\.env/],
    ['services: {a: {image: x, depends_on: {b: {condition: service_healthy}}}, b: {image: x}}', /"b" has no healthcheck/],
    ['services: {a: {image: x, user: redis}}', /services\.a\.user: "redis" is not UID/],
    ['services: {a: {build: {dockerfile_inline: FROM x}}}', /dockerfile_inline is not supported/],
    ['services: {a: {image: x, profiles: [p]}}', /COMPOSE_PROFILES names none/],
    ['secrets: {}\nservices: {a: {image: x}}', /top-level "secrets" is not supported/],
    ['- a', /not a Compose file/],
    ['a: [', /compose\.yml: /],
  ]
  for (const [text, message] of fails) assert.throws(() => read(text), message, text)
})

test('what has no effect is said', () => {
  const p = read(`
services:
  a: {image: x, ports: ["127.0.0.1:80:80"], stop_signal: SIGINT, deploy: {replicas: 2, mode: global, resources: {reservations: {cpus: "1"}}}}
  b: {build: {context: ., network: host}, restart: "no", depends_on: {c: {condition: service_completed_successfully}}}
  c: {image: x, restart: on-failure}
`)
  assert.deepEqual(p.warnings, [
    'services.a.stop_signal has no effect here',
    'services.a.ports: the address 127.0.0.1 has no effect here: the router publishes on every address',
    'services.a.deploy.mode has no effect here',
    'services.a.deploy.resources.reservations has no effect here',
    'services.b.build.network has no effect here',
    'services.b.restart: "no" has no effect here: it is started again whenever it ends',
  ])
})

test('root is a number everywhere', () => {
  assert.equal(read('services: {a: {image: x, user: root}}').services['a']!.user, '0')
})

test('services with profiles start only when one of them is asked for', () => {
  const text = 'services: {a: {image: x}, b: {image: x, profiles: [debug]}}'
  assert.deepEqual(Object.keys(read(text).services), ['a'])
  assert.deepEqual(Object.keys(read(text, { env: { COMPOSE_PROFILES: 'x,debug' } }).services), ['a', 'b'])
})

test('shell words', () => {
  assert.deepEqual(shellWords(`sh -c "echo \\"a b\\" $X" 'c d'\\ e ""`, ''), ['sh', '-c', 'echo "a b" $X', 'c d e', ''])
  assert.throws(() => shellWords('a "b', 'x'), /not closed/)
})

test('durations, sizes, ports, volumes', () => {
  assert.equal(durationMs('1h2m3.5s', ''), 3_723_500)
  assert.equal(durationMs('200us', ''), 0)
  assert.throws(() => durationMs('soon', 'x'))
  assert.equal(bytesOf('1.5g', ''), 1.5 * 2 ** 30)
  assert.equal(bytesOf(100, ''), 100)
  assert.throws(() => bytesOf('1x', 'x'))
  assert.deepEqual(portsOf(['127.0.0.1:53:5353/udp'], '').ports, [{ published: 53, target: 5353, protocol: 'udp' }])
  assert.throws(() => portsOf(['1-3:1-2'], 'x'), /differ in length/)
  assert.deepEqual(volumesOf(['/anon', 'v:/a:ro', './x:/b'], '', p => `/r/${p}`), [
    { type: 'volume', target: '/anon' }, { type: 'volume', source: 'v', target: '/a', readOnly: true }, { type: 'bind', source: '/r/./x', target: '/b' },
  ])
})
