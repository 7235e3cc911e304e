/** What nobody should send: each gets a clear refusal, leaves nothing half-done, and the server stays well. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { pack } from 'tar-stream'
import { buffer } from 'node:stream/consumers'
import { createHash } from 'node:crypto'
import { TestCluster, waitFor } from '../support/gantry.ts'

const c = new TestCluster()
const CONFIGMAPS = '/api/v1/namespaces/default/configmaps'
const json = { 'content-type': 'application/json' }

after(() => c.stop())

before(async () => {
  await c.ok('up', '--nodes', '1')
  await c.importBusybox()
})

afterEach(async () => {
  assert.equal((await c.raw('GET', '/readyz')).status, 200, 'the server is well')
  const names = (await c.k('get', 'configmaps,secrets,pods,deployments,services', '-o', 'name')).trim().split('\n')
  assert.deepEqual(names.filter(n => n !== '' && !['configmap/kube-root-ca.crt', 'service/kubernetes'].includes(n)), [], 'nothing was kept')
})

/** Sends bytes; the answer must be a Status with this code and words. */
async function refused(what: {
  method?: string; path: string; body?: string | Buffer; headers?: Record<string, string>; code: number; message: RegExp
}): Promise<void> {
  const { status, text } = await c.raw(what.method ?? 'POST', what.path, what.body, what.headers ?? json)
  assert.equal(status, what.code, text)
  const answer = JSON.parse(text) as { kind: string; status: string; code: number; message: string }
  assert.equal(answer.kind, 'Status')
  assert.equal(answer.status, 'Failure')
  assert.equal(answer.code, what.code)
  assert.match(answer.message, what.message)
}

const configMap = (extra: object) => JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x' }, ...extra })

test('bodies over HTTPS', async () => {
  const path = CONFIGMAPS
  await refused({ path, body: '{"apiVersion": "v1", "kind": ', code: 400, message: /JSON|parse|unexpected/i })
  await refused({ path, body: '', code: 400, message: /body|empty/i })
  await refused({ path, body: '[]', code: 400, message: /array/i })
  await refused({ path, body: 'a: [1, 2', headers: { 'content-type': 'application/yaml' }, code: 400, message: /yaml|flow|expected/i })
  await refused({ path, body: Buffer.from('6b3873000aff', 'hex'), headers: { 'content-type': 'application/vnd.kubernetes.protobuf' }, code: 400, message: /protobuf/i })
  await refused({ path, body: configMap({}), headers: { 'content-type': 'application/x-www-form-urlencoded' }, code: 415, message: /form-urlencoded|media type/i })
  await refused({ path, body: configMap({ data: { key: 5 } }), code: 400, message: /data.*string|string.*data|5/is })
  await refused({ path, body: configMap({ data: 'text' }), code: 400, message: /data/ })
  await refused({ path, body: configMap({ metadata: { name: 'Not A Name' } }), code: 422, message: /metadata\.name.*Not A Name/s })
  await refused({ path, body: configMap({ metadata: { name: '../../etc' } }), code: 422, message: /metadata\.name/ })
  await refused({ path, body: configMap({ metadata: {} }), code: 422, message: /name.*(required|generateName)/is })
  await refused({ path, body: configMap({ kind: 'Secret' }), code: 400, message: /Secret/ })
  await refused({ path, body: configMap({ metadata: { name: 'x', namespace: 'other' } }), code: 400, message: /namespace/ })
  await refused({ path: '/api/v1/namespaces/nowhere/configmaps', body: configMap({ metadata: { name: 'x' } }), code: 404, message: /nowhere/ })
  await refused({ path: `${CONFIGMAPS}?fieldValidation=Strict`, body: configMap({ colour: 'blue' }), code: 400, message: /unknown field "colour"/ })
  await refused({ path: '/apis/nothing.example.org/v1/widgets', method: 'GET', code: 404, message: /not find/ })
  await refused({ path: '/api/v1/namespaces/default/pods', code: 422, message: /containers/, body: JSON.stringify({
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, spec: { containers: [] },
  }) })
  await refused({ path: '/apis/apps/v1/namespaces/default/deployments', code: 422, message: /selector/, body: JSON.stringify({
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'x' },
    spec: { selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'c' } }, spec: { containers: [{ name: 'c', image: 'i' }] } } },
  }) })
  await refused({ path: '/apis/apps/v1/namespaces/default/deployments', code: 400, message: /replicas/, body: JSON.stringify({
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'x' }, spec: { replicas: 'three', selector: {}, template: {} },
  }) })
})

