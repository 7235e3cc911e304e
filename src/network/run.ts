/** Starts the machine's own tools with an argument array and, where they read one, a batch on stdin. */
import { spawn } from 'node:child_process'
import { NetworkError } from './network.ts'

const maxOutputBytes = 64 * 1024 * 1024
const maxMessageChars = 2000

export interface RunOptions {
  input?: string
  timeoutMs?: number
}

export interface RunResult { status: number; stdout: string; stderr: string }

/** Resolves with whatever status the program ended with; rejects if it cannot be started or exceeds its time. */
export function runAny(command: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const { promise, resolve, reject } = Promise.withResolvers<RunResult>()
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: searchPath(), LC_ALL: 'C' } })
  const timeoutMs = options.timeoutMs ?? 30_000
  const timer = setTimeout(() => {
    child.kill('SIGKILL')
    reject(new NetworkError('failed', `${command} did not end within ${timeoutMs} ms`))
  }, timeoutMs)
  const collect = (stream: NodeJS.ReadableStream): Buffer[] => {
    const chunks: Buffer[] = []
    let length = 0
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length <= maxOutputBytes) chunks.push(chunk)
    })
    return chunks
  }
  const stdout = collect(child.stdout)
  const stderr = collect(child.stderr)
  // A program that ends before it has read its input is reported by its status.
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  child.on('error', (error: NodeJS.ErrnoException) => {
    clearTimeout(timer)
    const reason = error.code === 'ENOENT' ? `"${command}" is not installed on this machine` : error.message
    reject(new NetworkError('failed', reason))
  })
  child.on('close', (code, signal) => {
    clearTimeout(timer)
    const status = code ?? (signal === null ? 1 : 128)
    resolve({ status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })
  })
  return promise
}

/** Like `runAny`, but a status other than 0 is a NetworkError with the program's own words. Answers its stdout. */
export async function run(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await runAny(command, args, options)
  if (status === 0) return stdout
  const words = stderr.trim().slice(0, maxMessageChars) || `status ${status}`
  throw new NetworkError('failed', `${command} ${args.join(' ')}`.slice(0, 200) + `: ${words}`)
}

function searchPath(): string {
  return `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`
}
