import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Pod } from '../core/types/index.ts'
import { Pods } from './pods.ts'
import { fakeNode, pod, until } from './test-support/fakes.ts'
import type { FakeNode } from './test-support/fakes.ts'

function start(node: FakeNode): Pods {
  const all = new Pods(node.context, node.client.pods, () => {})
  all.start()
  return all
}
const status = (node: FakeNode, name: string): NonNullable<Pod['status']> => node.client.pods.get(`default/${name}`)?.status ?? {}
const main = (node: FakeNode, name: string) => status(node, name).containerStatuses?.[0]

test('a pod is started and reported running with one write', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a'))
  await until(() => status(node, 'a').phase === 'Running')
  assert.equal(node.client.statuses.length, 1)
  assert.equal(main(node, 'a')?.ready, true)
  assert.equal(status(node, 'a').podIP, '10.42.0.2')
  assert.deepEqual(status(node, 'a').conditions?.map(c => `${c.type}=${c.status}`), [
    'PodScheduled=True', 'PodReadyToStartContainers=True', 'Initialized=True', 'ContainersReady=True', 'Ready=True',
  ])
  assert.deepEqual(node.events.map(e => e.split(':')[0]), ['Pulled', 'Created', 'Started'])
  await all.close()
})

test('init containers run in order before the main ones, a sidecar stays', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a', {
    initContainers: [{ name: 'one', image: 'busybox:1' }, { name: 'side', image: 'busybox:1', restartPolicy: 'Always' }, { name: 'two', image: 'busybox:1' }],
  }))
  await until(() => node.engine.running('one') !== undefined)
  assert.deepEqual(node.engine.log, ['create one', 'start one'])
  node.engine.exit(node.engine.running('one')!.id, 0)
  await until(() => node.engine.running('two') !== undefined)
  assert.ok(node.engine.running('side'))
  assert.equal(node.engine.running('main'), undefined)
  node.engine.exit(node.engine.running('two')!.id, 0)
  await until(() => status(node, 'a').phase === 'Running')
  assert.deepEqual(status(node, 'a').initContainerStatuses?.map(s => s.ready), [true, true, true])
  await all.close()
})

test('a crash restarts at once, the second one backs off', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a'))
  await until(() => node.engine.running('main') !== undefined)
  node.engine.exit(node.engine.running('main')!.id, 3)
  await until(() => main(node, 'a')?.restartCount === 1 && main(node, 'a')?.state?.running !== undefined)
  assert.equal(main(node, 'a')?.lastState?.terminated?.exitCode, 3)
  node.engine.exit(node.engine.running('main')!.id, 4)
  await until(() => main(node, 'a')?.state?.waiting?.reason === 'CrashLoopBackOff')
  assert.match(main(node, 'a')!.state!.waiting!.message!, /back-off 10s/)
  assert.equal(main(node, 'a')?.lastState?.terminated?.exitCode, 4)
  assert.ok(node.events.some(e => e.startsWith('BackOff: Back-off restarting failed container main')))
  await all.close()
})

test('a finished pod keeps its containers and gives its address back', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a', { restartPolicy: 'Never' }))
  await until(() => node.engine.running('main') !== undefined)
  node.engine.exit(node.engine.running('main')!.id, 0)
  await until(() => status(node, 'a').phase === 'Succeeded' && node.network.sandboxes.size === 0)
  assert.equal(node.engine.infos.size, 1)
  assert.equal(main(node, 'a')?.state?.terminated?.reason, 'Completed')
  await all.close()
})

test('deletion stops, reports, cleans up and removes the object', async () => {
  const node = fakeNode()
  const all = start(node)
  const p = pod('a')
  node.client.add(p)
  await until(() => status(node, 'a').phase === 'Running')
  const now = node.client.pods.get('default/a')!
  node.client.add({ ...now, metadata: { ...now.metadata, deletionTimestamp: new Date(Date.now() + 5000).toISOString(), deletionGracePeriodSeconds: 5 } })
  await until(() => node.client.pods.size === 0 && all.list().length === 0)
  assert.ok(node.engine.log.includes('stop main 5'))
  assert.equal(node.client.statuses.at(-1)?.containerStatuses?.[0]?.state?.terminated?.exitCode, 143)
  assert.equal(node.engine.infos.size + node.network.sandboxes.size, 0)
  await all.close()
})

