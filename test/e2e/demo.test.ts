/** The README's first command, in a folder of its own: the whole story runs, and its end leaves nothing. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, test } from 'node:test'
import { TestCluster, traces } from '../support/gantry.ts'

const c = new TestCluster()
after(() => c.stop())

test('gantry demo tells the whole story, and down --purge leaves nothing behind', { timeout: 420_000 }, async () => {
  const r = await c.gantry('demo')
  assert.equal(r.code, 0, `${r.stdout}\n${r.stderr}\n${c.logs()}`)
  for (const part of [
    /ready in [\d.]+ s: 3 nodes/, /answered from .*,.*,/, /six ready after/, /crashed; started again after/,
    /six ready on the remaining nodes [\d.]+ s after the kill/, /\d+ requests during the move and the update.*: 0 failed/, /kubectl get pods -A/,
  ]) assert.match(r.stdout, part)
  const { cluster } = c.file()
  const nodes = await c.kubectl('get', 'nodes', '-o', 'name')
  assert.equal(nodes.stdout.trim().split('\n').length, 3, nodes.stderr)
  const pods = await c.kubectl('get', 'pods', '-A')
  assert.match(pods.stdout, /talk +web-/)
  assert.match(pods.stdout, /default +lattice-app-/)

  assert.equal((await c.gantry('down', '--purge')).code, 0)
  assert.deepEqual(await traces(cluster.instance, c.home), [])
  assert.ok(!existsSync(c.kubeconfig))
})
