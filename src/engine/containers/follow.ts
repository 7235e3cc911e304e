/** Tells a reader of a container's log when there is more, and when there will be no more. */
import type { EventHub } from './events.ts'
import type { LogClient } from './log-client.ts'
import type { Follow } from './log-blocks.ts'
import type { Entry } from './model.ts'

/** Ends with the run that is on, or with the next one of a container that was not started yet. */
export async function followLog(entry: Entry, logs: LogClient, events: EventHub): Promise<Follow> {
  const { id } = entry.record.spec
  let ended = false
  let changed = Promise.withResolvers<void>()
  const { open, stop } = await logs.follow(id, (event) => {
    if (event === 'end') ended = true
    changed.resolve()
  })
  // A created container has no output yet: it is waited for. One that ran has had its last.
  const state = entry.record.state
  if (!open && state !== 'running' && state !== 'created') ended = true
  const finish = (): void => {
    ended = true
    changed.resolve()
  }
  // The daemon's `end` may have come before we asked, or gone with the daemon: the exit says it too.
  const off = events.on((e) => {
    if (e.id !== id) return
    if (e.type === 'delete') finish()
    else if (e.type === 'exit') void entry.cleanup?.then(finish)
  })
  return {
    next: async () => {
      await changed.promise
      changed = Promise.withResolvers()
    },
    ended: () => ended,
    stop: () => { stop(); off() },
  }
}
