import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { pods, serviceAccounts } from '../../core/kinds.ts'
import { createCA } from '../../machines/pki.ts'
import type { Attributes, Request, User } from '../host.ts'
import { Authenticator } from './authenticator.ts'
import { MemoryClient } from './memory-client.ts'
import { ServiceAccountTokens } from './service-account-tokens.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-auth-'))
after(() => rmSync(dir, { recursive: true }))
const { key } = await createCA('test')
const tokens = new ServiceAccountTokens(key, 'cluster.local')

/** A request over a connection whose client certificate names `subject`. */
function request(options: {
  url?: string; headers?: [string, string][]; subject?: { CN?: string; O?: string | string[] }; validTo?: string; authorized?: boolean
} = {}): Request {
  const headers = options.headers ?? []
  return {
    url: options.url ?? '/api/v1/pods', headers: Object.fromEntries(headers.map(([k, v]) => [k.toLowerCase(), v])), rawHeaders: headers.flat(),
    socket: {
      authorized: options.authorized ?? options.subject !== undefined,
      getPeerCertificate: () => ({ subject: options.subject, valid_to: options.validTo ?? 'Jan  1 00:00:00 2100 GMT' }),
    },
  } as unknown as Request
}

function setUp(tokensFile?: string) {
  const memory = new MemoryClient()
  const asked: Attributes[] = []
  const authenticator = new Authenticator({
    tokensFile, tokens, client: memory.asClient(),
    authorize: (user: User, a: Attributes) => {
      asked.push(a)
      return { allowed: user.groups.includes('system:masters') }
    },
  })
  return { memory, authenticator, asked }
}

test('a client certificate gives user and groups; one that is not trusted or no longer valid gives nobody', async () => {
  const { authenticator } = setUp()
  assert.deepEqual(await authenticator.authenticate(request({ subject: { CN: 'jane', O: ['dev', 'ops'] } })), { name: 'jane', groups: ['dev', 'ops', 'system:authenticated'] })
  assert.deepEqual(await authenticator.authenticate(request({ subject: { CN: 'jane', O: 'dev' } })), { name: 'jane', groups: ['dev', 'system:authenticated'] })
  assert.equal(await authenticator.authenticate(request({ subject: { CN: 'jane' }, authorized: false })), undefined)
  assert.equal(await authenticator.authenticate(request({ subject: { CN: 'jane' }, validTo: 'Jan  1 00:00:00 2020 GMT' })), undefined)
  const same = request({ subject: { CN: 'jane' } })
  assert.equal(await authenticator.authenticate(same), await authenticator.authenticate(same))
})

test('without credentials only health and version are answered', async () => {
  const { authenticator } = setUp()
  for (const url of ['/livez', '/readyz?verbose', '/healthz/ping', '/version']) {
    assert.equal((await authenticator.authenticate(request({ url })))?.name, 'system:anonymous', url)
  }
  for (const url of ['/', '/api', '/livezz', '/metrics', '/versions']) assert.equal(await authenticator.authenticate(request({ url })), undefined, url)
})

test('static tokens', async () => {
  const path = join(dir, 'tokens.json')
  writeFileSync(path, JSON.stringify([{ token: 'secret', user: 'ci', groups: ['dev'] }]))
  const { authenticator } = setUp(path)
  assert.deepEqual(await authenticator.authenticate(request({ headers: [['Authorization', 'Bearer secret']] })), { name: 'ci', groups: ['dev', 'system:authenticated'] })
  const protocol = `v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.${Buffer.from('secret').toString('base64url')}`
  assert.equal((await authenticator.authenticate(request({ headers: [['Sec-WebSocket-Protocol', protocol]] })))?.name, 'ci')
  for (const header of ['Bearer secre', 'Bearer ', 'Basic secret', 'Bearer secret secret']) {
    assert.equal(await authenticator.authenticate(request({ headers: [['Authorization', header]] })), undefined, header)
  }
  writeFileSync(path, JSON.stringify([{ token: 'x' }]))
  assert.throws(() => setUp(path), /entry 0 needs a token and a user/)
})

