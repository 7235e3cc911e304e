/** The real kubectl and helm against a cluster with real Pods. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { hierarchies } from '../../src/machines/cgroups.ts'
import { helmPath, run, TestCluster, waitFor } from '../support/gantry.ts'

const c = new TestCluster()
after(() => c.stop())
before(async () => {
  await c.ok('up', '--nodes', '2')
  await c.importBusybox()
})

const WEB = (version: string) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1
        command: [sh, -c, 'echo serving $VERSION; echo "$VERSION $(hostname)" >/tmp/index.html; exec httpd -f -p 8080 -h /tmp']
        env: [{name: VERSION, value: "${version}"}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1}
        livenessProbe: {tcpSocket: {port: http}, periodSeconds: 5}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`

const text = async (...args: string[]) => (await c.k(...args)).trim()
const rollout = () => c.k('rollout', 'status', 'deployment/web', '--timeout=60s')
/** One HTTP request from within a Pod. The static busybox has a working nc, and no working wget. */
const ask = (address: string, port = 80) => c.k('exec', 'toolbox', '--', 'sh', '-c', `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 ${address} ${port} | tail -1`)

test('apply, get, describe, wait, label, logs', { timeout: 120_000 }, async () => {
  const made = await c.apply(WEB('one'))
  assert.match(made, /deployment.apps\/web created[\s\S]*service\/web created/)
  assert.match(await rollout(), /successfully rolled out/)
  assert.match(await c.apply(WEB('one')), /web unchanged/)
  await c.k('run', 'toolbox', '--image=busybox:1', '--restart=Never', '--', 'sleep', '100000')
  await c.k('wait', '--for=condition=Ready', 'pod/toolbox', '--timeout=30s')
  assert.match(await text('get', 'deployments'), /web\s+2\/2\s+2\s+2/)
  assert.match(await text('get', 'pods', '-o', 'wide', '-l', 'app=web'), /1\/1\s+Running\s+0.*node-[12]/)
  assert.match(await text('describe', 'pod', '-l', 'app=web'), /Normal\s+Started/)
  assert.match(await text('describe', 'service', 'web'), /Endpoints:\s+[\d.]+:8080,[\d.]+:8080/)
  await c.k('label', 'pods', '-l', 'app=web', 'tier=front')
  assert.equal((await text('get', 'pods', '-l', 'tier=front', '-o', 'name')).split('\n').length, 2)
  assert.equal((await text('logs', '-l', 'app=web')).split('\n').filter(l => l === 'serving one').length, 2)
  const name = (await text('get', 'pods', '-l', 'app=web', '-o', 'name')).split('\n')[0]!
  assert.match(await text('logs', name, '--timestamps', '--tail=1'), /^\d{4}-.*serving one$/)
})

test('create with protobuf bodies: configmap, secret, deployment, service', async () => {
  await c.k('create', 'configmap', 'made', '--from-literal=a=1')
  await c.k('create', 'secret', 'generic', 'made', '--from-literal=password=s3cret')
  await c.k('create', 'namespace', 'made')
  await c.k('create', 'deployment', 'made', '--image=busybox:1', '-n', 'made', '--', 'sh', '-c', 'trap exit TERM; while :; do sleep 1 & wait; done')
  await c.k('rollout', 'status', 'deployment/made', '-n', 'made', '--timeout=60s')
  await c.k('create', 'service', 'clusterip', 'made', '--tcp=80:8080', '-n', 'made')
  assert.equal(await text('get', 'secret', 'made', '-o', 'jsonpath={.data.password}'), Buffer.from('s3cret').toString('base64'))
  await c.k('delete', 'namespace', 'made', '--timeout=60s')
  assert.match((await c.kubectl('get', 'namespace', 'made')).stderr, /NotFound/)
})

