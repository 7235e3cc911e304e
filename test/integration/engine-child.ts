/**
 * An engine to be killed: `node engine-child.ts OPTIONS-JSON`. Does what it is told over IPC and answers; told `crashAt`, it kills
 * itself after that many milliseconds of the next call.
 */
import { createReadStream } from 'node:fs'
import { openEngine } from '../../src/engine/index.ts'
import type { ContainerSpec, EngineOptions } from '../../src/engine/index.ts'

type Command =
  | { do: 'create'; spec: ContainerSpec; crashAfterMs?: number }
  | { do: 'start' | 'stop' | 'remove'; id: string; crashAfterMs?: number }
  | { do: 'pull'; reference: string; crashAfterMs?: number }
  | { do: 'load'; archive: string; crashAfterMs?: number }

const engine = await openEngine(JSON.parse(process.argv[2] as string) as EngineOptions)
process.on('message', (c: Command) => {
  void (async () => {
    if (c.crashAfterMs !== undefined) setTimeout(() => { process.kill(process.pid, 'SIGKILL') }, c.crashAfterMs)
    try {
      if (c.do === 'create') await engine.containers.create(c.spec)
      else if (c.do === 'pull') await engine.images.pull(c.reference)
      else if (c.do === 'load') await engine.images.load(createReadStream(c.archive))
      else if (c.do === 'start') await engine.containers.start(c.id)
      else if (c.do === 'stop') await engine.containers.stop(c.id, 0)
      else await engine.containers.remove(c.id, true)
      process.send?.({ ok: true })
    } catch (e) {
      process.send?.({ error: (e as Error).message })
    }
  })()
})
process.send?.({ ready: true })
