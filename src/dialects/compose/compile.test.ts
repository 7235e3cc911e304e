import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ComposeProject, ComposeService, Deployment } from '../../core/types/index.ts'
import { compileService } from './compile.ts'

function compiled(service: ComposeService) {
  const project: ComposeProject = {
    apiVersion: 'gantry.dev/v1', kind: 'ComposeProject', metadata: { name: 'shop', namespace: 'shop', uid: 'u' }, spec: { services: { web: service } },
  }
  return compileService(project, 'web', { volumesDir: '/volumes' })
}
const strategyOf = (service: ComposeService) => (compiled(service).workload as Deployment).spec.strategy?.type

test('a service is replaced without a gap unless old and new would share files or a node\'s port', () => {
  assert.equal(strategyOf({ image: 'x', ports: [{ published: 80, target: 80, protocol: 'tcp' }] }), 'RollingUpdate')
  assert.equal(strategyOf({ image: 'x', ports: [{ published: 53, target: 53, protocol: 'udp' }] }), 'Recreate')
  assert.equal(strategyOf({ image: 'x', volumes: [{ type: 'volume', source: 'data', target: '/data' }] }), 'Recreate')
})

test('published ports: TCP by the router, UDP by the node', () => {
  const { routes, workload } = compiled({ image: 'x', ports: [{ published: 8080, target: 80, protocol: 'tcp' }, { published: 5353, target: 53, protocol: 'udp' }] })
  assert.deepEqual(routes.map(r => [r.spec.tcpPort, r.spec.backend.port]), [[8080, 80]])
  assert.deepEqual((workload as Deployment).spec.template.spec.containers[0]!.ports, [
    { containerPort: 80, protocol: 'TCP' }, { containerPort: 53, protocol: 'UDP', hostPort: 5353 },
  ])
})
