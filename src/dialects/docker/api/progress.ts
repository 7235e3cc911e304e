/**
 * Streams of progress (pull, push, build, load, import): one JSON object a line. A failure before the first is the answer's status, later it
 * is a line `errorDetail`; with `alwaysStream`, as dockerd loads, the first as well.
 */
import type { OnMessage } from '../backend.ts'
import type { JsonMessage } from '../model.ts'
import { asDockerError } from './errors-out.ts'
import type { Call } from './call.ts'

/** Lines nobody takes: how much is kept before the client is given up. */
const MAX_UNREAD_BYTES = 64 << 20

export async function sendProgress(
  call: Call, work: (onMessage: OnMessage) => Promise<void>,
  { lower = m => m, alwaysStream = false }: { lower?: (m: JsonMessage) => JsonMessage | undefined; alwaysStream?: boolean } = {},
): Promise<void> {
  const { res } = call
  const onMessage: OnMessage = message => {
    const line = lower(message)
    if (line === undefined || res.destroyed) return
    if (!res.headersSent) call.begin('application/json')
    // Counters are overtaken by the next ones.
    if (res.writableNeedDrain && message.progressDetail?.current !== undefined) return
    res.write(JSON.stringify(line) + '\r\n')
    if (res.writableLength > MAX_UNREAD_BYTES) res.destroy()
  }
  try {
    await work(onMessage)
    if (!res.headersSent) call.begin('application/json')
  } catch (e) {
    if (call.gone.aborted || !res.headersSent && !alwaysStream) throw e
    if (!res.headersSent) call.begin('application/json')
    const { message } = asDockerError(e)
    const code = (e as { exitCode?: unknown }).exitCode
    res.write(JSON.stringify({ errorDetail: { ...(typeof code === 'number' && { code }), message }, error: message }) + '\r\n')
  }
  res.end()
}
