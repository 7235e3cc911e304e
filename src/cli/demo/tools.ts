/** What the demonstration is told with: commands as a user types them, requests as a visitor makes them, counts as they come. */
import { spawn } from 'node:child_process'
import { Agent, request } from 'node:http'
import { fileURLToPath } from 'node:url'
import type { Client } from '../../core/client.ts'
import { pods } from '../../core/kinds.ts'
import type { Pod } from '../../core/types/index.ts'
import { line, paint, UserError } from '../output.ts'

const entry = fileURLToPath(new URL('../main.ts', import.meta.url))

export async function heading(text: string): Promise<void> { await line(`\n${paint('bold', text)}`) }
export async function tell(text: string): Promise<void> { await line(paint('dim', text)) }

/** Runs `gantry ARGS` as its own process, showing the command and its output. */
export async function gantry(...args: string[]): Promise<void> {
  await line(paint('cyan', '$ gantry ' + args.map(a => /^[\w@%+=:,./-]+$/.test(a) ? a : `'${a}'`).join(' ')))
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', entry, ...args], { stdio: ['ignore', 'inherit', 'inherit'] })
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('exit', resolve))
  if (code !== 0) throw new UserError(`gantry ${args[0]} ended with exit code ${code}; the cluster is left as it is ("gantry down --purge" removes it)`)
}

export interface Answer { status: number; text: string }

/** One GET to this machine; `host` is the name asked for. A refused or broken connection has status 0. */
export function visit(port: number, host: string, path = '/', agent?: Agent): Promise<Answer> {
  return new Promise(resolve => {
    const req = request({ host: '127.0.0.1', port, path, headers: { host }, timeout: 10_000, ...(agent && { agent }) }, res => {
      let text = ''
      res.setEncoding('utf8').on('data', (d: string) => { text += d })
      res.on('end', () => resolve({ status: res.statusCode ?? 0, text })).on('error', e => resolve({ status: 0, text: e.message }))
    })
    req.on('timeout', () => req.destroy(new Error('no answer in 10 s'))).on('error', e => resolve({ status: 0, text: e.message })).end()
  })
}

/** Visits until the answer is as wanted. Used where the world outside has no event to offer: a server that starts to listen. */
export async function visitUntil(what: string, port: number, host: string, path: string, fits: (a: Answer) => boolean, timeoutMs = 30_000): Promise<Answer> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const a = await visit(port, host, path)
    if (fits(a)) return a
    if (Date.now() > deadline) throw new UserError(`in ${timeoutMs / 1000} s it did not come true that ${what}; the last answer was ${a.status}: ${a.text.slice(0, 200)}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** `seen`: answer → how often. */
export interface Visits { requests: number; failed: number; seen: Map<string, number> }

/** Visitors who keep coming: `count` at a time, until `stop`, which tells how they fared. */
export function visitors(count: number, port: number, host: string, path: string): { stop(): Promise<Visits> } {
  const agent = new Agent({ keepAlive: true, maxSockets: count })
  const result = { requests: 0, failed: 0, seen: new Map<string, number>() }
  let going = true
  const all = Promise.all(Array.from({ length: count }, async () => {
    while (going) {
      const a = await visit(port, host, path, agent)
      result.requests++
      if (a.status === 200) result.seen.set(a.text, (result.seen.get(a.text) ?? 0) + 1)
      else result.failed++
      // A visitor, not a benchmark: the cluster shares two cores with its audience.
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }))
  return {
    async stop() {
      going = false
      await all
      agent.destroy()
      return result
    },
  }
}

export const isReady = (p: Pod) => p.metadata.deletionTimestamp === undefined
  && p.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') === true

/** Resolves with the milliseconds since the call when the Pods with these labels fulfil `fits`, as a watch sees it. */
export async function whenPods(client: Client, labelSelector: string, what: string, fits: (all: Pod[]) => boolean, timeoutMs = 60_000): Promise<number> {
  const began = performance.now()
  const informer = client.informer(pods, { labelSelector })
  let timer: NodeJS.Timeout | undefined
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new UserError(`in ${timeoutMs / 1000} s it did not come true that ${what}; see "gantry ps" and "gantry events"`)), timeoutMs)
      const look = () => { if (fits([...informer.list()])) resolve() }
      void informer.synced.then(() => {
        informer.on(look)
        look()
      }, reject)
    })
    return performance.now() - began
  } finally {
    clearTimeout(timer)
    informer.stop()
  }
}
