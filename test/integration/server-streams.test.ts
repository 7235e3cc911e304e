/** Logs, exec, attach, port-forward and the nodes' interface: a real server, a scripted node, the real kubectl. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { RemoteClient } from '../../src/client/client.ts'
import { readText } from '../../src/client/transport.ts'
import { nodes, pods } from '../../src/core/kinds.ts'
import { startFakeNode } from './fake-node.ts'
import type { FakeNode } from './fake-node.ts'
import { unpackKubectl } from './kubectl.ts'
import { startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'

let server: ServerProcess
let admin: RemoteClient
let node: FakeNode
let kubeconfig: string
let kubectlDir: string
let kubectlPath: string
let cleanUpKubectl: () => Promise<void>

before(async () => {
  const unpacked = await unpackKubectl()
  kubectlDir = unpacked.dir
  kubectlPath = unpacked.path
  cleanUpKubectl = unpacked.cleanUp
  server = await startServerProcess()
  admin = await server.client()
  kubeconfig = await server.kubeconfig()
  node = await startFakeNode(server, 'n1')
  await node.connected
  await admin.create(nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, spec: {} })
  for (const [name, containers] of [['p', ['c']], ['two', ['a', 'b', 'waiting']], ['unbound', ['c']]] as const) {
    await admin.create(pods, {
      apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' },
      spec: { containers: containers.map((c) => ({ name: c, image: 'i' })), ...(name === 'unbound' ? { schedulerName: 'none' } : { nodeName: 'n1' }) },
    })
    await admin.patch(pods, { namespace: 'default', name }, 'merge', { status: { phase: 'Running' } }, { subresource: 'status' })
  }
})

after(async () => {
  node?.tunnel.close()
  await server?.cleanUp()
  await cleanUpKubectl?.()
})

interface Outcome { code: number; stdout: string; stderr: string }

function kubectl(args: string[], options: { env?: Record<string, string>; input?: Buffer | string } = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(kubectlPath, args, {
      env: { PATH: process.env['PATH'], HOME: kubectlDir, KUBECONFIG: kubeconfig, ...options.env }, timeout: 20_000, maxBuffer: 1 << 27, encoding: 'latin1',
    }, (e, stdout, stderr) => resolve({ code: e === null ? 0 : typeof e.code === 'number' ? e.code : -1, stdout, stderr }))
    child.stdin!.on('error', () => {})
    if (options.input !== undefined) child.stdin!.end(options.input)
  })
}

async function until(condition: () => boolean | Promise<boolean>, ms = 5000): Promise<void> {
  const end = Date.now() + ms
  while (!await condition()) {
    if (Date.now() > end) assert.fail('the condition did not come true in time')
    await delay(20)
  }
}

const WEBSOCKET = {}
const SPDY = { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false', KUBECTL_PORT_FORWARD_WEBSOCKETS: 'false' }

test('kubectl logs: whole, tail, follow, and the errors users know', async () => {
  assert.equal((await kubectl(['logs', 'p'])).stdout, Array.from({ length: 10 }, (_, i) => `line ${i}\n`).join(''))
  assert.equal((await kubectl(['logs', 'p', '--tail=2'])).stdout, 'line 8\nline 9\n')
  assert.match((await kubectl(['logs', 'two', '-c', 'waiting'])).stderr, /BadRequest.*container "waiting" in pod "p" is waiting to start: ContainerCreating/)
  assert.match((await kubectl(['logs', 'unbound'])).stderr, /pod unbound does not have a host assigned/)
  assert.match((await kubectl(['logs', 'nothing'])).stderr, /pods "nothing" not found/)
  const direct = (query: string) => admin.requestOk('GET', `/api/v1/namespaces/default/pods/two/log?${query}`)
  await assert.rejects(direct(''), { code: 400, message: 'a container name must be specified for pod two, choose one of: [a b waiting]' })
  await assert.rejects(direct('container=x'), { code: 400, message: 'container x is not valid for pod two' })
  await assert.rejects(direct('container=a&tailLines=-1'), { code: 422, message: /tailLines: Invalid value: -1/ })
  await assert.rejects(direct('container=a&sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z'), { code: 422 })
  const followed = spawn(kubectlPath, ['logs', '-f', 'p', '--tail=1'], { env: { ...process.env, KUBECONFIG: kubeconfig, HOME: kubectlDir } })
  let output = ''
  followed.stdout.on('data', (data: Buffer) => { output += String(data) })
  await until(() => output.includes('line 12\n'))
  followed.kill()
  assert.ok(output.startsWith('line 9\nline 10\n'))
})

for (const [protocol, env] of [['WebSocket', WEBSOCKET], ['SPDY', SPDY]] as const) {
  describe(`over ${protocol}`, () => {
    test('kubectl exec gives output, error output and the exit code', async () => {
      const ok = await kubectl(['exec', 'p', '--', 'sh', '-c', 'echo out; echo err >&2'], { env })
      assert.deepEqual(ok, { code: 0, stdout: 'out\n', stderr: 'err\n' })
      const failed = await kubectl(['exec', 'p', '--', 'sh', '-c', 'exit 37'], { env })
      assert.equal(failed.code, 37, failed.stderr)
      assert.match(failed.stderr, /command terminated with exit code 37/)
    })

    test('kubectl exec -i passes megabytes through, and end of file', async () => {
      const input = randomBytes(8_000_000)
      const { code, stdout, stderr } = await kubectl(['exec', '-i', 'p', '--', 'sha256sum'], { env, input })
      assert.equal(code, 0, stderr)
      assert.equal(stdout.split(' ')[0], createHash('sha256').update(input).digest('hex'))
      const back = await kubectl(['exec', '-i', 'p', '--', 'cat'], { env, input })
      assert.equal(createHash('sha256').update(Buffer.from(back.stdout, 'latin1')).digest('hex'), createHash('sha256').update(input).digest('hex'))
    })

    test('kubectl exec -it has a terminal, whose size reaches the node', async () => {
      const line = `stty rows 33 cols 101; '${kubectlPath}' exec -it p -- sh -c 'tty; sleep 0.3; exit 5'; echo code $?`
      const shell = spawn('script', ['-qefc', line, '/dev/null'], { env: { ...process.env, ...env, KUBECONFIG: kubeconfig, HOME: kubectlDir, SHELL: '/bin/sh' } })
      let output = ''
      shell.stdout.on('data', (data: Buffer) => { output += String(data) })
      await once(shell, 'close')
      assert.match(output, /\/dev\/pts\//)
      assert.match(output, /code 5/)
      assert.ok(node.sizes.some((s) => s === '{"Width":101,"Height":33}'), node.sizes.join())
    })

    test('kubectl attach', async () => {
      const { code, stdout, stderr } = await kubectl(['attach', '-i', 'p'], { env, input: 'typed\n' })
      assert.equal(code, 0, stderr)
      assert.match(stdout, /attached\ntyped\n/)
    })

    test('kubectl exec tells why it cannot', async () => {
      assert.match((await kubectl(['exec', 'nothing', '--', 'true'], { env })).stderr, /pods "nothing" not found/)
      assert.match((await kubectl(['exec', 'unbound', '--', 'true'], { env })).stderr, /does not have a host assigned/)
      assert.match((await kubectl(['exec', 'p', '--', '/no/such/program'], { env })).stderr, /ENOENT/)
    })

    test('a client that goes away ends the command', async () => {
      const known = node.pids.length
      const child = spawn(kubectlPath, ['exec', 'p', '--', 'sleep', '600'], { env: { ...process.env, ...env, KUBECONFIG: kubeconfig, HOME: kubectlDir } })
      await until(() => node.pids.length > known)
      const pid = node.pids.at(-1)!
      assert.ok(existsSync(`/proc/${pid}`))
      child.kill('SIGKILL')
      await until(() => !existsSync(`/proc/${pid}`))
    })

    test('kubectl port-forward carries several connections', async () => {
      const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
      echo.listen(0, '127.0.0.1')
      await once(echo, 'listening')
      const forward = spawn(kubectlPath, ['port-forward', 'pod/p', `:${(echo.address() as AddressInfo).port}`], { env: { ...process.env, ...env, KUBECONFIG: kubeconfig, HOME: kubectlDir } })
      let output = ''
      let errors = ''
      forward.stdout.on('data', (data: Buffer) => { output += String(data) })
      forward.stderr.on('data', (data: Buffer) => { errors += String(data) })
      try {
        await until(() => /127\.0\.0\.1:(\d+)/.test(output))
        const local = Number(/127\.0\.0\.1:(\d+)/.exec(output)![1])
        const { connect } = await import('node:net')
        const results = await Promise.all(Array.from({ length: 5 }, async (_, i) => {
          const data = Buffer.alloc(400_000, String(i))
          const socket = connect(local, '127.0.0.1')
          socket.end(data)
          const parts: Buffer[] = []
          for await (const part of socket) parts.push(part as Buffer)
          return Buffer.concat(parts).equals(data)
        })).catch((e: Error) => `${e.message}: ${errors}`)
        assert.deepEqual(results, [true, true, true, true, true], errors)
      } finally {
        forward.kill()
        echo.close()
      }
    })
  })
}

test('the client of this project runs commands too', async () => {
  const stream = await admin.execStream({ namespace: 'default', pod: 'p', command: ['sh', '-c', 'cat; echo e >&2; exit 3'], stdin: true })
  const data = randomBytes(3_000_000)
  stream.stdin.end(data)
  const [out, err] = await Promise.all([collect(stream.stdout), collect(stream.stderr)])
  assert.equal(createHash('sha256').update(out).digest('hex'), createHash('sha256').update(data).digest('hex'))
  assert.equal(err.toString(), 'e\n')
  assert.equal(await stream.exitCode, 3)
  await assert.rejects(admin.execStream({ namespace: 'default', pod: 'nothing', command: ['true'] }), { code: 404, message: 'pods "nothing" not found' })
})

/** Opens exec of `p` with the WebSocket protocols given; resolves with what came until the close. */
async function webSocketExec(protocols: string[], command: string[], input?: (ws: WebSocket) => void) {
  const query = new URLSearchParams({ stdin: 'true', stdout: 'true', stderr: 'true' })
  for (const word of command) query.append('command', word)
  const ws = new WebSocket(`${server.url.replace('https', 'wss')}/api/v1/namespaces/default/pods/p/exec?${query}`, protocols, await server.identity('admin', 'system:masters'))
  const messages: { data: Buffer; binary: boolean }[] = []
  ws.on('message', (data: Buffer, binary: boolean) => messages.push({ data, binary }))
  await new Promise<void>((resolve, reject) => {
    ws.once('open', resolve)
    ws.once('error', reject)
  })
  input?.(ws)
  const [code] = await once(ws, 'close') as [number]
  return { code, protocol: ws.protocol, messages }
}

