/** Speaks to a running HAProxy: its run-time API, and seamless reloads through its master process. */
import { createConnection } from 'node:net'

/** Answers longer than this are cut; none that is asked for here is. */
const MAX_ANSWER_BYTES = 16 << 20
/** A line of commands must fit into the proxy's buffer (16 KiB by default). */
const MAX_LINE_BYTES = 8_000

export class ProxyUnavailable extends Error {}

/** Sends one line and resolves with the answer. Rejects with ProxyUnavailable if nobody listens or the answer breaks off. */
function send(socket: string, text: string, timeoutMs = 5_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const c = createConnection(socket)
    let answer = ''
    const fail = (why: string) => {
      c.destroy()
      reject(new ProxyUnavailable(why))
    }
    c.setTimeout(timeoutMs, () => fail('the proxy does not answer'))
    c.setEncoding('utf8')
    c.on('error', e => fail(e.message))
    c.on('data', (d: string) => {
      answer += d
      if (answer.length > MAX_ANSWER_BYTES) fail('the answer is too long')
    })
    c.on('end', () => resolve(answer))
    c.write(text + '\n')
  })
}

/** What the proxy says when a command did what was wanted, or when it was so already. */
const FINE = /^(|New server registered\.|Server deleted\.|.*already exists.*|.*(No such|no such|not found).*server.*|.*entry not found.*)$/i

/** Runs commands in order, many a line. Resolves with what the proxy complained of: one text a complaint. */
export async function runCommands(socket: string, commands: string[]): Promise<string[]> {
  const complaints: string[] = []
  let batch: string[] = []
  let length = 0
  const flush = async () => {
    if (batch.length === 0) return
    const answer = await send(socket, batch.join(';'))
    complaints.push(...answer.split('\n').map(l => l.trim()).filter(l => !FINE.test(l)))
    batch = []
    length = 0
  }
  for (const c of commands) {
    if (length + c.length > MAX_LINE_BYTES) await flush()
    batch.push(c)
    length += c.length + 1
  }
  await flush()
  return complaints
}

/** Loads the configuration anew without dropping a connection: the new worker takes the listening sockets over. */
export async function reload(masterSocket: string): Promise<void> { await send(masterSocket, 'reload') }
