/**
 * A base image from Debian's or Ubuntu's own packages, for machines that reach a package mirror but no registry. mmdebstrap makes
 * it and writes the tar as a stream; nothing is kept on this machine but the image.
 */
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { pack } from 'tar-stream'
import { EngineError } from '../engine.ts'
import type { ImageConfig, OnProgress } from '../engine.ts'

export interface BootstrapOptions<T> {
  /** `bookworm`, `trixie`, `jammy`, `noble` … */
  suite: string
  /** Default: the distribution's own. */
  mirror?: string
  /** Name of the image, e.g. `debian:bookworm`. */
  reference: string
  /** Takes the root file system; ImageService.import has this shape. */
  import(tar: Readable, reference: string, config: Partial<ImageConfig>): Promise<T>
  onProgress?: OnProgress
  signal?: AbortSignal
}

interface Distribution { name: string; suites: string[]; keyring: string; keyringPackage: string; components: string[] }

const DISTRIBUTIONS: Distribution[] = [
  {
    name: 'Debian', suites: ['bullseye', 'bookworm', 'trixie', 'forky', 'oldstable', 'stable', 'testing'],
    keyring: '/usr/share/keyrings/debian-archive-keyring.gpg', keyringPackage: 'debian-archive-keyring', components: ['main'],
  },
  {
    name: 'Ubuntu', suites: ['focal', 'jammy', 'noble', 'plucky', 'questing'],
    keyring: '/usr/share/keyrings/ubuntu-archive-keyring.gpg', keyringPackage: 'ubuntu-keyring', components: ['main', 'universe'],
  },
]

/**
 * Manuals, translations and the like make most of a base system's files and are of no use in a container. They are removed at the
 * end: mmdebstrap would filter every package through a slow program if it were told beforehand.
 */
const DPKG_IN_IMAGE = [
  'path-exclude=/usr/share/man/*/*', 'path-exclude=/usr/share/doc/*', 'path-include=/usr/share/doc/*/copyright', 'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/locale/*', 'path-include=/usr/share/locale/locale.alias', 'path-exclude=/usr/share/groff/*', 'path-exclude=/usr/share/lintian/*',
  'force-unsafe-io',
].join('\n')
const TRIM = [
  'cd "$1"', ': > etc/resolv.conf', 'rm -rf etc/hostname var/log/*.log var/log/apt var/cache/apt/*.bin usr/share/info/* usr/share/groff/* usr/share/lintian/*',
  'find usr/share/man -mindepth 2 -delete', 'find usr/share/doc ! -type d ! -name copyright -delete',
  'find usr/share/locale -mindepth 1 ! -name locale.alias -delete',
].join(' && ')

/** Later `apt-get install`s in builds leave no package files behind. Written last: it must not act on this machine's cache. */
const APT_IN_IMAGE = [
  'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };',
  'APT::Update::Post-Invoke { "rm -f /var/cache/apt/*.bin || true"; };',
  'Dir::Cache::pkgcache "";', 'Dir::Cache::srcpkgcache "";', 'APT::AutoRemove::SuggestsImportant "false";',
].join('\n')

/** How this machine reaches its mirror holds for builds on it as well. */
const INHERITED = ['Acquire::http::Proxy', 'Acquire::https::Proxy', 'Acquire::Check-Valid-Until', 'Acquire::Check-Date']

