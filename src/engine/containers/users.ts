/** Who a container's process is: `user` of a spec, looked up in the image's own /etc/passwd and /etc/group. */
import { EngineError } from '../engine.ts'

export interface ProcessUser { uid: number; gid: number; additionalGids: number[]; home: string }

export interface UserFiles { passwd: string | undefined; group: string | undefined }

const MAX_ID = 0x7fffffff

/**
 * `user` is '', `uid`, `uid:gid`, `name`, `name:group` or mixed. A number need not be in passwd; its group is then 0, as in
 * Docker. Without an explicit group the user's supplementary groups of /etc/group are added. `supplemental` and `moreGroups`
 * (names or numbers) come on top. Throws `invalid` for unknown names.
 */
export function lookupUser(user: string, files: UserFiles, supplemental: number[] = [], moreGroups: string[] = []): ProcessUser {
  const colon = user.indexOf(':')
  const name = (colon < 0 ? user : user.slice(0, colon)) || '0'
  const groupName = colon < 0 ? '' : user.slice(colon + 1)
  // By name first: `1000` may be somebody's name.
  const entries = parse(files.passwd, 6)
  const entry = entries.find((e) => e[0] === name) ?? entries.find((e) => e[2] === name)
  const uid = entry === undefined ? toId(name) : toId(entry[2] ?? '')
  if (uid === undefined) throw new EngineError('invalid', `unable to find user ${name}: no matching entries in passwd file`)
  let gid = toId(entry?.[3] ?? '0') ?? 0
  const groups = parse(files.group, 3)
  const additional = new Set<number>()
  const groupId = (wanted: string): number => {
    const found = groups.find((g) => g[0] === wanted)
    const id = found === undefined ? toId(wanted) : toId(found[2] ?? '')
    if (id === undefined) throw new EngineError('invalid', `unable to find group ${wanted}: no matching entries in group file`)
    return id
  }
  if (groupName !== '') {
    gid = groupId(groupName)
  } else if (entry !== undefined) {
    for (const g of groups) {
      const id = toId(g[2] ?? '')
      if (id !== undefined && (g[3] ?? '').split(',').includes(entry[0] ?? '')) additional.add(id)
    }
  }
  for (const g of supplemental) additional.add(g)
  for (const g of moreGroups) additional.add(groupId(g))
  additional.add(gid)
  return { uid, gid, additionalGids: [...additional], home: entry?.[5] || '/' }
}

function toId(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined
  const id = Number(text)
  return id <= MAX_ID ? id : undefined
}

function parse(text: string | undefined, minFields: number): string[][] {
  if (text === undefined) return []
  return text.split('\n').map((l) => l.trim().split(':')).filter((f) => f.length >= minFields && f[0] !== '' && !f[0]?.startsWith('#'))
}
