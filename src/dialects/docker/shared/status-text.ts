/** A container's state in Docker's words. */
import type { ContainerState } from '../model.ts'
import { humanDuration } from './time.ts'

/** What the words are made of. Times in milliseconds; 0 is never. */
export interface StateFacts {
  running: boolean
  paused: boolean
  restarting: boolean
  removing: boolean
  dead: boolean
  exitCode: number
  startedAtMs: number
  finishedAtMs: number
  health?: 'none' | 'starting' | 'healthy' | 'unhealthy'
}

export function statusOf(s: StateFacts): ContainerState['Status'] {
  if (s.running) return s.paused ? 'paused' : s.restarting ? 'restarting' : 'running'
  if (s.removing) return 'removing'
  if (s.dead) return 'dead'
  return s.startedAtMs === 0 ? 'created' : 'exited'
}

/** The column STATUS of `docker ps`. */
export function statusText(s: StateFacts, nowMs: number): string {
  if (s.running) {
    if (s.restarting) return `Restarting (${s.exitCode}) ${humanDuration(nowMs - s.finishedAtMs)} ago`
    const up = `Up ${humanDuration(nowMs - s.startedAtMs)}`
    if (s.paused) return `${up} (Paused)`
    if (s.health === undefined || s.health === 'none') return up
    return `${up} (${s.health === 'starting' ? 'health: starting' : s.health})`
  }
  if (s.removing) return 'Removal In Progress'
  if (s.dead) return 'Dead'
  if (s.startedAtMs === 0) return 'Created'
  return s.finishedAtMs === 0 ? '' : `Exited (${s.exitCode}) ${humanDuration(nowMs - s.finishedAtMs)} ago`
}