/** Resolves with what `import` made. `invalid` for an unknown suite, `unavailable` for a missing tool, `failed` with mmdebstrap's words. */
export async function bootstrapDebian<T>(o: BootstrapOptions<T>): Promise<T> {
  const d = DISTRIBUTIONS.find(x => x.suites.includes(o.suite))
  if (d === undefined) {
    throw new EngineError('invalid', `unknown suite "${o.suite}": known are ${DISTRIBUTIONS.map(x => `${x.name}'s ${x.suites.join(', ')}`).join('; ')}`)
  }
  const { mirror } = o
  if (mirror !== undefined && !/^(https?|file|copy):\/\/[^\s"[\]]+$/.test(mirror)) {
    throw new EngineError('invalid', `"${mirror}" is no address of a package mirror`)
  }
  if (process.getuid?.() !== 0) throw new EngineError('unavailable', 'making a base image needs root')
  if (!existsSync(d.keyring)) {
    throw new EngineError('unavailable', `${d.name}'s archive keys are not on this machine (${d.keyring}): apt-get install ${d.keyringPackage}`)
  }
  // mmdebstrap knows each suite's own archives, with its updates; a mirror of the caller's choice need not carry those.
  const sources = mirror === undefined ? [] : [`deb [signed-by=${d.keyring}] ${mirror} ${o.suite} ${d.components.join(' ')}`]
  const args = [
    '--variant=minbase', '--mode=root', '--format=tar', '--skip=output/dev',
    '--dpkgopt=force-unsafe-io',
    '--aptopt=Acquire::Languages "none"', ...(await inheritedOptions()).map(v => `--aptopt=${v}`),
    `--customize-hook=printf '%s\\n' '${APT_IN_IMAGE}' > "$1/etc/apt/apt.conf.d/90container"`,
    `--customize-hook=printf '%s\\n' '${DPKG_IN_IMAGE}' > "$1/etc/dpkg/dpkg.cfg.d/90container"`,
    // resolv.conf is emptied rather than absent: builds mount theirs over it.
    `--customize-hook=${TRIM}`,
    `--components=${d.components.join(',')}`, o.suite, '-', ...sources,
  ]
  const child = spawn('mmdebstrap', args, {
    stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' }, signal: o.signal,
  })
  const tail: string[] = []
  const lines = createInterface({ input: child.stderr })
  lines.on('line', line => {
    const text = line.replace(/\r/g, ' ').trim()
    if (/^(E|W|Err)[: ]/.test(text) || (text !== '' && !/^(I:|\d+%|done|Get:|Hit:)/.test(text))) {
      tail.push(text)
      if (tail.length > 8) tail.shift()
    }
    if (text.startsWith('I: ') && !text.includes('hook')) o.onProgress?.({ id: o.reference, status: text.slice(3) })
  })
  const ended = new Promise<void>((resolve, reject) => {
    child.on('error', (e: NodeJS.ErrnoException) => {
      reject(e.code === 'ENOENT' ? new EngineError('unavailable', 'mmdebstrap is not installed: apt-get install mmdebstrap') : e)
    })
    child.on('close', (code, signal) => {
      if (code === 0) resolve()
      else reject(new EngineError('failed', `${d.name} ${o.suite} could not be made${mirror === undefined ? '' : ` from ${mirror}`}: ${tail.join('; ') || signal || `exit code ${code}`}`))
    })
  })
  // The image must not be named if mmdebstrap fails after its last byte: the stream ends only with its success.
  async function* output(): AsyncGenerator<Buffer> {
    yield await directoryHeader('dev')
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk
    await ended
  }
  ended.catch(() => undefined)
  try {
    return await o.import(Readable.from(output(), { objectMode: false, highWaterMark: 1 << 20 }), o.reference, { cmd: ['bash'] })
  } catch (e) {
    child.kill()
    // Why the stream broke says more than that it did.
    await ended
    throw e
  }
}

/** The device nodes are left out of the archive, and their directory with them; containers need a place to mount theirs on. */
async function directoryHeader(name: string): Promise<Buffer> {
  const tar = pack()
  tar.entry({ name, type: 'directory', mode: 0o755 })
  tar.finalize()
  return (await buffer(tar as unknown as AsyncIterable<Buffer>)).subarray(0, 512)
}

async function inheritedOptions(): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)('apt-config', ['dump', '--format', '%f "%v"%n', ...INHERITED])
    return stdout.split('\n').filter(l => INHERITED.some(k => l.startsWith(`${k} "`)) && !l.endsWith(' ""'))
  } catch {
    // No apt here: mmdebstrap will say so.
    return []
  }
}
