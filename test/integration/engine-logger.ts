/** The log daemon as a process of its own: `node engine-logger.ts SOCKET`. */
import { runLogger } from '../../src/engine/logger/main.ts'

const logger = await runLogger({ socket: process.argv[2] as string })
process.once('SIGTERM', () => void logger.close().then(() => process.exit(0)))
