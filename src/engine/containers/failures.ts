/** Errors of containerd and runc in the engine's codes, and the exit codes docker users know for what could not be started. */
import { PathError } from '../../files/root.ts'
import { Code, ContainerdError } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'

const CODES = new Map<number, EngineError['code']>([
  [Code.notFound, 'not-found'], [Code.alreadyExists, 'conflict'], [Code.invalidArgument, 'invalid'],
  [Code.failedPrecondition, 'conflict'], [Code.unavailable, 'unavailable'], [Code.deadlineExceeded, 'unavailable'],
])

export function toEngineError(e: unknown): Error {
  if (e instanceof ContainerdError) return new EngineError(CODES.get(e.code) ?? 'failed', e.message)
  if (e instanceof PathError) return new EngineError('invalid', e.message)
  return e instanceof Error ? e : new Error(String(e))
}

/** `exitCode` is set when the program itself was at fault: 127 not found, 126 not executable, 128 anything else of the runtime. */
export function startFailure(e: unknown): { error: Error; exitCode?: number } {
  const error = toEngineError(e)
  const text = error.message
  if (!(e instanceof ContainerdError) || !/OCI runtime|crun|runc/.test(text)) return { error }
  const exitCode = /executable file .*not found|no such file or directory|not found in \$PATH/i.test(text) ? 127
    : /permission denied|is a directory|exec format error|not a directory/i.test(text) ? 126 : 128
  return { error: new EngineError('failed', text), exitCode }
}