test('exec: output, exit codes, standard input; cp', { timeout: 60_000 }, async () => {
  assert.equal(await text('exec', 'toolbox', '--', 'echo', 'hello'), 'hello')
  const r = await c.kubectl('exec', 'toolbox', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7')
  assert.deepEqual([r.code, r.stdout], [7, 'out\n'])
  assert.match(r.stderr, /^err\n/)
  assert.notEqual((await c.kubectl('exec', 'toolbox', '--', 'no-such-program')).code, 0)
  const data = randomBytes(300_000).toString('base64')
  const digest = await c.kubectlWith(data, 'exec', '-i', 'toolbox', '--', 'sha256sum')
  assert.equal(digest.stdout.split(' ')[0], createHash('sha256').update(data).digest('hex'), digest.stderr)
  const file = join(c.home, 'sent')
  writeFileSync(file, data)
  await c.k('cp', file, 'toolbox:/tmp/sent')
  await c.k('cp', 'toolbox:/tmp/sent', `${file}.back`)
  assert.equal(readFileSync(`${file}.back`, 'utf8'), data)
})

test('services by address and by name, from a Pod; session affinity', { timeout: 60_000 }, async () => {
  const ip = await text('get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}')
  const answers = new Set<string>()
  for (let n = 0; n < 20; n++) answers.add((await ask(ip)).trim())
  assert.equal(answers.size, 2, [...answers].join())
  for (const name of ['web', 'web.default', 'web.default.svc.cluster.local']) {
    // busybox's nslookup leaves names with dots as they are.
    const full = name === 'web.default' ? 'web.default.svc.cluster.local' : name
    assert.match(await c.k('exec', 'toolbox', '--', 'sh', '-c', `nslookup ${full} || true`), new RegExp(`Address: ${ip}`))
  }
  await c.k('patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"ClientIP"}}')
  await waitFor('one client to stay at one instance', 20_000, async () => {
    const of = new Set<string>()
    for (let n = 0; n < 8; n++) of.add((await ask(ip)).trim())
    return of.size === 1
  })
  await c.k('patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"None"}}')
})

test('port-forward to a Service', { timeout: 60_000 }, async () => {
  const forward = await c.startKubectl('port-forward', 'service/web', ':80')
  try {
    let output = ''
    forward.stdout!.on('data', d => { output += String(d) })
    const port = await waitFor('a port', 20_000, () => /127\.0\.0\.1:(\d+) ->/.exec(output)?.[1])
    const answer = await new Promise<string>((resolve, reject) => {
      get(`http://127.0.0.1:${port}/`, res => res.setEncoding('utf8').once('data', resolve)).once('error', reject)
    })
    assert.match(answer, /^one web-/)
  } finally {
    forward.kill()
  }
})

test('rollout: new version, history, undo, restart; scale', { timeout: 180_000 }, async () => {
  await c.apply(WEB('two'))
  await c.k('annotate', 'deployment/web', 'kubernetes.io/change-cause=second')
  await rollout()
  const ip = await text('get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}')
  await waitFor('the second version alone', 20_000, async () => (await ask(ip)).startsWith('two'))
  assert.match(await text('rollout', 'history', 'deployment/web'), /REVISION[\s\S]*1 [\s\S]*2 /)
  await c.k('rollout', 'undo', 'deployment/web')
  await rollout()
  await waitFor('the first version again', 20_000, async () => (await ask(ip)).startsWith('one'))
  const before = (await text('get', 'pods', '-l', 'app=web', '-o', 'name')).split('\n')
  await c.k('rollout', 'restart', 'deployment/web')
  await rollout()
  const now = await waitFor('only new Pods', 30_000, async () => {
    const names = (await text('get', 'pods', '-l', 'app=web', '-o', 'name')).split('\n')
    return names.every(n => !before.includes(n)) && names
  })
  assert.equal(now.length, 2)
  await c.k('scale', 'deployment/web', '--replicas=4')
  await c.k('wait', '--for=jsonpath={.status.readyReplicas}=4', 'deployment/web', '--timeout=60s')
  await c.k('scale', 'deployment/web', '--replicas=1')
  await waitFor('one Pod', 30_000, async () => (await text('get', 'pods', '-l', 'app=web', '-o', 'name')).split('\n').length === 1)
})

test('init containers, volumes of ConfigMaps and Secrets with live update, limits in the control group', { timeout: 180_000 }, async () => {
  await c.k('create', 'configmap', 'settings', '--from-literal=colour=blue')
  await c.k('create', 'secret', 'generic', 'keys', '--from-literal=key=k1')
  await c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: full, labels: {app: full}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: first, image: 'busybox:1', command: [sh, -c, 'echo prepared >/work/state'], volumeMounts: [{name: work, mountPath: /work}]}
  containers:
  - name: c
    image: busybox:1
    command: [sleep, '100000']
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    resources: {limits: {cpu: 250m, memory: 64Mi}, requests: {cpu: 50m, memory: 16Mi}}
    volumeMounts: [{name: work, mountPath: /work}, {name: settings, mountPath: /settings}, {name: keys, mountPath: /keys}]
  volumes:
  - {name: work, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
`)
  await c.k('wait', '--for=condition=Ready', 'pod/full', '--timeout=60s')
  const inside = (script: string) => text('exec', 'full', '--', 'sh', '-c', script)
  const node = await text('get', 'pod', 'full', '-o', 'jsonpath={.spec.nodeName}')
  assert.equal(await inside('cat /work/state; echo $COLOUR $NODE; cat /settings/colour; echo; cat /keys/key'), `prepared\nblue ${node}\nblue\nk1`)
  assert.equal(await inside('stat -Lc %a /keys/key'), '400')
  assert.equal(await text('get', 'pod', 'full', '-o', 'jsonpath={.status.qosClass}'), 'Burstable')

  const uid = await text('get', 'pod', 'full', '-o', 'jsonpath={.metadata.uid}')
  const id = (await text('get', 'pod', 'full', '-o', 'jsonpath={.status.containerStatuses[0].containerID}')).replace('containerd://', '')
  const group = (h: string) => join(h, `gantry-${c.file().cluster.instance}`, node, uid, id)
  const values = (file: string) => hierarchies().map(h => join(group(h), file)).filter(f => existsSync(f)).map(f => readFileSync(f, 'utf8').trim())
  assert.deepEqual([...values('memory.limit_in_bytes'), ...values('memory.max')], [String(64 << 20)])
  assert.ok(values('cpu.cfs_quota_us')[0] === '25000' || values('cpu.max')[0] === '25000 100000')

  await c.k('create', 'configmap', 'settings', '--from-literal=colour=green', '-o', 'yaml', '--dry-run=client')
  await c.k('patch', 'configmap', 'settings', '-p', '{"data":{"colour":"green"}}')
  await c.k('patch', 'secret', 'keys', '-p', '{"stringData":{"key":"k2"}}')
  await waitFor('the files to follow', 90_000, async () => await inside('cat /settings/colour; cat /keys/key') === 'greenk2')
  assert.equal(await text('get', 'pod', 'full', '-o', 'jsonpath={.status.containerStatuses[0].restartCount}'), '0')
  await c.k('delete', 'pod', 'full')
})

test('Pods in trouble: no room, crashes, failing probes, no image', { timeout: 180_000 }, async () => {
  await c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: giant}
spec: {containers: [{name: c, image: 'busybox:1', resources: {requests: {cpu: '400'}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: picky}
spec: {nodeSelector: {disk: golden}, containers: [{name: c, image: 'busybox:1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: crasher}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'echo last words; exit 3']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unwell}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: 'busybox:1', command: [sleep, '100000'], livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 2}}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'dd if=/dev/zero of=/dev/null bs=200M count=1'], resources: {limits: {memory: 20Mi}}}]
`)
  const events = (name: string) => text('get', 'events', '--field-selector', `involvedObject.name=${name}`)
  await waitFor('the explanation', 20_000, async () => /FailedScheduling.*0\/2 nodes are available: 2 Insufficient cpu/.test(await events('giant')))
  await waitFor('the explanation', 20_000, async () => /FailedScheduling.*2 node\(s\) didn't match Pod's node affinity\/selector/.test(await events('picky')))
  await waitFor('CrashLoopBackOff', 60_000, async () => /crasher\s+0\/1\s+CrashLoopBackOff/.test(await text('get', 'pods')))
  assert.equal(await text('get', 'pod', 'crasher', '-o', 'jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}'), '3')
  assert.equal(await text('logs', 'crasher', '--previous'), 'last words')
  assert.match(await events('crasher'), /BackOff.*Back-off restarting failed container/)
  await waitFor('a restart by its liveness probe', 60_000, async () =>
    Number(await text('get', 'pod', 'unwell', '-o', 'jsonpath={.status.containerStatuses[0].restartCount}')) > 0)
  assert.match(await events('unwell'), /Unhealthy.*Liveness probe failed/)
  await waitFor('OOMKilled', 60_000, async () => /greedy\s+0\/1\s+OOMKilled/.test(await text('get', 'pods')))
  await c.k('delete', 'pods', 'giant', 'picky', 'crasher', 'unwell', 'greedy')
})

