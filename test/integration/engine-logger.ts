/** The log daemon as a process of its own: `node engine-logger.ts SOCKET`. */
import { runLogger } from '../../src/engine/logger/main.ts'

await runLogger({ socket: process.argv[2] as string })
process.exit(0)