test('10 MB bodies and deep nesting', async () => {
  const big = configMap({ data: { big: 'x'.repeat(10 << 20) } })
  // The server answers before it has read all: a client that is still sending sees the answer, or a connection that is closed.
  await refused({ path: CONFIGMAPS, body: big, code: 413, message: /large|limit/i })
    .catch((e: NodeJS.ErrnoException) => { if (!['EPIPE', 'ECONNRESET'].includes(e.code ?? '')) throw e })
  const file = join(c.home, 'big.json')
  writeFileSync(file, big)
  const r = await c.kubectl('create', '-f', file, '--validate=ignore')
  assert.equal(r.code, 1)
  assert.match(r.stderr, /too large|limit is/i)
  await refused({ path: CONFIGMAPS, body: configMap({ data: { big: 'x'.repeat(2 << 20) } }), code: 422, message: /data.*(long|bytes)/i })
  const deep = '{"a":'.repeat(200_000) + '1' + '}'.repeat(200_000)
  const { status } = await c.raw('POST', CONFIGMAPS, deep, json)
  assert.ok(status >= 400 && status < 500, `deep nesting is answered with ${status}`)
  // Every alias doubles the one before: a billion laughs.
  const laughs = ['a0: &a0 [x, x]', ...Array.from({ length: 30 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`)].join('\n')
  const yaml = await c.raw('POST', CONFIGMAPS, `apiVersion: v1\nkind: ConfigMap\n${laughs}\n`, { 'content-type': 'application/yaml' })
  assert.ok(yaml.status >= 400 && yaml.status < 500, `answered with ${yaml.status}`)
})

test('duplicate names', async () => {
  const body = configMap({ data: { first: 'yes' } })
  assert.equal((await c.raw('POST', CONFIGMAPS, body, json)).status, 201)
  await refused({ path: CONFIGMAPS, body: configMap({ data: { second: 'yes' } }), code: 409, message: /configmaps "x" already exists/ })
  assert.equal(await c.k('get', 'configmap', 'x', '-o', 'jsonpath={.data}'), '{"first":"yes"}')
  const r = await c.kubectl('create', 'configmap', 'x')
  assert.equal(r.code, 1)
  assert.match(r.stderr, /"x" already exists/)
  await c.k('delete', 'configmap', 'x')
})

test('through kubectl and gantry', async () => {
  const manifests: [string, string, RegExp][] = [
    ['kubectl: not YAML', 'a: b: c', /mapping values|yaml/i],
    ['kubectl: unknown kind', '{apiVersion: v1, kind: Gadget, metadata: {name: x}}', /no matches for kind "Gadget"/],
    ['kubectl: unknown field', '{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, daat: {a: b}}', /unknown field "daat"/],
    ['kubectl: wrong type', '{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: eighty}]}}', /port/],
    ['kubectl: not a port', '{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 80000}]}}', /spec\.ports\[0\]\.port.*65535/s],
    ['kubectl: no quantity', '{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: c, image: i, resources: {limits: {cpu: lots}}}]}}', /quantit|limits/i],
  ]
  for (const [what, text, message] of manifests) {
    const r = await c.kubectlWith(text, 'create', '-f', '-', ...(what.includes('kind') ? ['--validate=ignore'] : []))
    assert.equal(r.code, 1, `${what}: ${r.stdout}`)
    assert.match(r.stderr, message, what)
  }
  const dir = join(c.home, 'manifests')
  mkdirSync(dir)
  const gantry: [string, string, RegExp][] = [
    ['gantry: not YAML', 'a: b: c', /x\.yaml/],
    ['gantry: not an object', '- 1\n- 2', /apiVersion and kind/],
    ['gantry: unknown kind', '{apiVersion: v1, kind: Gadget, metadata: {name: x}}', /no kind Gadget in v1/],
    ['gantry: no name', '{apiVersion: v1, kind: ConfigMap}', /metadata\.name/],
    ['gantry: wrong type', '{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: eighty}]}}', /port/],
    ['gantry: 2014, unknown', '{apiVersion: v1beta1, kind: Gadget, id: x}', /Gadget/],
  ]
  for (const [what, text, message] of gantry) {
    const file = join(dir, 'x.yaml')
    writeFileSync(file, text)
    const r = await c.gantry('apply', '-f', file)
    assert.equal(r.code, 1, `${what}: ${r.stdout}`)
    assert.match(r.stderr, message, what)
  }
})

type Entry = { name: string; type?: 'file' | 'symlink' | 'link' | 'directory'; linkname?: string; text?: string }

function tar(entries: Entry[]): Promise<Buffer> {
  const p = pack()
  for (const { name, type = 'file', linkname, text = '' } of entries) p.entry({ name, type, ...(linkname !== undefined && { linkname }) }, type === 'file' ? text : '')
  p.finalize()
  return buffer(p)
}

/** An archive as `docker save` writes it, with one layer. */
async function saved(layer: Buffer, name: string): Promise<Buffer> {
  const config = JSON.stringify({ architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', os: 'linux', config: {},
    rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(layer).digest('hex')}`] } })
  const p = pack()
  p.entry({ name: 'config.json' }, config)
  p.entry({ name: 'layer.tar' }, layer)
  p.entry({ name: 'manifest.json' }, JSON.stringify([{ Config: 'config.json', RepoTags: [name], Layers: ['layer.tar'] }]))
  p.finalize()
  return buffer(p)
}

