/**
 * Trees as tar archives, made by GNU tar: it walks by descriptors and never through links, and knows extended attributes and
 * devices. It is started in a directory we have opened, so that no name on the way can be exchanged under it.
 */
import { spawn } from 'node:child_process'
import { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import { fdPath } from '../../files/root.ts'

export interface PackOptions {
  /** Descriptor of the directory that names are relative to. */
  directory: number
  /** Names to pack, with all below them unless `recurse` is false. */
  names: string[] | AsyncIterable<string> | Iterable<string>
  recurse: boolean
  /** For a single name, which may be `.`: what stands in its place in all entries. `/` makes their names absolute. */
  rename?: string
  /** Directories, as paths below the names packed, whose contents are left out. */
  exclude?: string[]
  /** Called once, when the archive has ended or was given up. */
  onClose?(): void
}

const HIGH_WATER_BYTES = 1 << 20
const MAX_STDERR = 2000

/** The archive as a stream; an error of tar's is one of the stream's. Files that change or vanish meanwhile are no errors. */
export function packTree(o: PackOptions): Readable {
  return Readable.from(pack(o), { objectMode: false, highWaterMark: HIGH_WATER_BYTES })
}

async function* pack(o: PackOptions): AsyncGenerator<Buffer> {
  const args = [
    '--create', '--file=-', '--format=posix', '--pax-option=delete=atime,delete=ctime,delete=mtime,exthdr.name=PaxHeaders/%f', '--numeric-owner',
    '--xattrs', '--xattrs-include=*', '--blocking-factor=128', '--ignore-failed-read', '--warning=none',
    '--absolute-names', `--transform=${transform(o)}`,
    ...(o.recurse ? [] : ['--no-recursion']),
    ...(o.exclude === undefined || o.exclude.length === 0 ? [] : ['--anchored', '--wildcards', ...o.exclude.map((e) => `--exclude=./${escapePattern(e)}/?*`)]),
    '--null', '--verbatim-files-from', '--files-from=-',
  ]
  const child = spawn('tar', args, { cwd: fdPath(o.directory), stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: process.env['PATH'], LC_ALL: 'C' } })
  let stderr = ''
  child.stderr.on('data', (d: Buffer) => { if (stderr.length < MAX_STDERR) stderr += d.toString() })
  const exited = new Promise<number>((resolve) => {
    child.once('error', (e) => { stderr += e.message; resolve(127) })
    child.once('close', (code) => { resolve(code ?? 128) })
  })
  const names = Readable.from(listed(o.names))
  names.on('error', () => { child.kill() })
  child.stdin.on('error', () => { names.destroy() })
  names.pipe(child.stdin)
  let over = false
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer
    // 1: some files changed while they were read.
    const code = await exited
    over = true
    if (code > 1) throw new EngineError('failed', `tar: ${stderr.trim() || `exit code ${code}`}`)
  } finally {
    if (!over) child.kill('SIGKILL')
    o.onClose?.()
  }
}

async function* listed(names: PackOptions['names']): AsyncGenerator<string> {
  let text = ''
  for await (const name of names) {
    text += name === '.' ? '.\0' : `./${name}\0`
    if (text.length < 1 << 15) continue
    yield text
    text = ''
  }
  if (text !== '') yield text
}

/** Of names, and of what hard links name; what symbolic links say stays. */
function transform(o: PackOptions): string {
  if (o.rename === undefined) return 's,^\\./,,S'
  if (o.rename === '/') return 's,^\\./*,/,S'
  const whole = Array.isArray(o.names) && o.names[0] === '.'
  return `s,^\\.${whole ? '' : '/[^/]*'},${replacement(o.rename)},S`
}

/** For the right side of tar's `s,…,…,`. */
function replacement(name: string): string { return name.replace(/[\\&,]/g, '\\$&').replaceAll('\n', '\\n') }

function escapePattern(path: string): string { return path.replace(/[\\*?[\]]/g, '\\$&') }
