/** Which objects belong to a controller: its own that still match its selector, and matching ones that belong to nobody. */
import type { Client } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import type { Kind } from '../core/kinds.ts'
import type { LabelMatcher } from '../core/selectors.ts'
import type { ApiObject } from '../core/types/index.ts'
import { controllerReference, type Context } from './context.ts'

export interface Claim<C extends ApiObject> {
  ownerKind: Kind
  owner: ApiObject
  childKind: Kind<C>
  matches: LabelMatcher
  /** Whether an orphan is worth adopting, e.g. a Pod that has not finished. */
  adoptable(child: C): boolean
}

/** Adopts and releases as needed; gives the objects that are owned now. */
export async function claim<C extends ApiObject>({ client, informers }: Context, c: Claim<C>): Promise<C[]> {
  const informer = informers.of(c.childKind)
  const { owner } = c
  const deleting = owner.metadata.deletionTimestamp !== undefined
  const owned: C[] = []
  for (const child of informer.byIndex('controller', owner.metadata.uid!)) {
    if (c.matches(child.metadata.labels)) owned.push(child)
    else if (!deleting && child.metadata.deletionTimestamp === undefined) {
      await writeOwners(client, c.childKind, child, (child.metadata.ownerReferences ?? []).filter((r) => r.uid !== owner.metadata.uid))
    }
  }
  if (deleting) return owned
  let isCurrent: boolean | undefined
  for (const child of informer.byIndex('orphans', owner.metadata.namespace ?? '')) {
    if (child.metadata.deletionTimestamp !== undefined || !c.adoptable(child) || !c.matches(child.metadata.labels)) continue
    // The cache may lag: an owner that is gone, or made anew under its name, must not adopt.
    isCurrent ??= await stillThere(client, c.ownerKind, owner)
    if (!isCurrent) return owned
    const references = [...child.metadata.ownerReferences ?? [], controllerReference(c.ownerKind, owner)]
    const adopted = await writeOwners(client, c.childKind, child, references)
    if (adopted !== undefined) owned.push(adopted)
  }
  return owned
}

async function stillThere(client: Client, kind: Kind, owner: ApiObject): Promise<boolean> {
  try {
    const live = await client.get(kind, owner.metadata)
    return live.metadata.uid === owner.metadata.uid && live.metadata.deletionTimestamp === undefined
  } catch (e) {
    if (isReason(e, 'NotFound')) return false
    throw e
  }
}

/** Undefined if the object went or changed meanwhile; its next event brings the owner back here. */
async function writeOwners<C extends ApiObject>(client: Client, kind: Kind<C>, child: C, ownerReferences: object[]): Promise<C | undefined> {
  const { uid, resourceVersion } = child.metadata
  try {
    return await client.patch(kind, child.metadata, 'merge', { metadata: { uid, resourceVersion, ownerReferences } })
  } catch (e) {
    if (isReason(e, 'NotFound') || isReason(e, 'Conflict') || isReason(e, 'Invalid')) return undefined
    throw e
  }
}