test('a restarted agent adopts what runs, also while the server is away', async () => {
  const node = fakeNode()
  const first = start(node)
  node.client.add(pod('a'))
  await until(() => status(node, 'a').phase === 'Running')
  const id = node.engine.running('main')!.id
  const writes = node.client.statuses.length
  await first.close()

  const again = fakeNode(node)
  again.client.failing = true
  const { FakeInformer } = await import('./test-support/fakes.ts')
  const silent = new FakeInformer<Pod>([], new Promise(() => {}))
  const second = new Pods(again.context, silent, () => {})
  second.start()
  await until(() => second.list().length === 1)
  assert.equal(node.engine.running('main')?.id, id)
  node.engine.exit(id, 1)
  await until(() => node.engine.running('main') !== undefined && node.engine.running('main')!.id !== id)
  again.client.failing = false
  await until(() => main(node, 'a')?.restartCount === 1, 3000)
  assert.ok(node.client.statuses.length > writes)
  await second.close()
})

test('orphans go once the API has told all it knows', async () => {
  const node = fakeNode()
  const uid = '11111111-2222-3333-4444-555555555555'
  const first = start(node)
  node.client.add(pod('a', {}, { uid }))
  await until(() => status(node, 'a').phase === 'Running')
  await first.close()
  node.client.pods.objects.clear()
  const { rmSync } = await import('node:fs')
  rmSync(`${node.context.dataDir}/podstate`, { recursive: true })
  const second = start(fakeNode(node))
  await until(() => node.engine.infos.size === 0 && node.network.sandboxes.size === 0)
  await second.close()
})

test('a pod that vanished from the API is stopped and removed', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a'))
  await until(() => status(node, 'a').phase === 'Running')
  node.client.pods.remove('default/a')
  await until(() => node.engine.infos.size === 0 && all.list().length === 0)
  await all.close()
})

test('a taken host port fails the pod', async () => {
  const node = fakeNode()
  node.network.takenPorts.add(80)
  const all = start(node)
  node.client.add(pod('a', { containers: [{ name: 'main', image: 'busybox:1', ports: [{ containerPort: 80, hostPort: 80 }] }] }))
  await until(() => status(node, 'a').phase === 'Failed')
  assert.equal(status(node, 'a').reason, 'NodePorts')
  assert.deepEqual(status(node, 'a').containerStatuses, [], 'nothing of it waits')
  await all.close()
})

test('a host port that a Pod on its way out still holds is waited for; one that a running Pod holds is not', async () => {
  const node = fakeNode()
  const all = start(node)
  const spec = { containers: [{ name: 'main', image: 'busybox:1', ports: [{ containerPort: 80, hostPort: 80 }] }] }
  node.client.add(pod('old', spec))
  await until(() => status(node, 'old').phase === 'Running')
  node.client.add(pod('early', spec))
  await until(() => status(node, 'early').phase === 'Failed')
  let clear = (): void => {}
  node.network.beforeDelete = new Promise(resolve => { clear = resolve })
  node.client.pods.remove('default/old')
  node.client.add(pod('new', spec))
  await until(() => node.engine.running('main') === undefined && main(node, 'new')?.state?.waiting !== undefined)
  assert.equal(status(node, 'new').phase, 'Pending')
  clear()
  await until(() => status(node, 'new').phase === 'Running')
  assert.equal(status(node, 'early').phase, 'Failed')
  await all.close()
})

