/** Entry of Gantry's daemons: `daemon.ts NAME CONFIG_FILE`. Only the named room is loaded. */
import './compile-cache.ts'
import { readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'

/** Compiled code is otherwise kept at exit only, which a daemon may never reach in order. */
const FLUSH_AFTER_MS = 1000

/** What every daemon gives. `lost` resolves when it cannot go on in this process: the supervisor starts the next. */
interface Daemon { close(): Promise<void>; lost?: Promise<Error> }

const [name, file] = process.argv.slice(2)
const daemons: Record<string, (config: never) => Promise<Daemon>> = {
  server: async config => (await import('../server/main.ts')).runServer(config),
  agent: async config => (await import('../node/main.ts')).runAgent(config),
  router: async config => (await import('../router/main.ts')).runRouter(config),
  logger: async config => (await import('../engine/logger/main.ts')).runLogger(config),
}
const start = Object.hasOwn(daemons, name ?? '') ? daemons[name!] : undefined
if (start === undefined || file === undefined) {
  process.stderr.write(`usage: daemon.ts ${Object.keys(daemons).join('|')} CONFIG_FILE\n`)
  process.exit(2)
}

process.title = `gantry-${name}`
const running = await start(JSON.parse(readFileSync(file, 'utf8')) as never)
setTimeout(flushCompileCache, FLUSH_AFTER_MS).unref()
let closing = false
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    if (closing) return
    closing = true
    // A daemon that cannot close in time is as good as killed, which every daemon survives.
    setTimeout(() => process.exit(1), 8_000).unref()
    void running.close().then(() => process.exit(0), () => process.exit(1))
  })
}
void running.lost?.then(e => {
  process.stderr.write(`${name}: ${e.message}: ending, to be started again\n`)
  process.exit(1)
})