test('service account tokens hold while account and pod live, for their audience and time', async () => {
  const { memory, authenticator } = setUp()
  memory.put(serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'sa', namespace: 'a', uid: 'u1' } })
  memory.put(pods, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'a', uid: 'p1' }, spec: { containers: [] } })
  const input = { namespace: 'a', name: 'sa', uid: 'u1', audiences: [tokens.issuer], expirationSeconds: 600, pod: { name: 'p', uid: 'p1' } }
  const { token } = await tokens.issue(input)
  const ask = (text: string) => authenticator.authenticate(request({ headers: [['Authorization', `Bearer ${text}`]] }))
  const user = await ask(token)
  assert.equal(user?.name, 'system:serviceaccount:a:sa')
  assert.deepEqual(user?.groups, ['system:serviceaccounts', 'system:serviceaccounts:a', 'system:authenticated'])
  assert.deepEqual(user?.extra?.['authentication.kubernetes.io/pod-name'], ['p'])
  assert.equal(await ask(token), user)
  assert.equal(await ask((await tokens.issue({ ...input, audiences: ['vault'] })).token), undefined)
  assert.equal((await authenticator.userOfToken((await tokens.issue({ ...input, audiences: ['vault'] })).token, ['vault', 'x']))?.audiences[0], 'vault')
  assert.equal(await ask((await tokens.issue(input, Date.now() - 700_000)).token), undefined)
  memory.remove(pods, { namespace: 'a', name: 'p' })
  assert.equal(await ask(token), undefined)
  const unbound = (await tokens.issue({ ...input, pod: undefined as never })).token
  assert.equal((await ask(unbound))?.name, 'system:serviceaccount:a:sa')
  memory.put(serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'sa', namespace: 'a', uid: 'u2' } })
  assert.equal(await ask(unbound), undefined)
})

test('forged tokens are refused', async () => {
  const input = { namespace: 'a', name: 'sa', uid: 'u1', audiences: [], expirationSeconds: 600 }
  const { token } = await tokens.issue(input)
  const [head, body, signature] = token.split('.') as [string, string, string]
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString())
  const header = JSON.parse(Buffer.from(head, 'base64url').toString())
  assert.ok(await tokens.verify(token))
  assert.equal(await tokens.verify(`${head}.${encode({ ...claims, sub: 'system:serviceaccount:kube-system:x' })}.${signature}`), undefined)
  assert.equal(await tokens.verify(`${encode({ ...header, alg: 'none' })}.${body}.`), undefined)
  assert.equal(await tokens.verify(`${encode({ ...header, alg: 'HS256' })}.${body}.${signature}`), undefined)
  assert.equal(await tokens.verify('a.b.c'), undefined)
  assert.equal(await tokens.verify(''), undefined)
  // Another server of the same cluster accepts it, another cluster does not.
  assert.ok(await new ServiceAccountTokens(key, 'cluster.local').verify(token))
})

test('another CA signs with another key', async () => {
  const other = new ServiceAccountTokens((await createCA('other')).key, 'cluster.local')
  const { token } = await other.issue({ namespace: 'a', name: 'sa', uid: 'u1', audiences: [], expirationSeconds: 600 })
  assert.ok(await other.verify(token))
  assert.equal(await tokens.verify(token), undefined)
})

test('impersonation needs the right to each part and replaces the user', async () => {
  const { authenticator, asked } = setUp()
  const headers: [string, string][] = [
    ['Impersonate-User', 'jane'], ['Impersonate-Group', 'a,b'], ['Impersonate-Group', 'c'], ['Impersonate-Extra-Team%2fx', 't'], ['Impersonate-Uid', '7'],
  ]
  const jane = await authenticator.authenticate(request({ subject: { CN: 'root', O: 'system:masters' }, headers }))
  assert.deepEqual(jane, { name: 'jane', uid: '7', groups: ['a,b', 'c', 'system:authenticated'], extra: { 'team/x': ['t'] } })
  assert.deepEqual(asked.map((a) => `${a.group}/${a.resource}/${a.subresource ?? ''}/${a.name}`),
    ['/users//jane', '/groups//a,b', '/groups//c', 'authentication.k8s.io/uids//7', 'authentication.k8s.io/userextras/team/x/t'])
  const sa = await authenticator.authenticate(request({ subject: { CN: 'root', O: 'system:masters' }, headers: [['Impersonate-User', 'system:serviceaccount:n:s']] }))
  assert.deepEqual(sa?.groups, ['system:serviceaccounts', 'system:serviceaccounts:n', 'system:authenticated'])
  await assert.rejects(authenticator.authenticate(request({ subject: { CN: 'bob' }, headers })), /users "jane" is forbidden: User "bob" cannot impersonate/)
  await assert.rejects(authenticator.authenticate(request({ subject: { CN: 'bob' }, headers: [['Impersonate-Group', 'x']] })), /need an Impersonate-User/)
})
