/** Places Pods on nodes. Read placer.ts (how a node is chosen), snapshot.ts (what it knows) and scheduler.ts (the loop). */
import type { Client } from '../core/client.ts'
import type { Logger } from '../core/log.ts'
import { systemClock, type Clock } from '../core/workqueue.ts'
import { profiles, type ProfileName } from './profile.ts'
import { Scheduler } from './scheduler.ts'

export type { ProfileName } from './profile.ts'

export interface SchedulerOptions {
  profile?: ProfileName
  logger: Logger
  clock?: Clock
  /** Numbers in 0…1, for choosing between equals. */
  random?: () => number
}

/** Starts the scheduler. Only one may run in a cluster. `stop` leaves bindings under way to end by themselves. */
export function startScheduler(client: Client, options: SchedulerOptions): { stop(): void } {
  const { profile = 'spread', logger, clock = systemClock, random = Math.random } = options
  return new Scheduler({ client, profile: profiles[profile], logger, clock, random })
}
