/** What Pods ask for, in the kernel's own control groups, of the version this machine has; nothing stays of a killed host or a purge. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Pod } from '../../src/core/types/index.ts'
import { hierarchies } from '../../src/machines/cgroups.ts'
import { TestCluster, traces, waitFor } from '../support/gantry.ts'

/** An emulated machine is many times slower: test/vm says how many. */
const patience = Number(process.env['GANTRY_TEST_PATIENCE'] ?? 1)
const v2 = existsSync('/sys/fs/cgroup/cgroup.controllers')

/** Text of a file of a group; `controller` names the hierarchy on version 1. */
function read(controller: string, group: string, file: string): string {
  const dir = hierarchies().find(h => v2 || h.split('/').pop()!.split(',').includes(controller))
  return readFileSync(join(dir!, group, file), 'utf8').trim()
}

const pod = (name: string, container: object, spec: object = {}) => ({
  apiVersion: 'v1', kind: 'Pod', metadata: { name },
  spec: { terminationGracePeriodSeconds: 1, restartPolicy: 'Never', ...spec, containers: [{ name: 'c', image: 'busybox:1', ...container }] },
})

async function apply(c: TestCluster, ...objects: object[]): Promise<void> {
  const file = join(c.home, 'objects.json')
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }))
  await c.ok('apply', '-f', file)
}

function phase(c: TestCluster, name: string, wanted: string): Promise<Pod> {
  return waitFor(`Pod ${name} to be ${wanted}`, 30_000 * patience, async () => {
    const p = await c.json<Pod>('get', 'pod', name)
    return p.status?.phase === wanted && p
  })
}

async function groupOf(c: TestCluster, p: Pod): Promise<string> {
  const id = p.status?.containerStatuses?.[0]?.containerID?.split('://')[1]
  return `/gantry-${c.file().cluster.instance}/${p.spec.nodeName}/${p.metadata.uid}/${id}`
}

const groupsOf = (path: string): string[] => hierarchies().map(h => join(h, path)).filter(d => existsSync(d))

describe(`control groups of version ${v2 ? 2 : 1}`, { timeout: 120_000 * patience }, () => {
  describe('on this machine itself', () => {
    let c: TestCluster
    before(async () => {
      c = new TestCluster()
      await c.ok('up', '--timeout', String(60 * patience))
      await c.importBusybox()
    })
    after(() => c?.stop())

    it('limits what a Pod may use, and lets it see that', async () => {
      const resources = { requests: { cpu: '100m' }, limits: { cpu: '250m', memory: '64Mi' } }
      await apply(c, pod('limited', { resources, command: ['sh', '-c', 'echo begun; exec sleep 10000'] }))
      const group = await groupOf(c, await phase(c, 'limited', 'Running'))
      if (v2) {
        assert.equal(read('cpu', group, 'cpu.max'), '25000 100000')
        // 102 shares of 2…262144 on the scale of 1…10000.
        assert.equal(read('cpu', group, 'cpu.weight'), '4')
        assert.equal(read('memory', group, 'memory.max'), String(64 << 20))
        assert.equal(read('memory', group, 'memory.swap.max'), '0')
        assert.equal(read('pids', group, 'pids.max'), 'max')
        assert.equal(await c.ok('exec', 'limited', 'cat', '/proc/self/cgroup'), '0::/\n')
        assert.equal(await c.ok('exec', 'limited', 'cat', '/sys/fs/cgroup/memory.max'), `${64 << 20}\n`)
      } else {
        assert.equal(read('cpu', group, 'cpu.cfs_quota_us'), '25000')
        assert.equal(read('cpu', group, 'cpu.cfs_period_us'), '100000')
        assert.equal(read('cpu', group, 'cpu.shares'), '102')
        assert.equal(read('memory', group, 'memory.limit_in_bytes'), String(64 << 20))
      }
      assert.match(await c.ok('logs', 'limited'), /begun/)
    })

    it('measures it', async () => {
      const row = await waitFor('figures of the Pod', 30_000 * patience, async () => {
        const rows = await c.json<{ instance: string; memoryBytes: number; cpuMilli: number }[]>('top')
        return rows.find(r => r.instance === 'limited' && r.memoryBytes > 0)
      })
      assert.ok(row.memoryBytes < 64 << 20 && row.cpuMilli <= 260, JSON.stringify(row))
    })

    it('reports a kill for want of memory as such', async () => {
      const command = ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=256M', 'count=1']
      await apply(c, pod('greedy', { resources: { limits: { memory: '32Mi' } }, command }))
      const p = await phase(c, 'greedy', 'Failed')
      const end = p.status?.containerStatuses?.[0]?.state?.terminated
      assert.deepEqual([end?.reason, end?.exitCode], ['OOMKilled', 137])
    })

    it('removes a Pod\'s groups with it', async () => {
      const group = await groupOf(c, await c.json<Pod>('get', 'pod', 'limited'))
      assert.notDeepEqual(groupsOf(group), [])
      await c.ok('delete', 'pod', 'limited')
      await waitFor('the groups to go', 20_000 * patience, () => groupsOf(join(group, '..')).length === 0)
    })

    it('leaves nothing after a purge', async () => {
      const { instance } = c.file().cluster
      await c.ok('down', '--purge')
      assert.deepEqual(await traces(instance, c.home), [])
    })
  })

  describe('on hosts made of namespaces', () => {
    let c: TestCluster
    before(async () => {
      c = new TestCluster()
      await c.ok('up', '--nodes', '2', '--timeout', String(60 * patience))
      await c.importBusybox()
    })
    after(() => c?.stop())

    it('runs a Pod on each, in the group of its host', async () => {
      const on = (node: string) => pod(node, { command: ['sleep', '10000'], resources: { limits: { memory: '64Mi' } } }, { nodeName: node })
      await apply(c, on('node-1'), on('node-2'))
      for (const node of ['node-1', 'node-2']) {
        const group = await groupOf(c, await phase(c, node, 'Running'))
        assert.equal(read('memory', group, v2 ? 'memory.max' : 'memory.limit_in_bytes'), String(64 << 20))
      }
    })

    it('removes the groups of a killed host', async () => {
      const group = `/gantry-${c.file().cluster.instance}/node-2`
      assert.notDeepEqual(groupsOf(group), [])
      await c.ok('machine', 'kill', 'node-2')
      assert.deepEqual(groupsOf(group), [])
    })

    it('leaves nothing after a purge', async () => {
      const { instance } = c.file().cluster
      await c.ok('down', '--purge')
      assert.deepEqual(await traces(instance, c.home), [])
    })
  })
})
