/** What a kind of volume can do: `local.ts` and `plugin.ts`. Messages of failures are without the volume's name: the caller adds it. */
import type { VolumeRecord } from './records.ts'

export interface Driver {
  /** Makes what only the driver can make; the record comes after. */
  create(name: string, options: Record<string, string>): Promise<{ scope: 'local' | 'global' }>
  /** Nobody uses it; it is unmounted. */
  remove(v: VolumeRecord): Promise<void>
  /** Rejects with `not-found` if the driver knows of none. */
  describe(v: VolumeRecord): Promise<{ mountpoint: string; status?: Record<string, unknown> }>
  /** Makes it usable for `user`; repeating it is harmless. Resolves with the path on the host. */
  mount(v: VolumeRecord, user: string): Promise<string>
  /** `last`: no other user has it mounted. */
  unmount(v: VolumeRecord, user: string, last: boolean): Promise<void>
  /** −1: not known. */
  usage(v: VolumeRecord): Promise<number>
}
