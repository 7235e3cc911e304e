/** Contexts of builds that are somewhere else: a Dockerfile or an archive behind a URL, or a git repository. */
import { execFile, spawn } from 'node:child_process'
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { pack } from 'tar-stream'
import { DockerError } from '../errors.ts'

const run = promisify(execFile)
const MAX_DOCKERFILE_BYTES = 1 << 20
const GIT_MS = 10 * 60_000

export interface RemoteContext {
  context: Readable
  /** Where the Dockerfile is, when the URL was one. */
  dockerfile?: string
  close(): Promise<void>
}

/** `https://…/Dockerfile`, `https://….tar.gz`, `https://….git#REF:DIR`, `git://…`. Rejects with `invalid` for anything else. */
export async function openRemote(url: string, signal: AbortSignal): Promise<RemoteContext> {
  if (/^(git:\/\/|git@|github\.com\/)/.test(url) || /^https?:\/\/.*\.git(#.*)?$/.test(url)) return openGit(url, signal)
  if (!/^https?:\/\//.test(url)) throw new DockerError('invalid', `unable to prepare context: remote "${url}" is neither a URL nor a git repository`)
  const answer = await fetch(url, { signal }).catch((e: unknown) => {
    throw new DockerError('unavailable', `Error downloading remote context ${url}: ${(e as { cause?: Error }).cause?.message ?? (e as Error).message}`)
  })
  if (!answer.ok || answer.body === null) throw new DockerError('invalid', `Error downloading remote context ${url}: it answered ${answer.status}`)
  const body = Readable.fromWeb(answer.body)
  const first = await firstChunk(body)
  if (!looksLikeText(first)) return { context: joined(first, body), close: () => Promise.resolve(void body.destroy()) }
  const text = await wholeText(joined(first, body), url)
  const tar = pack()
  tar.entry({ name: 'Dockerfile' }, text)
  tar.finalize()
  return { context: tar as unknown as Readable, dockerfile: 'Dockerfile', close: () => Promise.resolve() }
}

async function openGit(url: string, signal: AbortSignal): Promise<RemoteContext> {
  const [, address = '', fragment = ''] = /^([^#]*)(?:#(.*))?$/.exec(url)!
  const [ref = '', folder = ''] = fragment.split(':')
  if (ref.startsWith('-') || address.startsWith('-')) throw new DockerError('invalid', `invalid git repository: ${url}`)
  const dir = await mkdtemp(join(tmpdir(), 'gantry-git-'))
  const close = (): Promise<void> => rm(dir, { recursive: true, force: true })
  const git = (...args: string[]) => run('git', args, {
    cwd: dir, signal, timeout: GIT_MS, env: { PATH: process.env['PATH'], HOME: dir, GIT_TERMINAL_PROMPT: '0', GIT_CONFIG_NOSYSTEM: '1' },
  })
  try {
    await git('init', '--quiet')
    await git('fetch', '--quiet', '--depth', '1', '--recurse-submodules=yes', '--', address.startsWith('github.com/') ? `https://${address}` : address, ref === '' ? 'HEAD' : ref)
    await git('checkout', '--quiet', 'FETCH_HEAD')
    // The folder may be a link that the repository holds: what counts is where it leads.
    const top = await realpath(dir)
    const at = await realpath(join(top, folder))
    if (!`${at}/`.startsWith(`${top}/`)) throw new Error(`"${folder}" leads out of the repository`)
    const tar = spawn('tar', ['-C', at, '--exclude=./.git', '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'ignore'] })
    // Half an archive must not pass for the whole.
    const failed = (why: string): void => { tar.stdout.destroy(new DockerError('failed', `packing the build context of ${address}: ${why}`)) }
    tar.once('error', e => failed(e.message))
    tar.once('exit', code => { if (code !== 0) failed(`tar ended with ${code}`) })
    return { context: tar.stdout, async close() { tar.kill(); await close() } }
  } catch (e) {
    await close()
    const why = (e as NodeJS.ErrnoException).code === 'ENOENT' ? 'git is not installed on this machine' : (e as { stderr?: string }).stderr?.trim() || (e as Error).message
    throw new DockerError('invalid', `failed to fetch the build context from ${address}: ${why}`)
  }
}

async function wholeText(body: Readable, url: string): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of body as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > MAX_DOCKERFILE_BYTES) throw new DockerError('invalid', `remote context ${url}: a Dockerfile larger than ${MAX_DOCKERFILE_BYTES} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

async function firstChunk(body: Readable): Promise<Buffer> {
  for (;;) {
    const chunk = body.read() as Buffer | null
    if (chunk !== null) return Buffer.from(chunk)
    const more = await new Promise<boolean>((resolve, reject) => {
      body.once('readable', () => resolve(true))
      body.once('end', () => resolve(false))
      body.once('error', reject)
    })
    if (!more) return Buffer.alloc(0)
  }
}

function joined(first: Buffer, rest: Readable): Readable {
  return Readable.from((async function* () {
    yield first
    yield* rest
  })(), { objectMode: false })
}

/** Archives, compressed or not, have bytes that no Dockerfile has. */
function looksLikeText(head: Buffer): boolean { return !head.subarray(0, 512).some(b => b === 0 || b > 0xf4 || (b < 32 && b !== 9 && b !== 10 && b !== 13)) }
