/** A plugin of Docker's first protocol, on a unix socket, made by a test. */
import { once } from 'node:events'
import { createServer } from 'node:http'

/** Answers a method's body; a thrown error becomes the answer's `Err`. */
export type PluginMethods = Record<string, (body: Record<string, unknown>) => object | Promise<object>>

export interface FakePlugin {
  /** Methods asked for, with what was sent, in order. */
  calls: { method: string; body: Record<string, unknown> }[]
  close(): Promise<void>
}

export async function fakePlugin(socket: string, kinds: string[], methods: PluginMethods): Promise<FakePlugin> {
  const calls: FakePlugin['calls'] = []
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const p of request) parts.push(p as Buffer)
    const method = (request.url ?? '').slice(1)
    const body = JSON.parse(Buffer.concat(parts).toString() || '{}') as Record<string, unknown>
    calls.push({ method, body })
    const handle = method === 'Plugin.Activate' ? () => ({ Implements: kinds }) : methods[method]
    if (handle === undefined) { response.writeHead(404).end('page not found'); return }
    try {
      response.end(JSON.stringify(await handle(body)))
    } catch (e) {
      response.writeHead(500).end(JSON.stringify({ Err: (e as Error).message }))
    }
  })
  server.listen(socket)
  await once(server, 'listening')
  return {
    calls,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => { server.close(resolve) })
    },
  }
}
