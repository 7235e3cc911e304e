/** The client against servers that authenticate, redirect, lie and stall. */
import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { sha256 } from '../images/content.ts'
import { OCI_MANIFEST } from '../images/media-types.ts'
import { parseChallenges } from './auth.ts'
import { Repository } from './client.ts'
import { isLoopback } from './endpoints.ts'
import { http } from './http.ts'
import { Mirrored, parseMirror } from './mirrored.ts'
import { Registries } from './registries.ts'

async function serve(handler: RequestListener): Promise<string> {
  const server = createServer(handler).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  after(() => { server.closeAllConnections(); server.close() })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}
const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: {}, layers: [] }))
const giveManifest = (res: ServerResponse, bytes = manifest) => res.writeHead(200, { 'content-type': OCI_MANIFEST, 'docker-content-digest': sha256(manifest) }).end(bytes)

test('challenges are parsed', () => {
  assert.deepEqual(parseChallenges('Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"'),
    [{ scheme: 'bearer', parameters: { realm: 'https://a/t', service: 's', scope: 'repository:x:pull,push' } }])
  assert.deepEqual(parseChallenges('Basic realm="a, b", Bearer realm=x').map(c => c.scheme), ['basic', 'bearer'])
  assert.deepEqual(parseChallenges('realm="no scheme"'), [])
})

test('only loopback is spoken to in the clear', () => {
  for (const h of ['localhost', 'localhost:5000', '127.0.0.1:1', '127.9.9.9', '[::1]:5000']) assert.equal(isLoopback(h), true, h)
  for (const h of ['docker.io', '127.0.0.1.example.com', '10.0.0.1:5000', 'localhost.example.com']) assert.equal(isLoopback(h), false, h)
})

test('token authentication: fetched once, reused, wrong password is told', async () => {
  let tokens = 0
  const token = await serve((req, res) => {
    tokens++
    const url = new URL(req.url!, 'http://x')
    if (req.headers.authorization !== `Basic ${Buffer.from('me:secret').toString('base64')}`) return void res.writeHead(401).end()
    assert.equal(url.searchParams.get('scope'), 'repository:team/app:pull')
    res.end(JSON.stringify({ token: 'T', expires_in: 300 }))
  })
  const host = await serve((req, res) => {
    if (req.headers.authorization === 'Bearer T') giveManifest(res)
    else res.writeHead(401, { 'www-authenticate': `Bearer realm="http://${token}/token",service="reg"` }).end()
  })
  const good = new Repository(host, 'team/app', { auth: { username: 'me', password: 'secret' } })
  await good.manifest('v1')
  await good.manifest('v1')
  assert.equal(tokens, 1)
  await assert.rejects(new Repository(host, 'team/app', { auth: { username: 'me', password: 'no' } }).manifest('v1'), /refused the user name or password/)
})

test('basic authentication', async () => {
  const host = await serve((req, res) => {
    if (req.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}`) giveManifest(res)
    else res.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
  })
  await new Repository(host, 'x', { auth: { username: 'u', password: 'p' } }).manifest('v1')
  await assert.rejects(new Repository(host, 'x').manifest('v1'), { code: 'failed', message: /no basic auth credentials/ })
  await assert.rejects(new Repository(host, 'x', { auth: { username: 'u', password: 'no' } }).manifest('v1'), { code: 'failed', message: /access denied \(401\)/ })
})

test('redirects: credentials stay with their host, loops end', async () => {
  let seen: IncomingMessage['headers'] = {}
  const storage = await serve((req, res) => { seen = req.headers; res.end('blob') })
  const host = await serve((req, res) => {
    if (req.url === '/loop') res.writeHead(302, { location: '/loop' }).end()
    else if (req.headers.authorization === undefined) res.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
    else res.writeHead(307, { location: `http://${storage}/data` }).end()
  })
  const blob = await new Repository(host, 'x', { auth: { username: 'u', password: 'p' } }).blob({ mediaType: 'm', digest: `sha256:${'a'.repeat(64)}`, size: 4 }, 0)
  assert.equal(String(await buffer(blob.stream)), 'blob')
  assert.equal(seen.authorization, undefined)
  await assert.rejects(http({ method: 'GET', url: new URL(`http://${host}/loop`) }), /redirects more than/)
})

