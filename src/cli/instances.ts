/** Instances as people think of them: a Pod, the application it belongs to, and the system it came from. */
import type { Client } from '../core/client.ts'
import { coreKinds, pods as podKind, replicaSets } from '../core/kinds.ts'
import { tableCells } from '../core/table.ts'
import type { OwnerReference, Pod } from '../core/types/index.ts'
import { UserError } from './output.ts'

export interface Instance {
  pod: Pod
  app: string
  /** The owner's kind, lower case; `pod` for a Pod of nobody. */
  of: string
  status: string
  restarts: string
}

/** All instances, or those of one namespace, by application and name. */
export async function instances(client: Client, namespace?: string): Promise<Instance[]> {
  const [list, sets] = await Promise.all([client.list(podKind, { namespace }), client.list(replicaSets, { namespace })])
  const deploymentOf = new Map(sets.items.map(s => [s.metadata.uid, controllerOf(s.metadata.ownerReferences)]))
  return list.items.map(pod => {
    const owner = controllerOf(pod.metadata.ownerReferences)
    const top = deploymentOf.get(owner?.uid) ?? owner
    const project = pod.metadata.labels?.['com.docker.compose.project']
    const [, , status, restarts] = tableCells(podKind, pod, new Date()).map(String)
    return project === undefined
      ? { pod, app: top?.name ?? pod.metadata.name, of: top?.kind.toLowerCase() ?? 'pod', status: status!, restarts: restarts! }
      : { pod, app: `${project}/${pod.metadata.labels!['com.docker.compose.service']}`, of: 'compose', status: status!, restarts: restarts! }
  }).sort((a, b) => a.app.localeCompare(b.app) || a.pod.metadata.name.localeCompare(b.pod.metadata.name))
}

function controllerOf(owners: OwnerReference[] | undefined): OwnerReference | undefined { return owners?.find(o => o.controller) }

/** Those a user means by `name`: an application (`web`, `talk/web`, `deployment/web`), a Compose project, or one Pod. */
export function named(all: Instance[], name: string): Instance[] {
  const slash = name.indexOf('/')
  const [kind, bare] = slash === -1 ? [undefined, name] : [name.slice(0, slash).toLowerCase(), name.slice(slash + 1)]
  const found = all.filter(i => i.app === name || (kind === undefined
    ? i.pod.metadata.name === bare || i.app.startsWith(`${name}/`)
    // What stands before the slash has to hold: shop/web must not become another project's or namespace's web.
    : ofKind(kind, 'pod') ? i.pod.metadata.name === bare : i.app === bare && ofKind(kind, i.of)))
  if (found.length === 0) throw new UserError(`no application or instance "${name}"; "gantry ps" lists them`)
  return found
}

/** True if `text` is a name of the kind, which is lower case and singular. */
function ofKind(text: string, kind: string): boolean {
  const known = coreKinds.find(k => k.singular === kind)
  return text === kind || (known !== undefined && [known.plural, ...known.shortNames ?? []].includes(text))
}
