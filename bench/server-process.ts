/** The server of a benchmark, in a process of its own: see startServer in support.ts. */
import { enableCompileCache } from 'node:module'

enableCompileCache()
const { startTestServer } = await import('../src/server/testing/start.ts')
const server = await startTestServer({ lead: process.argv[2] === 'true' })
process.send!({ port: server.port, admin: server.admin })
process.once('message', () => void server.close().then(() => process.exit(0)))
// A benchmark that dies takes its server along.
process.once('disconnect', () => void server.close().then(() => process.exit(1)))