test('lies are found out', async () => {
  const host = await serve((req, res) => {
    if (req.url!.endsWith('/wrong')) giveManifest(res, Buffer.from('{"schemaVersion":2,"evil":1}'))
    else if (req.url!.endsWith('/html')) res.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
    else if (req.url!.endsWith('/v1')) res.writeHead(200, { 'content-type': 'application/vnd.docker.distribution.manifest.v1+prettyjws' }).end('{}')
    else if (req.url!.endsWith('/huge')) res.writeHead(200, { 'content-type': OCI_MANIFEST }).end(Buffer.alloc(5 << 20))
    else res.writeHead(404, { 'content-type': 'application/json' }).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
  })
  const r = new Repository(host, 'x')
  await assert.rejects(r.manifest('wrong'), { code: 'failed', message: /digest/ })
  await assert.rejects(r.manifest(`sha256:${'0'.repeat(64)}`), { code: 'not-found', message: /manifest unknown/ })
  await assert.rejects(r.manifest('html'), { code: 'failed', message: /no image manifest/ })
  await assert.rejects(r.manifest('v1'), { code: 'failed', message: /schema 1/ })
  await assert.rejects(r.manifest('huge'), { code: 'failed', message: /larger than/ })
})

test('silence ends in unavailable: before the answer, inside of it, and with nobody there', async () => {
  const host = await serve((req, res) => {
    if (req.url === '/v2/') res.end()
    if (req.url!.includes('blobs')) res.writeHead(200, { 'content-length': '100' }).write('some')
  })
  const r = new Repository(host, 'x', { stallMs: 100 })
  await assert.rejects(r.manifest('v1'), { code: 'unavailable', message: /did not answer/ })
  const blob = await r.blob({ mediaType: 'm', digest: `sha256:${'a'.repeat(64)}`, size: 100 }, 0)
  await assert.rejects(buffer(blob.stream), { code: 'unavailable', message: /sent nothing/ })
  await assert.rejects(new Repository('127.0.0.1:1', 'x').manifest('v1'), { code: 'unavailable', message: /connection refused/ })
})

test('mirrors are asked first, without credentials, and what they lack is asked of the registry itself', async () => {
  const asked: string[] = []
  const server = (name: string, has: string): Promise<string> => serve((req, res) => {
    asked.push(`${name} ${req.url} ${req.headers.authorization ?? '-'}`)
    if (req.url!.endsWith(`/manifests/${has}`)) giveManifest(res)
    else res.writeHead(404).end()
  })
  const [mirror, hub] = await Promise.all([server('mirror', 'here'), server('hub', 'there')])
  const repository = (host: string): Repository => new Repository(host, 'library/x')
  const source = new Mirrored([repository('127.0.0.1:1'), repository(mirror)], repository(hub))
  await source.manifest('here')
  assert.deepEqual(asked.filter(a => a.includes('manifests')), ['mirror /v2/library/x/manifests/here -'])
  asked.length = 0
  await source.manifest('there')
  assert.deepEqual(asked.filter(a => a.includes('manifests')), ['mirror /v2/library/x/manifests/there -', 'hub /v2/library/x/manifests/there -'])
  await assert.rejects(source.manifest('nowhere'), { code: 'not-found' })

  const registries = new Registries({ mirrors: [`http://${mirror}`] })
  asked.length = 0
  await registries.reader('docker.io', 'library/x', { auth: { username: 'u', password: 'p' } }).manifest('here')
  assert.deepEqual(asked.filter(a => a.includes('manifests')), ['mirror /v2/library/x/manifests/here -'])
  assert.ok(!(registries.reader('quay.io', 'x') instanceof Mirrored))
})

test('a mirror is an address of a registry and nothing more', () => {
  assert.equal(parseMirror('http://127.0.0.1:5000').host, '127.0.0.1:5000')
  for (const bad of ['127.0.0.1:5000', 'ftp://m', 'http://m/path', 'http://m/?q', 'http://u:p@m', '']) assert.throws(() => parseMirror(bad), { code: 'invalid', message: /invalid mirror/ }, bad)
})

test('a list that goes on without names ends', async () => {
  let pages = 0
  const host = await serve((req, res) => {
    if (req.url === '/v2/') return res.end()
    pages++
    const names = pages === 1 ? ['one', 'two'] : []
    return res.writeHead(200, { 'content-type': 'application/json', link: `</v2/x/tags/list?last=${pages}>; rel="next"` }).end(JSON.stringify({ tags: names }))
  })
  assert.deepEqual(await new Repository(host, 'x').tags(), ['one', 'two'])
  assert.equal(pages, 2)
})
