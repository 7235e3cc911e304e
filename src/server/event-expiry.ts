/** Events live for an hour after they last happened. */
import { isReason } from '../core/errors.ts'
import type { Client } from '../core/client.ts'
import { events } from '../core/kinds.ts'
import type { Event } from '../core/types/index.ts'
import type { Logger } from './host.ts'

const LIFETIME_MS = 60 * 60_000
const CHECK_MS = 5 * 60_000

function lastMs(e: Event): number {
  return Date.parse(e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp ?? '') || Date.now()
}

export function expireEvents(client: Client, log: Logger): { stop(): void } {
  const timer = setInterval(() => void sweep(client).catch((e: unknown) => log.warn('events could not be expired', { error: String(e) })), CHECK_MS)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}

async function sweep(client: Client): Promise<void> {
  const before = Date.now() - LIFETIME_MS
  for (const e of (await client.list(events)).items) {
    if (lastMs(e) >= before) continue
    try {
      await client.delete(events, e.metadata)
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error
    }
  }
}
