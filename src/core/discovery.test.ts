import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aggregatedDiscovery, apiGroup, apiGroupList, apiResourceList, apiVersions } from './discovery.ts'
import { composeProjects, defineKind, KindTable } from './kinds.ts'
import { openApiDocument, openApiGroupVersions } from './openapi.ts'

const table = new KindTable()
type Any = any // eslint-disable-line @typescript-eslint/no-explicit-any

test('legacy discovery', () => {
  assert.deepEqual((apiVersions('1.2.3.4:6443') as Any).versions, ['v1'])
  const list = apiGroupList(table) as Any
  assert.deepEqual(list.groups.find((g: Any) => g.name === 'apps'), {
    name: 'apps', versions: [{ groupVersion: 'apps/v1', version: 'v1' }],
      preferredVersion: { groupVersion: 'apps/v1', version: 'v1' },
  })
  assert.equal(list.groups.some((g: Any) => g.name === ''), false)
  assert.equal((apiGroup(table, 'apps') as Any).kind, 'APIGroup')
  assert.equal(apiGroup(table, 'nope'), undefined)
  const core = apiResourceList(table, 'v1') as Any
  const row = (name: string): Any => core.resources.find((r: Any) => r.name === name)
  assert.deepEqual(row('pods/eviction'), { name: 'pods/eviction', singularName: '', namespaced: true, group: 'policy',
    version: 'v1', kind: 'Eviction', verbs: ['create'] })
  assert.deepEqual(row('pods').shortNames, ['po'])
  assert.equal(row('replicationcontrollers/scale').kind, 'Scale')
  assert.equal(apiResourceList(table, 'apps/v9'), undefined)
  assert.equal((apiResourceList(table, 'authorization.k8s.io/v1') as Any).resources.length, 4)
})

test('aggregated discovery names the same resources', () => {
  for (const part of ['core', 'groups'] as const) {
    for (const group of (aggregatedDiscovery(table, part) as Any).items) {
      for (const version of group.versions) {
        const gv = group.metadata.name ? `${group.metadata.name}/${version.version}` : version.version
        const flat = version.resources.flatMap((r: Any) => [r.resource,
          ...(r.subresources ?? []).map((s: Any) => `${r.resource}/${s.subresource}`)])
        assert.deepEqual(flat, (apiResourceList(table, gv) as Any).resources.map((r: Any) => r.name), gv)
      }
    }
  }
  const kinds = new KindTable()
  kinds.add(composeProjects)
  assert.ok(JSON.stringify(aggregatedDiscovery(kinds, 'groups')).includes('"composeprojects"'))
})

test('OpenAPI documents hold together', () => {
  const kinds = new KindTable()
  kinds.add(composeProjects)
  kinds.add(defineKind({ group: 'example.org', version: 'v1', kind: 'Thing', plural: 'things' }))
  assert.deepEqual(openApiGroupVersions(kinds).slice(0, 2), ['api/v1', 'apis/apps/v1'])
  assert.equal(openApiDocument(kinds, 'apis/nope/v1'), undefined)
  const operations = new Set<string>()
  for (const path of openApiGroupVersions(kinds)) {
    const document = openApiDocument(kinds, path) as Any
    for (const [ref] of JSON.stringify(document).matchAll(/#\/components\/schemas\/[^"]+/g)) {
      assert.ok(document.components.schemas[ref.slice('#/components/schemas/'.length)], ref)
    }
    for (const item of Object.values(document.paths) as Any[]) {
      for (const operation of Object.values(item) as Any[]) {
        assert.ok(!operations.has(operation.operationId), operation.operationId)
        operations.add(operation.operationId)
      }
    }
  }
  const apps = openApiDocument(kinds, 'apis/apps/v1') as Any
  const patch = apps.paths['/apis/apps/v1/namespaces/{namespace}/deployments/{name}'].patch
  assert.deepEqual(patch['x-kubernetes-group-version-kind'], { group: 'apps', version: 'v1', kind: 'Deployment' })
  assert.ok(patch.parameters.some((p: Any) => p.name === 'fieldValidation' && p.in === 'query'))
  assert.ok(patch.requestBody.content['application/strategic-merge-patch+json'])
  const pod = apps.components.schemas['io.k8s.api.core.v1.PodSpec']
  assert.equal(pod.properties.containers['x-kubernetes-patch-merge-key'], 'name')
  assert.equal(pod.properties.volumes['x-kubernetes-patch-strategy'], 'merge,retainKeys')
  assert.deepEqual(pod.required, ['containers'])
  assert.deepEqual(apps.components.schemas['io.k8s.api.core.v1.Container'].properties.ports['x-kubernetes-list-map-keys'],
    ['containerPort', 'protocol'])
  const thing = openApiDocument(kinds, 'apis/example.org/v1') as Any
  assert.equal(thing.paths['/apis/example.org/v1/namespaces/{namespace}/things/{name}'].patch.requestBody.content['application/strategic-merge-patch+json'], undefined)
})
