import assert from 'node:assert/strict'
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { connect, createServer } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { parse } from 'yaml'
import { createCA, issueCert, kubeconfig, writeIdentity } from './pki.ts'

test('a certificate carries user, groups, names and uses, and the CA verifies it', async () => {
  const ca = await createCA('gantry-ca')
  const root = new X509Certificate(ca.cert)
  assert.equal(root.ca, true)
  const issued = await issueCert(ca, {
    commonName: 'system:node:n1', organizations: ['system:nodes', 'a, b=c'], client: true, server: true,
    dnsNames: ['localhost', 'kubernetes.default.svc'], ipAddresses: ['127.0.0.1', '::1'], days: 10,
  })
  const cert = new X509Certificate(issued.cert)
  assert.equal(cert.checkIssued(root), true)
  assert.equal(cert.verify(root.publicKey), true)
  assert.equal(cert.checkPrivateKey(createPrivateKey(issued.key)), true)
  assert.equal(cert.ca, false)
  const { subject } = cert.toLegacyObject()
  assert.equal(subject.CN, 'system:node:n1')
  assert.deepEqual(subject.O, ['system:nodes', 'a, b=c'])
  assert.equal(cert.checkHost('localhost'), 'localhost')
  assert.equal(cert.checkIP('127.0.0.1'), '127.0.0.1')
  const lifeDays = (cert.validToDate.getTime() - Date.now()) / 86_400_000
  assert.ok(lifeDays > 9.9 && lifeDays <= 10, String(lifeDays))
})

test('bad requests are refused before a key is made', async () => {
  const ca = { cert: '', key: '' }
  await assert.rejects(issueCert(ca, { commonName: 'x' }), /needs a use/)
  await assert.rejects(issueCert(ca, { commonName: 'x', server: true, ipAddresses: ['300.1.1.1'] }), /"300.1.1.1" is not an IP address/)
})

test('mutual TLS works between two issued identities, and a stranger CA is refused', async () => {
  const ca = await createCA('gantry-ca')
  const server = await issueCert(ca, { commonName: 'server', server: true, ipAddresses: ['127.0.0.1'] })
  const client = await issueCert(ca, { commonName: 'admin', organizations: ['system:masters'], client: true })
  const stranger = await issueCert(await createCA('other'), { commonName: 'admin', client: true })
  const listener = createServer({ ...server, requestCert: true, rejectUnauthorized: false })
  const seen: (string | undefined)[] = []
  listener.on('secureConnection', (socket: TLSSocket) => {
    seen.push(socket.authorized ? String(socket.getPeerCertificate().subject.CN) : undefined)
    socket.end('x')
    socket.resume()
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  for (const identity of [client, stranger]) {
    const socket = connect({ host: '127.0.0.1', port, ca: ca.cert, cert: identity.cert, key: identity.key })
    socket.resume()
    await once(socket, 'close')
  }
  listener.close()
  assert.deepEqual(seen, ['admin', undefined])
})

test('identities are written for their owner only, and kubeconfig is YAML that holds them', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'gantry-pki-'))
  try {
    const pems = { ca: 'CA', cert: 'CERT', key: 'KEY' }
    const paths = await writeIdentity(join(dir, 'id'), pems)
    for (const path of Object.values(paths)) assert.equal((await stat(path)).mode & 0o777, 0o600)
    assert.equal((await stat(join(dir, 'id'))).mode & 0o777, 0o700)
    const config = parse(kubeconfig({ server: 'https://127.0.0.1:6443', ...pems, namespace: 'a' }))
    assert.equal(config.clusters[0].cluster.server, 'https://127.0.0.1:6443')
    assert.equal(Buffer.from(config.users[0].user['client-key-data'], 'base64').toString(), 'KEY')
    assert.equal(config['current-context'], config.contexts[0].name)
    assert.equal(config.contexts[0].context.namespace, 'a')
  } finally {
    await rm(dir, { recursive: true })
  }
})