test('helm installs, upgrades, rolls back and uninstalls', { timeout: 180_000 }, async () => {
  const chart = join(c.home, 'tiny')
  mkdirSync(join(chart, 'templates'), { recursive: true })
  writeFileSync(join(chart, 'Chart.yaml'), 'apiVersion: v2\nname: tiny\nversion: 0.1.0\nappVersion: "1"\n')
  writeFileSync(join(chart, 'values.yaml'), 'replicas: 1\ngreeting: hello\n')
  writeFileSync(join(chart, 'templates', 'all.yaml'), `
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-words}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: busybox:1
        command: [sleep, "100000"]
        env: [{name: GREETING, value: {{ .Values.greeting | quote }}}]
`)
  const bin = await helmPath()
  const helm = async (...args: string[]) => {
    const r = await run(bin, args, { env: c.clientEnv, timeoutMs: 120_000 })
    assert.equal(r.code, 0, `helm ${args.join(' ')}: ${r.stdout}${r.stderr}`)
    return r.stdout
  }
  const greeting = () => text('get', 'configmap', 'small-words', '-o', 'jsonpath={.data.greeting}')
  assert.match(await helm('install', 'small', chart, '--wait', '--timeout', '60s'), /STATUS: deployed/)
  assert.equal(await greeting(), 'hello')
  await helm('upgrade', 'small', chart, '--set', 'greeting=bye,replicas=2', '--wait', '--timeout', '60s')
  assert.equal(await greeting(), 'bye')
  assert.equal(await text('get', 'deployment', 'small', '-o', 'jsonpath={.status.readyReplicas}'), '2')
  await helm('rollback', 'small', '1', '--wait', '--timeout', '60s')
  assert.equal(await greeting(), 'hello')
  assert.equal((JSON.parse(await helm('history', 'small', '-o', 'json')) as unknown[]).length, 3)
  await helm('uninstall', 'small', '--wait', '--timeout', '60s')
  assert.match((await c.kubectl('get', 'deployment', 'small')).stderr, /NotFound/)
})

test('delete takes everything along', { timeout: 60_000 }, async () => {
  await c.k('delete', 'deployment/web', 'service/web')
  await waitFor('the Pods to go', 30_000, async () => await text('get', 'pods,replicasets', '-l', 'app=web', '-o', 'name') === '')
  await c.k('delete', 'pod', 'toolbox', '--grace-period=1')
})
