import { test } from 'node:test'
import assert from 'node:assert/strict'
import { familiar, formatReference, parseReference } from './reference.ts'

const hex = 'a'.repeat(64)

test('short names get host, library and latest', () => {
  const full = (t: string) => formatReference(parseReference(t))
  assert.equal(full('redis'), 'docker.io/library/redis:latest')
  assert.equal(full('mstine/lattice-app'), 'docker.io/mstine/lattice-app:latest')
  assert.equal(full('debian:bookworm'), 'docker.io/library/debian:bookworm')
  assert.equal(full('localhost/app'), 'localhost/app:latest')
  assert.equal(full('localhost:5000/a/b:v1'), 'localhost:5000/a/b:v1')
  assert.equal(full('127.0.0.1:5000/a'), '127.0.0.1:5000/a:latest')
  assert.equal(full('[::1]:5000/a'), '[::1]:5000/a:latest')
  assert.equal(full('index.docker.io/redis'), 'docker.io/library/redis:latest')
  assert.equal(full(`redis@sha256:${hex}`), `docker.io/library/redis@sha256:${hex}`)
  assert.equal(full(`redis:7@sha256:${hex}`), `docker.io/library/redis@sha256:${hex}`)
  assert.equal(full('Foo/bar'), 'Foo/bar:latest')
})

test('malformed references are refused with a reason', () => {
  for (const bad of ['', 'UPPER', 'a//b', '/a', 'a/', 'a:', 'a:b:c', 'a@sha256:12', '-a', 'a..b', 'a b', hex, 'a:-x', '../x', `x/${'y'.repeat(256)}`]) {
    assert.throws(() => parseReference(bad), { name: 'EngineError', code: 'invalid' }, bad)
  }
})

test('familiar form', () => {
  assert.equal(familiar('docker.io/library/redis:7'), 'redis:7')
  assert.equal(familiar('docker.io/me/app:1'), 'me/app:1')
  assert.equal(familiar('ghcr.io/me/app:1'), 'ghcr.io/me/app:1')
})
