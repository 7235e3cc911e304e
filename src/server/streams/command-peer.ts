/** The caller's side of exec and attach, as its protocols share it. */
import type { Status } from '../../core/errors.ts'

/** Which of the three data channels are in use. */
export interface CommandStreams { stdin: boolean; stdout: boolean; stderr: boolean; tty: boolean }

/** The caller's side of one command, whatever its protocol. */
export interface CommandPeer {
  /** Output; false when the caller reads too slowly: wait for `onDrain`. */
  write(channel: number, payload: Buffer): boolean
  onDrain: () => void
  /** Input: stdin, resize, close. False asks the peer to stop until {@link resume}. */
  onInput: (channel: number, payload: Buffer) => boolean
  resume(): void
  /** The caller has gone. */
  onClose: () => void
  /** The command's result as JSON; the last thing the caller gets. */
  finish(status: Buffer): void
}

/** What protocols before v4 say of a result: nothing of a success, else its message. */
export function plainResult(status: Buffer): string {
  const { status: outcome, message } = JSON.parse(status.toString()) as Partial<Status>
  return outcome === 'Success' ? '' : message ?? 'the command failed'
}