test('every WebSocket protocol that clients speak', async () => {
  const channel = (messages: { data: Buffer }[], n: number) => Buffer.concat(messages.filter((m) => m.data[0] === n).map((m) => m.data.subarray(1))).toString()
  const v4 = await webSocketExec(['v4.channel.k8s.io'], ['sh', '-c', 'read x; echo got $x; exit 2'], (ws) => ws.send(Buffer.from('\0in\n')))
  assert.equal(v4.code, 1000)
  assert.equal(channel(v4.messages, 1), 'got in\n')
  assert.equal(JSON.parse(channel(v4.messages, 3)).details.causes[0].message, '2')
  assert.equal(v4.messages[0]!.data.length, 1)
  const best = await webSocketExec(['v3.channel.k8s.io', 'v4.channel.k8s.io', 'v5.channel.k8s.io'], ['cat'], (ws) => ws.send(Buffer.from([255, 0])))
  assert.equal(best.protocol, 'v5.channel.k8s.io')
  assert.deepEqual(JSON.parse(channel(best.messages, 3)), { metadata: {}, status: 'Success' })
  const old = await webSocketExec(['channel.k8s.io'], ['sh', '-c', 'echo x; exit 2'])
  assert.match(channel(old.messages, 3), /^command terminated with non-zero exit code: exit status 2$/)
  const none = await webSocketExec([], ['echo', 'plain'])
  assert.equal(channel(none.messages, 1), 'plain\n')
  const base64 = await webSocketExec(['v4.base64.channel.k8s.io'], ['head', '-n1'], (ws) => ws.send(`0${Buffer.from('hello\n').toString('base64')}`))
  assert.ok(base64.messages.every((m) => !m.binary))
  const text = base64.messages.filter((m) => String(m.data).startsWith('1')).map((m) => Buffer.from(String(m.data).slice(1), 'base64').toString()).join('')
  assert.equal(text, 'hello\n')
  await assert.rejects(webSocketExec(['v9.channel.k8s.io'], ['true']), /400/)
})

