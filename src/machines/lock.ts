/** One cluster is made at a time on a machine: what it chooses as free (ports, networks) is not held before its daemons run. */
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** A name outside of the file system: it belongs to this network namespace, and goes with the process that holds it. */
const NAME = '\0gantry-up'
const RETRY_MS = 100

/** Resolves with what gives the lock back. `onWait` is called once if another process holds it. */
export async function lockMachine(onWait: () => void): Promise<() => void> {
  for (let told = false; ; told = true) {
    const server = createServer(socket => socket.destroy()).unref()
    const taken = await new Promise<boolean>((resolve, reject) => {
      server.once('error', (e: NodeJS.ErrnoException) => e.code === 'EADDRINUSE' ? resolve(false) : reject(e))
      server.listen(NAME, () => resolve(true))
    })
    if (taken) return () => { server.close() }
    if (!told) onWait()
    await sleep(RETRY_MS)
  }
}
