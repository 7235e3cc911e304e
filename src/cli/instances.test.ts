import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Instance, named } from './instances.ts'

const instance = (name: string, app: string, of: string): Instance => ({
  pod: { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' }, spec: { containers: [] } }, app, of, status: 'Running', restarts: '0',
})
const all = [
  instance('web-1', 'web', 'deployment'), instance('web-2', 'web', 'replicationcontroller'), instance('cli', 'cli', 'pod'),
  instance('web-3', 'shop/web', 'compose'), instance('db-1', 'shop/db', 'compose'),
]
const names = (text: string) => named(all, text).map(i => i.pod.metadata.name)

test('an application, a project, a service of it, a Pod', () => {
  assert.deepEqual(names('web'), ['web-1', 'web-2'])
  assert.deepEqual(names('shop'), ['web-3', 'db-1'])
  assert.deepEqual(names('shop/web'), ['web-3'])
  assert.deepEqual(names('web-3'), ['web-3'])
})

test('a kind before the slash holds', () => {
  assert.deepEqual(names('deploy/web'), ['web-1'])
  assert.deepEqual(names('replicationcontroller/web'), ['web-2'])
  assert.deepEqual(names('pod/web-3'), ['web-3'])
  assert.throws(() => named(all, 'po/web'), /no application or instance "po\/web"/)
})

test('a service without instances is not another application of its name', () => {
  assert.throws(() => named(all, 'store/web'), /no application or instance "store\/web"/)
})
