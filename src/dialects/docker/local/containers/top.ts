/** `docker top`: the machine's own `ps`, and of its lines those of the container. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { DockerError } from '../../errors.ts'
import type { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'

const MAX_OUTPUT_BYTES = 16 << 20
const PS_MS = 10_000

export async function top(x: Context, c: Container, psArgs: string): Promise<{ Titles: string[]; Processes: string[][] }> {
  if (!c.running) throw new DockerError('conflict', `container ${c.id} is not running`)
  if (c.restarting) throw new DockerError('conflict', `Container ${c.id} is restarting, wait until the container is running`)
  const args = psArgs.split(/\s+/).filter((a) => a !== '')
  const pids = await x.engine.containers.pids(c.id).catch((e: unknown) => { throw dockerError(e) })
  const { stdout } = await promisify(execFile)('ps', args.length === 0 ? ['-ef'] : args, { maxBuffer: MAX_OUTPUT_BYTES, timeout: PS_MS })
    .catch((e: Error & { stderr?: string; code?: unknown }) => {
      if (e.code === 'ENOENT') throw new DockerError('failed', 'ps: executable file not found in $PATH: install the package procps')
      // Its first line says what is wrong, the others how ps is called.
      throw new DockerError('failed', `ps: ${(e.stderr ?? '').trim().split('\n')[0] || e.message}`)
    })
  const result = parsePs(stdout, new Set(pids))
  emit(x, c, 'top')
  return result
}

/** Lines whose column PID names one of `pids`. The last column takes the rest of its line. */
export function parsePs(output: string, pids: ReadonlySet<number>): { Titles: string[]; Processes: string[][] } {
  const [head = '', ...lines] = output.split('\n')
  const titles = head.trim().split(/\s+/)
  const at = titles.indexOf('PID')
  if (at < 0) throw new DockerError('failed', 'Couldn\'t find PID field in ps output')
  const processes: string[][] = []
  for (const line of lines) {
    const fields = line.trim().split(/\s+/)
    if (fields.length <= at || !pids.has(Number(fields[at]))) continue
    processes.push([...fields.slice(0, titles.length - 1), fields.slice(titles.length - 1).join(' ')])
  }
  return { Titles: titles, Processes: processes }
}
