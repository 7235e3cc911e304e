/** The process that `server-process.ts` starts and kills: an API server without controllers and scheduler. */
import { readFileSync } from 'node:fs'
import type { ServerConfig } from '../../src/machines/layout.ts'
import { runServer } from '../../src/server/main.ts'

await runServer(JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as ServerConfig, { lead: false })
