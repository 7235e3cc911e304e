import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { extract } from 'tar-stream'
import { openRemote } from './remote-context.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-remote-'))
after(() => { rmSync(dir, { recursive: true }) })
const { signal } = new AbortController()

async function namesIn(context: NodeJS.ReadableStream): Promise<string[]> {
  const names: string[] = []
  const tar = context.pipe(extract())
  for await (const entry of tar) {
    names.push(entry.header.name)
    entry.resume()
  }
  return names
}

/** Answers the address that repositories below `base` have. */
async function serveGit(base: string): Promise<string> {
  const probe = createTcpServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  // In a group of its own: the daemon is a child of git.
  const daemon = spawn('git', ['daemon', '--listen=127.0.0.1', `--port=${port}`, '--export-all', `--base-path=${base}`], { stdio: 'ignore', detached: true })
  after(() => { process.kill(-daemon.pid!, 'SIGKILL') })
  for (let tries = 0; tries < 100; tries++) {
    const socket = connect(port, '127.0.0.1')
    const up = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false)
    socket.destroy()
    if (up) return `git://127.0.0.1:${port}`
    await sleep(50)
  }
  throw new Error('git daemon does not listen')
}

test('the folder of a repository may be a link inside of it, not one that leads out', { skip: spawnSync('git', ['--version']).status !== 0 && 'git is not here' }, async () => {
  const repository = join(dir, 'r')
  mkdirSync(join(repository, 'app'), { recursive: true })
  writeFileSync(join(repository, 'app', 'Dockerfile'), 'FROM scratch\n')
  symlinkSync('app', join(repository, 'inside'))
  symlinkSync('/etc', join(repository, 'outside'))
  symlinkSync('../..', join(repository, 'above'))
  const git = (...args: string[]) => execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd: repository })
  git('init', '-q', '-b', 'main')
  git('add', '.')
  git('commit', '-q', '-m', 'x')
  const address = `${await serveGit(dir)}/r`
  for (const folder of ['app', 'inside']) {
    const remote = await openRemote(`${address}#main:${folder}`, signal)
    assert.deepEqual(await namesIn(remote.context), ['./', './Dockerfile'])
    await remote.close()
  }
  for (const folder of ['outside', 'outside/ssl', 'above', '../..', 'app/../..']) {
    await assert.rejects(openRemote(`${address}#main:${folder}`, signal), /leads out of the repository/, folder)
  }
})

test('a text from a URL is a Dockerfile; one without an end is refused', async () => {
  const server = createServer((req, res) => {
    if (req.url === '/Dockerfile') return res.end('FROM scratch\n')
    const more = (): void => { while (!res.destroyed && res.write('#'.repeat(64 << 10))); }
    res.on('drain', more)
    return more()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  after(() => { server.closeAllConnections(); server.close() })
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const remote = await openRemote(`${base}/Dockerfile`, signal)
  assert.equal(remote.dockerfile, 'Dockerfile')
  assert.deepEqual(await namesIn(remote.context), ['Dockerfile'])
  await assert.rejects(openRemote(`${base}/endless`, signal), /larger than 1048576 bytes/)
})