test('images: errors, never, invalid names', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('absent', { containers: [{ name: 'main', image: 'absent:1' }] }))
  node.client.add(pod('never', { containers: [{ name: 'main', image: 'other:1', imagePullPolicy: 'Never' }] }))
  node.client.add(pod('invalid', { containers: [{ name: 'main', image: 'Bad Name' }] }))
  await until(() => /ErrImagePull|ImagePullBackOff/.test(main(node, 'absent')?.state?.waiting?.reason ?? ''))
  await until(() => main(node, 'absent')?.state?.waiting?.reason === 'ImagePullBackOff', 3000)
  await until(() => main(node, 'never')?.state?.waiting?.reason === 'ErrImageNeverPull')
  await until(() => main(node, 'invalid')?.state?.waiting?.reason === 'InvalidImageName')
  node.engine.images.add('docker.io/library/absent:1')
  all.byName('default', 'absent')!.imagesChanged(i => i === 'absent:1')
  await until(() => status(node, 'absent').phase === 'Running')
  await all.close()
})

test('a missing secret is a configuration error, an optional one is not', async () => {
  const node = fakeNode()
  node.client.others.push({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'there', namespace: 'default' }, data: { k: Buffer.from('v').toString('base64') } } as never)
  const all = start(node)
  const env = (name: string, optional: boolean) => [{ name: 'X', valueFrom: { secretKeyRef: { name, key: 'k', optional } } }]
  node.client.add(pod('missing', { containers: [{ name: 'main', image: 'busybox:1', env: env('gone', false) }] }))
  node.client.add(pod('there', { containers: [{ name: 'main', image: 'busybox:1', env: env('there', false) }] }))
  node.client.add(pod('optional', { containers: [{ name: 'main', image: 'busybox:1', env: env('gone', true) }] }))
  await until(() => main(node, 'missing')?.state?.waiting?.reason === 'CreateContainerConfigError')
  assert.equal(main(node, 'missing')?.state?.waiting?.message, 'secret "gone" not found')
  await until(() => status(node, 'there').phase === 'Running' && status(node, 'optional').phase === 'Running')
  const spec = [...node.engine.specs.values()].find(s => s.labels?.['io.gantry.pod.name'] === 'there')
  assert.ok(spec?.env?.includes('X=v'))
  await all.close()
})

test('a container that cannot be started is reported and tried again with back-off', async () => {
  const node = fakeNode()
  node.engine.startErrors.set('main', 'exec: "nope": executable file not found in $PATH')
  const all = start(node)
  node.client.add(pod('a'))
  await until(() => main(node, 'a')?.state?.waiting?.reason === 'CrashLoopBackOff')
  assert.equal(main(node, 'a')?.lastState?.terminated?.reason, 'ContainerCannotRun')
  assert.match(main(node, 'a')!.lastState!.terminated!.message!, /executable file not found/)
  await all.close()
})

test('a start that containerd breaks off is made again and is no restart', async () => {
  const node = fakeNode()
  node.engine.breakOff.add('main')
  const all = start(node)
  node.client.add(pod('a'))
  await until(() => status(node, 'a').phase === 'Running')
  assert.equal(main(node, 'a')?.restartCount, 0)
  assert.equal(main(node, 'a')?.lastState?.terminated, undefined)
  await all.close()
})

test('hooks: a failed postStart stops the container, preStop runs before the signal', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a', { containers: [{ name: 'main', image: 'busybox:1', lifecycle: { preStop: { exec: { command: ['drain'] } } } }] }))
  await until(() => status(node, 'a').phase === 'Running')
  node.client.pods.remove('default/a')
  await until(() => all.list().length === 0)
  assert.ok(node.engine.log.indexOf('exec drain') < node.engine.log.findIndex(l => l.startsWith('stop main')))
  node.engine.execExit = 1
  node.client.add(pod('b', { containers: [{ name: 'main', image: 'busybox:1', lifecycle: { postStart: { exec: { command: ['init'] } } } }] }))
  await until(() => node.events.some(e => e.startsWith('FailedPostStartHook')))
  await until(() => (main(node, 'b')?.restartCount ?? 0) >= 1)
  await all.close()
})

test('activeDeadlineSeconds ends the pod', async () => {
  const node = fakeNode()
  const all = start(node)
  node.client.add(pod('a', { activeDeadlineSeconds: 1 }))
  await until(() => status(node, 'a').phase === 'Failed' && status(node, 'a').reason === 'DeadlineExceeded', 3000)
  assert.equal(node.engine.running('main'), undefined)
  await all.close()
})
