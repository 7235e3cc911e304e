/** Messages between the SQLite store and its worker. */

/** Writes to commit, in order. Flat arrays and one transferred buffer: cloning an object per write would cost more than the write. */
export interface CommitMessage {
  type: 'commit'
  /** Number of the last write in this message; writes are numbered from 1 without gaps. */
  through: number
  /** Raised by the store when a group failed: the worker drops what was sent before that. */
  epoch: number
  keys: string[]
  revisions: number[]
  /** Bytes of each value in `data`; -1 is a delete. */
  lengths: number[]
  data: ArrayBuffer
}

export type ToWorker = CommitMessage | { type: 'load' } | { type: 'close' }

export type FromWorker =
  | { type: 'open'; revision: number }
  | { type: 'failed-open'; message: string }
  /** Everything up to write `through` is on disk. `deleted` holds the last values of the deleted entries, in order. */
  | { type: 'committed'; through: number; deleted: Uint8Array[] }
  /** Nothing of the group was written. */
  | { type: 'failed'; epoch: number; message: string }
  | { type: 'page'; keys: string[]; revisions: number[]; values: Uint8Array[] }
  | { type: 'loaded'; revision: number }
  | { type: 'failed-load'; message: string }
  | { type: 'closed' }
