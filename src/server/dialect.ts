/** A dialect: the kinds, wire-compatible front and controllers of one system. Its folder is `src/dialects/NAME/`. */
import type { Kind } from '../core/kinds.ts'
import type { ServerHost } from './host.ts'

export interface Dialect {
  /** The folder's name. */
  name: string
  /** Kinds the generic REST serves for it; added before the store is read. */
  kinds?: readonly Kind[]
  /** Mounts its HTTP front. */
  mount?(host: ServerHost): void
  /** Starts its controllers; called when this server leads, stopped when it no longer does. */
  controllers?(host: ServerHost): { stop(): void | Promise<void> }[]
}