test('upgrades that cannot be are refused with a reason', async () => {
  const tls = await server.identity('admin', 'system:masters')
  interface Refusal { status: number | undefined; headers: IncomingHttpHeaders; text: string }
  const upgrade = (query: string, headers: Record<string, string | string[]>) => new Promise<Refusal>((resolve, reject) => {
    const asked = request(`${server.url}/api/v1/namespaces/default/pods/p/exec?${query}`, { method: 'POST', ...tls, agent: false, headers: { connection: 'Upgrade', ...headers } }, (res) => {
      let text = ''
      res.setEncoding('utf8').on('data', (part: string) => { text += part }).on('end', () => resolve({ status: res.statusCode, headers: res.headers, text }))
    })
    asked.on('error', reject)
    asked.on('upgrade', (_res, socket) => {
      socket.destroy()
      reject(new Error('it was upgraded'))
    })
    asked.end()
  })
  const spdy = { upgrade: 'SPDY/3.1' }
  assert.match((await upgrade('command=x&stdout=1', spdy)).text, /X-Stream-Protocol-Version is missing/)
  const unknown = await upgrade('command=x&stdout=1', { ...spdy, 'x-stream-protocol-version': 'v9.channel.k8s.io' })
  assert.equal(unknown.status, 403)
  assert.match(String(unknown.headers['x-accepted-stream-protocol-versions']), /v4\.channel\.k8s\.io/)
  assert.match((await upgrade('command=x', { ...spdy, 'x-stream-protocol-version': 'v4.channel.k8s.io' })).text, /at least 1 of stdin, stdout, stderr/)
  assert.match((await upgrade('stdout=1', { ...spdy, 'x-stream-protocol-version': 'v4.channel.k8s.io' })).text, /at least one command/)
  assert.match((await upgrade('command=x&stdout=1', { upgrade: 'telnet' })).text, /neither websocket nor SPDY/)
  assert.match((await admin.request('POST', '/api/v1/namespaces/default/pods/p/exec?command=x').then((a) => readText(a.body))), /Upgrade request required/)
})