test('layers that try to leave their root', async () => {
  const outside = join(c.home, 'outside')
  mkdirSync(outside)
  const up = '../'.repeat(30)
  const layers: [string, Entry[]][] = [
    ['dot-dot', [{ name: `${up}${outside.slice(1)}/a`, text: 'x' }]],
    ['absolute', [{ name: `${outside}/b`, text: 'x' }]],
    ['symlink', [{ name: 'way', type: 'symlink', linkname: outside }, { name: 'way/c', text: 'x' }]],
    ['dot-dot-symlink', [{ name: 'way', type: 'symlink', linkname: `${up}${outside.slice(1)}` }, { name: 'way/d', text: 'x' }]],
    ['hard-link', [{ name: 'e', type: 'link', linkname: `${up}etc/passwd` }]],
    ['whiteout', [{ name: `${up}${outside.slice(1)}/.wh..wh..opq` }]],
  ]
  for (const [what, entries] of layers) {
    const layer = await tar([{ name: 'ok', text: 'ok' }, ...entries])
    for (const [how, body] of [['import', layer], ['load', await saved(layer, `bad-${what}:load`)]] as const) {
      const file = join(c.home, `${what}.tar`)
      writeFileSync(file, body)
      const r = await (how === 'import' ? c.gantry('image', 'import', file, `bad-${what}:import`) : c.gantry('image', 'load', file))
      // Refused, or taken with everything kept below the image's own root: never anything outside.
      if (r.code !== 0) assert.match(r.stderr, /error: .*\S{4}/, `${what} by ${how}`)
      assert.deepEqual(readdirSync(outside), [], `${what} by ${how} wrote outside`)
    }
  }
  const r = await c.gantry('image', 'load', join(c.home, 'dot-dot.tar'))
  assert.ok(r.code === 1 || r.code === 0)
  for (const [what, body, message] of [
    ['no archive', Buffer.from('this is no archive'.repeat(100)), /tar|archive/i],
    ['empty', Buffer.alloc(0), /empty|archive/i],
    ['no image', await tar([{ name: 'a', text: 'b' }]), /holds no image/],
    ['cut off', (await saved(await tar([{ name: 'big', text: 'x'.repeat(100_000) }]), 'cut:1')).subarray(0, 60_000), /\S/],
    ['wrong digest', await wrongDigest(), /digest|sha256|diff/i],
  ] as const) {
    const file = join(c.home, 'bad.tar')
    writeFileSync(file, body)
    const r = await c.gantry('image', 'load', file)
    assert.equal(r.code, 1, `${what}: ${r.stdout}`)
    assert.match(r.stderr, message, what)
  }
  const images = await c.ok('image', 'ls')
  for (const name of ['cut:', 'wrong:']) assert.ok(!images.includes(name), images)
  for (const i of (JSON.parse(await c.ok('image', 'ls', '-o', 'json')) as { name: string }[]).filter(i => i.name.includes('bad-'))) await c.ok('image', 'rm', i.name)
})

