/** Each daemon and a whole node killed in the midst of work: nothing acknowledged is lost, nothing else restarts, all converges. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, existsSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import type { RemoteClient } from '../../src/client/client.ts'
import { configMaps, deployments, nodes as nodeKind, pods as podKind, services } from '../../src/core/kinds.ts'
import type { Pod } from '../../src/core/types/index.ts'
import { type Daemon, isAlive, keepDown, killDaemon, podProcesses, signalDaemon } from '../support/faults.ts'
import { TestCluster, waitFor } from '../support/gantry.ts'

/** Far above what it takes (a few seconds), so that a busy machine fails nothing. */
const CONVERGED_MS = 90_000

const c = new TestCluster()
let client: RemoteClient
/** Shared with Pods as a hostPath: what they write there is seen without server or agent. */
const shared = join(c.home, 'shared')

after(async () => {
  client?.close()
  await c.stop()
})

before(async () => {
  await c.ok('up', '--nodes', '3')
  client = c.client()
  mkdirSync(shared, { mode: 0o777 })
  await c.importBusybox()
  // "steady" serves its host name and is never touched; "rolling" is what gets rolled out.
  await c.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady}
spec:
  replicas: 3
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1
        command: [sh, -c, 'hostname >/tmp/index.html; exec httpd -f -p 8080 -h /tmp']
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: steady}
spec: {selector: {app: steady}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: rolling}
spec:
  replicas: 4
  minReadySeconds: 1
  selector: {matchLabels: {app: rolling}}
  template:
    metadata: {labels: {app: rolling}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: 'busybox:1', command: [sh, -c, 'trap exit TERM; while :; do sleep 1 & wait; done'], env: [{name: ROUND, value: none}]}
`)
  await c.ok('route', 'add', 'steady', '--service', 'steady', '--port', '80')
  await Promise.all(['steady', 'rolling'].map(name => converged(name)))
})

/** All replicas are of the newest template and Ready, and none of an old one is left. */
async function converged(name: string): Promise<void> {
  await waitFor(`deployment ${name} to converge`, CONVERGED_MS, async () => {
    const d = await client.get(deployments, { namespace: 'default', name })
    const s = d.status
    const want = d.spec.replicas
    return s?.observedGeneration === d.metadata.generation && s?.updatedReplicas === want && s?.replicas === want
      && s?.readyReplicas === want && s?.availableReplicas === want
  })
}

async function podsOf(app: string): Promise<Pod[]> {
  return (await client.list(podKind, { namespace: 'default', labelSelector: `app=${app}` })).items.filter(p => p.metadata.deletionTimestamp === undefined)
}

/** What must not change of a Pod's container: as the API tells it, and its first process on this machine (a request forks others). */
async function identities(app: string): Promise<Map<string, { node: string; status: object; process: string }>> {
  return new Map((await podsOf(app)).map(p => {
    const s = p.status!.containerStatuses![0]!
    const first = podProcesses(c, p.spec.nodeName!, p.metadata.uid!).sort((a, b) => Number(a.startTicks) - Number(b.startTicks))[0]!
    return [p.metadata.name, {
      node: p.spec.nodeName!, status: { id: s.containerID, restarts: s.restartCount, startedAt: s.state?.running?.startedAt },
      process: `${first.pid}@${first.startTicks}`,
    }]
  }))
}

/** Clients that create ConfigMaps until told to stop; resolves with what the server said yes to. */
function writers(prefix: string, count: number): { stop(): Promise<{ acknowledged: string[]; refused: number }> } {
  let going = true
  const acknowledged: string[] = []
  let refused = 0
  const work = Array.from({ length: count }, async (_, w) => {
    const own = c.client()
    for (let n = 0; going; n++) {
      const name = `${prefix}-${w}-${n}`
      try {
        await own.create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace: 'default', name }, data: { name } })
        acknowledged.push(name)
        await sleep(5)
      } catch {
        refused++
        await sleep(50)
      }
    }
    own.close()
  })
  return {
    async stop() {
      going = false
      await Promise.all(work)
      return { acknowledged, refused }
    },
  }
}

/** The route through the router, on this machine's port. */
function throughRouter(): Promise<string> {
  const { httpPort, domain } = c.file()
  return new Promise((resolve, reject) => {
    const req = get({ port: httpPort, host: '127.0.0.1', headers: { host: `steady.${domain}` }, agent: false, timeout: 3000 }, res => {
      let text = ''
      res.on('data', d => { text += String(d) })
      res.once('end', () => res.statusCode === 200 ? resolve(text.trim()) : reject(new Error(`answered ${res.statusCode}: ${text}`)))
    })
    req.once('timeout', () => req.destroy(new Error('no answer')))
    req.once('error', reject)
  })
}

const nodesAreReady = () => waitFor('all nodes to be Ready', CONVERGED_MS, async () => (await client.list(nodeKind)).items
  .every(n => n.status?.conditions?.some(x => x.type === 'Ready' && x.status === 'True')))

let round = 0
/** A rollout and a stream of writes; in their midst `fault`. Then everything that must hold. `lost`: the node whose Pods may be replaced. */
async function survives(t: { diagnostic(message: string): void }, what: string, fault: () => Promise<void>, lost?: string): Promise<void> {
  const value = `round-${++round}`
  const before = await identities('steady')
  assert.equal(before.size, 3)
  const writing = writers(value, 3)
  let began = 0
  let outcome: Awaited<ReturnType<typeof writing.stop>>
  try {
    await client.patch(deployments, { namespace: 'default', name: 'rolling' }, 'strategic',
      { spec: { template: { spec: { containers: [{ name: 'c', env: [{ name: 'ROUND', value }] }] } } } })
    await waitFor('the rollout to begin', 20_000, async () =>
      (await podsOf('rolling')).some(p => p.spec.containers[0]!.env?.some(e => e.value === value)))
    began = performance.now()
    await fault()
    await converged('rolling')
    await converged('steady')
  } finally {
    outcome = await writing.stop()
  }
  t.diagnostic(`${what}: full strength ${((performance.now() - began) / 1000).toFixed(1)} s after the kill; `
    + `${outcome.acknowledged.length} writes acknowledged, ${outcome.refused} refused`)

  const stored = new Map((await client.list(configMaps, { namespace: 'default' })).items.map(m => [m.metadata.name, m.data?.['name']]))
  assert.ok(outcome.acknowledged.length > 20, 'the writers wrote')
  assert.deepEqual(outcome.acknowledged.filter(name => stored.get(name) !== name), [], 'acknowledged writes that are not there')

  const now = await identities('steady')
  for (const [name, was] of before) if (was.node !== lost) assert.deepEqual(now.get(name), was, `${name} on ${was.node} must not have been touched`)
  for (const p of await podsOf('rolling')) {
    const s = p.status?.containerStatuses?.[0]
    assert.equal(s?.restartCount, 0, `${p.metadata.name} on ${p.spec.nodeName} was restarted: ${JSON.stringify(s)}`)
    assert.equal(p.spec.containers[0]!.env?.[0]?.value, value)
  }
  assert.ok([...now.keys()].includes(await waitFor('the route to answer', 30_000, throughRouter)))
}

for (const daemon of ['server', 'router', 'haproxy'] satisfies Daemon[]) {
  test(`kill -9 of ${daemon}`, { timeout: 180_000 }, async t => {
    await survives(t, daemon, () => killDaemon(c, daemon))
  })
}

for (const daemon of ['agent', 'containerd', 'logger'] satisfies Daemon[]) {
  test(`kill -9 of a node's ${daemon}`, { timeout: 180_000 }, async t => {
    await survives(t, daemon, () => killDaemon(c, daemon, 'node-2'))
    await nodesAreReady()
  })
}