test("the node's interface: authorised, streaming both ways", async () => {
  const data = randomBytes(30_000_000)
  const answer = await admin.request('POST', '/gantry/v1/nodes/n1/echo?x=1', { body: Readable.from([data.subarray(0, 10_000_000), data.subarray(10_000_000)]), headers: { 'content-type': 'application/x-tar' } })
  assert.equal(answer.status, 200)
  assert.equal(answer.headers['content-type'], 'application/x-echo')
  const back = await collect(answer.body)
  assert.equal(createHash('sha256').update(back).digest('hex'), createHash('sha256').update(data).digest('hex'))
  assert.ok(node.requests.includes('POST /echo?x=1'))
  await assert.rejects(admin.requestOk('GET', '/gantry/v1/nodes/none/x'), { code: 404, message: 'nodes "none" not found' })
  const jane = await server.client('jane', 'dev')
  await assert.rejects(jane.requestOk('GET', '/gantry/v1/nodes/n1/stats'), { code: 403, message: /nodes "n1" is forbidden: User "jane" cannot get resource "nodes\/proxy"/ })
  const peer = await server.client('system:node:n2', 'system:nodes')
  await assert.rejects(peer.requestOk('GET', '/gantry/v1/nodes/n1/images'), { code: 403 })
  await assert.rejects(peer.requestOk('GET', '/gantry/v1/nodes/n1/v2/x/manifests/y'), { code: 404, message: /no such path: \/v2\/x\/manifests\/y/ })
})

test('a node lost in the midst of a command is told as such; a server killed and restarted is found again', async () => {
  const lost = await startFakeNode(server, 'n9')
  await lost.connected
  await admin.create(nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n9' }, spec: {} })
  await admin.create(pods, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'q', namespace: 'default' }, spec: { nodeName: 'n9', containers: [{ name: 'c', image: 'i' }] } })
  const stream = await admin.execStream({ namespace: 'default', pod: 'q', command: ['sleep', '600'] })
  stream.stdout.resume()
  stream.stderr.resume()
  lost.tunnel.close()
  await assert.rejects(stream.exitCode, /node "n9" was lost before the command's result was known|ended the stream/)

  const informer = admin.informer(pods)
  const states: boolean[] = []
  informer.onConnection!((connected) => states.push(connected))
  await informer.synced
  const before = informer.size
  await server.kill()
  await until(() => states.at(-1) === false)
  assert.equal(informer.size, before)
  await server.start()
  await until(() => states.at(-1) === true)
  await admin.create(pods, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'after', namespace: 'default' }, spec: { containers: [{ name: 'c', image: 'i' }] } })
  await until(() => informer.get('default/after') !== undefined)
  // The node has dialled again by itself; a request that comes first waits for it.
  assert.match(await readText(await admin.requestOk('GET', '/api/v1/namespaces/default/pods/p/log')), /^line 0\n/)
})

async function collect(body: Readable): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of body) parts.push(part as Buffer)
  return Buffer.concat(parts)
}
