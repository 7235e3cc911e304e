/**
 * The API server under load, over TLS: `node bench/api.ts [creates]`. The server runs in a process of its own with its store in
 * a temporary directory; this process is the client.
 */
import { readFileSync } from 'node:fs'
import { Connection, load, row, startServer } from './support.ts'

const CLIENTS = 20
const creates = Number(process.argv[2] ?? 10_000)

function rssMB(pid: number): number { return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024 }

const pod = (name: string): string => JSON.stringify({
  apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: { app: 'bench' } },
  spec: { containers: [{ name: 'c', image: 'example/app:1', env: [{ name: 'PORT', value: '8080' }], ports: [{ containerPort: 8080 }], resources: { limits: { cpu: '100m', memory: '64Mi' } } }], nodeSelector: { none: 'x' } },
})

const server = await startServer(false)
try {
  const connections = await Promise.all(Array.from({ length: CLIENTS }, () => Connection.open(server.port, server.admin)))
  const cm = (i: number): string => `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm-${i}"},"data":{"key":"value-${i}","other":"${'x'.repeat(100)}"}}`
  await load(connections, 500, (c, i) => c.call('POST', '/api/v1/namespaces/default/configmaps', cm(1e6 + i)), 201)
  const c = await load(connections, creates, (k, i) => k.call('POST', '/api/v1/namespaces/default/configmaps', cm(i)), 201)
  row(`API: create ${creates} ConfigMaps, ${CLIENTS} clients, durable`, `${c.perS.toFixed(0)}/s, p50 ${c.p50.toFixed(1)} ms, p99 ${c.p99.toFixed(1)} ms`,
    '≥ 3000/s, p99 ≤ 30 ms', c.perS >= 3000 && c.p99 <= 30)

  await load(connections, 1000, (k, i) => k.call('POST', '/api/v1/namespaces/default/pods', pod(`p-${i}`)), 201)
  const one = (k: Connection) => k.call('GET', '/api/v1/namespaces/default/pods/p-1')
  await load(connections, 2000, one, 200)
  const g = await load(connections, 20_000, one, 200)
  row(`API: get one Pod, ${CLIENTS} clients`, `${g.perS.toFixed(0)}/s, p50 ${g.p50.toFixed(1)} ms, p99 ${g.p99.toFixed(1)} ms`, '≥ 8000/s', g.perS >= 8000)

  const list = (k: Connection) => k.call('GET', '/api/v1/namespaces/default/pods')
  const first = await load(connections.slice(0, 1), 1, list, 200)
  const again = await load(connections.slice(0, 1), 100, list, 200)
  const { body } = await list(connections[0]!)
  row(`API: list 1000 Pods (${(body.length / 1e6).toFixed(1)} MB)`, `p50 ${again.p50.toFixed(1)} ms, p99 ${again.p99.toFixed(1)} ms, the first ${first.p50.toFixed(1)} ms`,
    'p50 ≤ 5 ms', again.p50 <= 5)

  const b = await load(connections, 1000, (k, i) => k.call('POST', `/api/v1/namespaces/default/pods/p-${i}/binding`, '{"target":{"kind":"Node","name":"n1"}}'), 201)
  row('API: bind 1000 Pods', `${b.perS.toFixed(0)}/s, p99 ${b.p99.toFixed(1)} ms`)
  row(`server's memory with ${creates + 1500} objects, after all that`, `${rssMB(server.pid).toFixed(0)} MB`)
  for (const k of connections) k.close()
} finally {
  await server.stop()
}