test('kill -9 of a whole node', { timeout: 240_000 }, async t => {
  const isElsewhere = async () => (await Promise.all(['steady', 'rolling'].map(podsOf))).flat().every(p => p.spec.nodeName !== 'node-3')
  await survives(t, 'node', async () => {
    await c.ok('machine', 'kill', 'node-3')
    // Until its loss is noticed, all looks well.
    await waitFor('its instances to be given up', CONVERGED_MS, isElsewhere)
  }, 'node-3')
  await c.ok('machine', 'start', 'node-3')
  await nodesAreReady()
})

/** A Pod of one container on a node, whose folder /shared is the test's. */
async function pod(name: string, node: string, script: string): Promise<Pod> {
  await client.create(podKind, {
    apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'default', name },
    spec: {
      nodeSelector: { 'kubernetes.io/hostname': node }, terminationGracePeriodSeconds: 0,
      containers: [{ name: 'c', image: 'busybox:1', command: ['sh', '-c', script], volumeMounts: [{ name: 'shared', mountPath: '/shared' }] }],
      volumes: [{ name: 'shared', hostPath: { path: shared } }],
    },
  })
  return waitFor(`pod ${name} to run`, 30_000, async () => {
    const p = await client.get(podKind, { namespace: 'default', name })
    return p.status?.containerStatuses?.[0]?.state?.running !== undefined && p
  })
}

const logLines = async (name: string) => (await c.ok('logs', name, '-o', 'json')).trim().split('\n').map(l => (JSON.parse(l) as { text: string }).text)

test('a killed agent and a killed server cost no line of a container\'s log', { timeout: 120_000 }, async () => {
  await pod('numbers', 'node-1', 'i=0; while [ ! -e /shared/enough ]; do echo line $i; i=$((i+1)); usleep 2000; done; echo $i >/shared/written; sleep 1000')
  for (const n of [1, 2, 3]) {
    await killDaemon(c, 'agent', 'node-1')
    if (n === 2) await killDaemon(c, 'server')
    await sleep(1000)
  }
  writeFileSync(join(shared, 'enough'), '')
  const count = Number(await waitFor('the container to stop writing', 20_000, () => existsSync(join(shared, 'written')) && readFileSync(join(shared, 'written'), 'utf8')))
  assert.ok(count > 100)
  await nodesAreReady()
  await waitFor('its last line', 20_000, async () => (await logLines('numbers')).at(-1) === `line ${count - 1}`)
  assert.deepEqual(await logLines('numbers'), Array.from({ length: count }, (_, i) => `line ${i}`))
})

