/** Keeps archives and layers from filling the disk: the kernel tells nobody beforehand. */
import { statfs } from 'node:fs/promises'
import { EngineError } from '../engine.ts'

/** What is unpacked must leave this much of the disk free: a bomb of some KB could fill it otherwise. */
export const RESERVE_BYTES = 256 << 20

/** Refuses to go on when the disk that holds `dir` is almost full. */
export async function checkSpace(dir: string, what: string): Promise<void> {
  const { bavail, bsize } = await statfs(dir)
  if (bavail * bsize < RESERVE_BYTES) throw new EngineError('failed', `${what}: no space left on device`)
}
