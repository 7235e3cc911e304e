/** `docker wait`: the promise is made before the answer's header goes out. */
import type { WaitCondition } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import type { Container, ExitFact } from './container.ts'

export function waitFor(c: Container, condition: WaitCondition, signal: AbortSignal): Promise<{ StatusCode: number; Error?: { Message: string } }> {
  const fact: Promise<ExitFact> = condition === 'removed' ? c.removed.promise
    : condition === 'not-running' && !c.running ? Promise.resolve({ code: c.record.exitCode }) : c.exit.promise
  return new Promise((resolve, reject) => {
    const abort = (): void => { reject(new DockerError('failed', 'the client has gone')) }
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    void fact.then(({ code, error }) => {
      signal.removeEventListener('abort', abort)
      resolve({ StatusCode: code, ...(error === undefined ? {} : { Error: { Message: error } }) })
    })
  })
}