test('a container writes 100 MB while no agent runs: it is neither held up nor loses its newest lines', { timeout: 180_000 }, async t => {
  // 100,000 lines of 1,000 bytes. Logs are kept up to 50 MB a container, the oldest files go.
  const p = await pod('writer', 'node-1', `
while [ ! -e /shared/write ]; do usleep 100000; done
seq -f "%0999.0f" 1 100000 2>/dev/null || awk 'BEGIN { for (i = 1; i <= 100000; i++) printf "%0999d\\n", i }'
touch /shared/wrote; sleep 1000`)
  const start = await keepDown(c, 'agent', 'node-1')
  const began = performance.now()
  writeFileSync(join(shared, 'write'), '')
  try {
    await waitFor('100 MB to be written without an agent', 60_000, () => existsSync(join(shared, 'wrote')))
  } finally {
    start()
  }
  t.diagnostic(`100 MB written in ${((performance.now() - began) / 1000).toFixed(1)} s without an agent`)
  await nodesAreReady()
  const lines = await waitFor('the last line', 60_000, async () => {
    const all = await logLines('writer')
    return Number(all.at(-1)) === 100_000 && all
  })
  t.diagnostic(`${lines.length} lines kept`)
  assert.ok(lines.length >= 30_000, `only ${lines.length} lines of 1,000 bytes were kept`)
  const first = Number(lines[0])
  lines.forEach((l, i) => { if (Number(l) !== first + i) assert.fail(`line ${first + i} is missing: "${l.slice(-20)}" stands there`) })
  assert.equal((await client.get(podKind, { namespace: 'default', name: 'writer' })).status?.containerStatuses?.[0]?.containerID,
    p.status?.containerStatuses?.[0]?.containerID)
})

test('20 s without a server: containers are restarted, names resolve, services balance', { timeout: 240_000 }, async t => {
  const mortal = await pod('mortal', 'node-2', 'echo started >>/shared/mortal; exec sleep 100000')
  const { spec } = await client.get(services, { namespace: 'default', name: 'steady' })
  // A static busybox looks names up only by its nslookup, and its wget does not run without shared libraries.
  await pod('prober', 'node-1', `ask() { printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 $1 80 | tail -1; }
while :; do
  echo "name $(ask $(nslookup steady.default.svc.cluster.local | awk '/^Address: / { print $2 }'))" >>/shared/answers
  echo "address $(ask ${spec.clusterIP})" >>/shared/answers
  usleep 100000
done`)
  await waitFor('the prober', 20_000, () => existsSync(join(shared, 'answers')))
  const before = await identities('steady')
  const halted = signalDaemon(c, 'SIGSTOP', 'server')
  try {
    await sleep(1000)
    writeFileSync(join(shared, 'answers'), '')
    const began = performance.now()
    // The Pod's only process, seen from outside.
    const [main] = podProcesses(c, 'node-2', mortal.metadata.uid!)
    process.kill(main!.pid, 'SIGKILL')
    await waitFor('the container to be started again', 60_000, () => readFileSync(join(shared, 'mortal'), 'utf8') === 'started\nstarted\n')
    t.diagnostic(`a dead container was started again after ${((performance.now() - began) / 1000).toFixed(1)} s without a server`)
    await sleep(Math.max(0, 18_000 - (performance.now() - began)))
    assert.ok(isAlive(halted), 'the server was halted, not replaced')
  } finally {
    process.kill(halted.pid, 'SIGCONT')
  }
  const answers = readFileSync(join(shared, 'answers'), 'utf8').trim().split('\n').map(l => l.split(' '))
  for (const how of ['name', 'address']) {
    const of = answers.filter(a => a[0] === how).map(a => a[1])
    assert.ok(of.length > 20, `${of.length} answers by ${how}`)
    assert.deepEqual(of.filter(a => !before.has(a ?? '')), [], `by ${how}: every request was answered by an instance`)
    assert.ok(new Set(of).size > 1, `by ${how}: more than one instance answered`)
  }
  await nodesAreReady()
  await waitFor('the restart to be told', 30_000, async () =>
    (await client.get(podKind, { namespace: 'default', name: 'mortal' })).status?.containerStatuses?.[0]?.restartCount === 1)
  // Nodes that could not renew their leases were not taken for dead, and nothing was moved.
  assert.deepEqual(await identities('steady'), before)
  await survives(t, 'nothing, after the silence', () => Promise.resolve())
})
