/** Entry of Gantry's daemons: `daemon.ts NAME CONFIG_FILE`. Only the named room is loaded. */
import './compile-cache.ts'
import { readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'

/** Compiled code is otherwise kept at exit only, which a daemon may never reach in order. */
const FLUSH_AFTER_MS = 1000
/** Set in the environment of a process that began anew. */
const BEGAN_ANEW = 'GANTRY_BEGAN_ANEW'

/** What every daemon gives. `lost` resolves when it cannot go on in this process: the supervisor starts the next. */
interface Daemon { close(): Promise<void>; lost?: Promise<Error> }

const [name, file] = process.argv.slice(2)
/** Each one's function; and what loads the code that it loads later by itself. */
const daemons: Record<string, () => Promise<{ run: (config: never) => Promise<Daemon>; loadLater?: () => Promise<void> }>> = {
  server: async () => {
    const { runServer: run, loadLater } = await import('../server/main.ts')
    return { run, loadLater }
  },
  agent: async () => {
    const [{ runAgent }, { serveDocker, loadLater }] = await Promise.all([import('../node/main.ts'), import('../dialects/docker/engine/node.ts')])
    return { run: config => runAgent(config, [serveDocker]), loadLater }
  },
  router: async () => ({ run: (await import('../router/main.ts')).runRouter }),
  engine: async () => {
    const [{ runEngine: run }, { loadLater }] = await Promise.all([import('../dialects/docker/engine/main.ts'), import('../engine/index.ts')])
    return { run, loadLater }
  },
  logger: async () => {
    const { runLogger: run, loadLater } = await import('../engine/logger/main.ts')
    return { run, loadLater }
  },
}
const load = Object.hasOwn(daemons, name ?? '') ? daemons[name!] : undefined
if (load === undefined || file === undefined) {
  process.stderr.write(`usage: daemon.ts ${Object.keys(daemons).join('|')} CONFIG_FILE\n`)
  process.exit(2)
}

process.title = `gantry-${name}`
const { run, loadLater } = await load()
await beginAnewIfCompiled(loadLater)
const running = await run(JSON.parse(readFileSync(file, 'utf8')) as never).catch((e: Error) => {
  // Whoever started it reads the last line.
  process.stderr.write(`${e.stack}\n${name}: ${e.message}\n`)
  process.exit(1)
})
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

/**
 * Code that was not in the compile cache, as in the first start after an installation, had its types stripped here, and the
 * tool for that holds some 20 MB until the process ends. With everything in the cache, the same process begins anew without it.
 */
async function beginAnewIfCompiled(loadRest?: () => Promise<void>): Promise<void> {
  // Missing in the types: the internal modules that this process has loaded.
  const { moduleLoadList } = process as unknown as { moduleLoadList: string[] }
  const compiled = moduleLoadList.some(m => m.includes('amaro'))
  if (!compiled || process.execve === undefined || process.env[BEGAN_ANEW] !== undefined) return
  await loadRest?.()
  flushCompileCache()
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], { ...process.env, [BEGAN_ANEW]: '1' })
}
