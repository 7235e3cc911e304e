/** Go's FileMode, which `docker cp` reads: permission bits, and type bits of its own. */

const S_IFMT = 0o170000
const TYPES = new Map<number, number>([
  [0o040000, 2 ** 31], [0o120000, 2 ** 27], [0o060000, 2 ** 26], [0o020000, 2 ** 26 + 2 ** 21], [0o010000, 2 ** 25], [0o140000, 2 ** 24],
])

/** `st_mode` → FileMode. */
export function goFileMode(mode: number): number {
  return (mode & 0o777) + (TYPES.get(mode & S_IFMT) ?? 0)
    + ((mode & 0o4000) === 0 ? 0 : 2 ** 23) + ((mode & 0o2000) === 0 ? 0 : 2 ** 22) + ((mode & 0o1000) === 0 ? 0 : 2 ** 20)
}