async function wrongDigest(): Promise<Buffer> {
  const p = pack()
  p.entry({ name: 'config.json' }, JSON.stringify({ architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', os: 'linux', config: {},
    rootfs: { type: 'layers', diff_ids: [`sha256:${'0'.repeat(64)}`] } }))
  p.entry({ name: 'layer.tar' }, await tar([{ name: 'a', text: 'b' }]))
  p.entry({ name: 'manifest.json' }, JSON.stringify([{ Config: 'config.json', RepoTags: ['wrong:1'], Layers: ['layer.tar'] }]))
  p.finalize()
  return buffer(p)
}

test('image names and nodes that cannot be', async () => {
  const file = join(c.home, 'one.tar')
  writeFileSync(file, await tar([{ name: 'a', text: 'b' }]))
  for (const [args, message] of [
    [['image', 'import', file, 'Not A Name'], /reference|name/i],
    [['image', 'import', file, '../../x:1'], /reference|name/i],
    [['image', 'import', file, 'x:1', '--node', 'nowhere'], /no node "nowhere"/],
    [['image', 'import', join(c.home, 'absent.tar'), 'x:1'], /no file/],
    [['image', 'rm', 'absent:1'], /no node has an image/],
  ] as const) {
    const r = await c.gantry(...args)
    assert.equal(r.code, 1, r.stdout)
    assert.match(r.stderr, message)
  }
})

test('Compose files', async () => {
  const dir = join(c.home, 'compose')
  mkdirSync(dir)
  const file = join(dir, 'compose.yaml')
  const service = (body: string) => `services:\n  web:\n    image: busybox:1\n${body.replace(/^/gm, '    ')}\n`
  for (const [text, message] of [
    ['services: [', /compose\.yaml/],
    ['just text', /no services/],
    ['services: {}', /no services/],
    ['services: {web: {}}', /services\.web needs image or build/],
    [service('colour: blue'), /'colour'/],
    [service('volumes: ["data:/srv/../../etc"]'), /\/srv\/\.\.\/\.\.\/etc.*absolute path/],
    [service('volumes: ["data:relative"]'), /"relative" is not an absolute path/],
    [service('volumes: ["../up:no:such:mode"]'), /SOURCE:TARGET/],
    [service('volumes: ["da..//ta:/x"]'), /not a volume name/],
    [service('ports: ["eighty"]'), /"eighty" is not a port/],
    [service('ports: ["80000:80"]'), /80000/],
    [service('depends_on: [nobody]'), /nobody/],
    [service('mem_limit: lots'), /"lots" is not a size/],
    [service('scale: -1'), /"-1" is not a number of instances/],
    ['services: {web: *nothing}', /compose\.yaml.*nothing/s],
  ] as const) {
    writeFileSync(file, text)
    const r = await c.gantry('compose', 'up', '-f', file, '-p', 'garbage')
    assert.equal(r.code, 1, `${text}: ${r.stdout}`)
    assert.match(r.stderr, message, text)
  }
  assert.ok(!(await c.k('get', 'namespaces', '-o', 'name')).includes('garbage'), 'no project was begun')
})

test('a volume that leaves its folder by a symbolic link of the container\'s', async () => {
  const secret = join(c.home, 'secret')
  mkdirSync(secret)
  writeFileSync(join(secret, 'text'), 'not for containers')
  await c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: climber}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: link, image: 'busybox:1', command: [ln, -s, ${secret}, /vol/way], volumeMounts: [{name: vol, mountPath: /vol}]}
  containers:
  - {name: c, image: 'busybox:1', command: [cat, /x/text], volumeMounts: [{name: vol, mountPath: /x, subPath: way}]}
  volumes: [{name: vol, emptyDir: {}}]
`)
  const state = () => c.k('get', 'pod', 'climber', '-o', 'jsonpath={.status.phase} {.status.containerStatuses[0].state}')
  await waitFor('the link to be refused', 30_000, async () => /CreateContainerConfigError|CreateContainerError|Failed/.test(await state()))
  assert.doesNotMatch((await c.gantry('logs', 'climber')).stdout, /not for containers/)
  await c.k('delete', 'pod', 'climber')
  assert.ok(existsSync(join(secret, 'text')))
})
