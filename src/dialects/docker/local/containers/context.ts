/** What the parts of the containers' backend share. */
import { CnmError } from '../../../../network/cnm/cnm.ts'
import { EngineError } from '../../../../engine/engine.ts'
import { NamedVolumeError } from '../../../../volumes/named/named.ts'
import { DockerError } from '../../errors.ts'
import type { DockerErrorKind } from '../../errors.ts'
import type { ImageFacts, Parts } from '../parts.ts'
import type { Container } from './container.ts'
import type { MachineFacts } from './host-facts.ts'
import type { RecordStore } from './records.ts'
import type { Registry } from './registry.ts'

export interface Context extends Parts {
  registry: Registry
  records: RecordStore
  facts: MachineFacts
  /** hosts, hostname and resolv.conf of each container. */
  filesDir: string
  /** By any reference; `not-found` in Docker's words. */
  image(reference: string): Promise<ImageFacts>
}

const ENGINE: Record<EngineError['code'], DockerErrorKind> = {
  'not-found': 'not-found', conflict: 'conflict', invalid: 'invalid', unavailable: 'unavailable', failed: 'failed',
}
const CNM: Record<CnmError['code'], DockerErrorKind> = {
  'not-found': 'not-found', conflict: 'conflict', invalid: 'invalid', forbidden: 'forbidden', exhausted: 'invalid', failed: 'failed',
}

/** Errors of the rooms below, in Docker's kinds; `prefix` goes before the message. */
export function dockerError(e: unknown, prefix = ''): DockerError {
  if (e instanceof DockerError) return prefix === '' ? e : new DockerError(e.kind, `${prefix}${e.message}`)
  const message = `${prefix}${e instanceof Error ? e.message : String(e)}`
  if (e instanceof EngineError) return new DockerError(ENGINE[e.code], message)
  if (e instanceof CnmError) return new DockerError(CNM[e.code], message)
  if (e instanceof NamedVolumeError) return new DockerError(e.code, message)
  return new DockerError('failed', message)
}

export function emit(x: Context, c: Container, action: string, extra?: Record<string, string>): void {
  x.events.emit('container', action, c.id, c.attributes(extra))
}

/** For changes that are found again from the engine after a crash. */
export function saveSoon(x: Context, c: Container): void {
  c.changed()
  x.records.save(c.record).catch((e: unknown) => { x.logger.warn(`the record of container ${c.id} could not be written`, { error: String(e) }) })
}
