/** `gantry compose`: a Compose file on the cluster. */
import type { Command } from 'commander'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { RemoteClient } from '../../client/client.ts'
import { isReason } from '../../core/errors.ts'
import { composeProjects, machines, namespaces } from '../../core/kinds.ts'
import type { ComposeProject } from '../../core/types/index.ts'
import { type Project, readProject } from '../../dialects/compose/file.ts'
import { ComposeError } from '../../dialects/compose/values.ts'
import { withSession } from '../context.ts'
import { instances } from '../instances.ts'
import { age, json, line, note, paint, StatusLine, table, UserError } from '../output.ts'
import { nodePath, readyNode } from '../nodework.ts'
import { build } from './build.ts'

interface Common { file?: string; projectName?: string; output?: string }

const FILES = ['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml']

export function register(program: Command): void {
  const compose = program.command('compose').description('run a Compose file on the cluster')
  const common = (c: Command) => c
    .option('-f, --file <path>', 'Compose file (default: compose.yaml or docker-compose.yml here)')
    .option('-p, --project-name <name>', 'project (default: the folder\'s name)')

  common(compose.command('up'))
    .description('build what has to be built and make the cluster as the file says')
    .option('--build', 'build before starting: what up does anyway')
    .option('--no-wait', 'do not wait until all services run')
    .option('--timeout <seconds>', 'how long to wait', Number, 120)
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry compose up -f examples/talk/docker-compose.yml')
    .action((o: Common & { build?: boolean; wait: boolean; timeout: number }, command: Command) => withSession(command, async ({ client }) => {
      const project = load(o)
      for (const w of project.warnings) await note(paint('yellow', 'warning: ', process.stderr) + w)
      await bindsReachNodes(client, project)
      for (const [name, plan] of Object.entries(project.builds)) {
        if (o.output !== 'json') await note(`building ${name}`)
        const service = project.services[name]!
        const node = await readyNode(client)
        const id = await build(client, {
          node, folder: plan.context, tags: [service.image], buildArgs: plan.args, noCache: false, quiet: o.output === 'json',
          dockerfile: plan.dockerfile, target: plan.target,
        })
        // A name of its own for each content: a build that changed something changes the service, on every node.
        const own = nameOfBuild(service.image, id)
        await client.requestOk('POST', nodePath(node, 'images/tag', { source: service.image, target: own })).then(b => b.resume())
        service.image = own
      }
      await ensureNamespace(client, project.name)
      const made = await client.patch(composeProjects, { namespace: project.name, name: project.name }, 'apply', {
        apiVersion: composeProjects.apiVersion, kind: composeProjects.kind, metadata: { name: project.name, namespace: project.name },
        spec: { services: project.services, volumes: project.volumes },
      }, { fieldManager: 'gantry', force: true })
      if (o.wait) await running(client, made, o.timeout * 1000)
      if (o.output === 'json') return json(await client.get(composeProjects, { namespace: project.name, name: project.name }))
      for (const name of Object.keys(project.services)) await line(`${project.name}/${name} ${o.wait ? 'running' : 'wanted'}`)
    }))

  common(compose.command('down'))
    .description('remove everything the project made (named volumes stay)')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry compose down -f examples/talk/docker-compose.yml')
    .action((o: Common, command: Command) => withSession(command, async ({ client }) => {
      const name = projectOf(o)
      const namespace = await client.get(namespaces, { name }).catch((e: unknown) => { if (isReason(e, 'NotFound')) return undefined; throw e })
      if (namespace?.metadata.labels?.['gantry.dev/compose'] === undefined) throw new UserError(`there is no project "${name}"`)
      const gone = goneOf(client, name)
      await client.delete(namespaces, { name })
      await gone
      if (o.output === 'json') return json({ removed: name })
      await line(`${name} removed`)
    }))

  common(compose.command('ps'))
    .description('list the project\'s instances')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry compose ps -p talk')
    .action((o: Common, command: Command) => withSession(command, async ({ client }) => {
      const all = (await instances(client, projectOf(o))).filter(i => i.of === 'compose')
      const rows = all.map(i => ({
        name: i.pod.metadata.name, service: i.pod.metadata.labels!['com.docker.compose.service']!, image: i.pod.spec.containers[0]!.image,
        node: i.pod.spec.nodeName ?? '', status: i.status, created: i.pod.metadata.creationTimestamp,
      }))
      if (o.output === 'json') return json(rows)
      await table(['NAME', 'SERVICE', 'IMAGE', 'NODE', 'STATUS', 'AGE'], rows.map(r => [r.name, r.service, r.image ?? '', r.node, r.status, age(r.created)]))
    }))

  common(compose.command('logs [service...]'))
    .description('print the logs of the project\'s services')
    .option('--follow', 'go on as lines are written')
    .option('--tail <lines>', 'only the last lines of each instance')
    .addHelpText('after', '\nExample:\n  gantry compose logs -p talk web --tail 20')
    .action(async (services: string[], o: Common & { follow?: boolean; tail?: string }) => {
      const name = projectOf(o)
      const apps = services.length === 0 ? [name] : services.map(s => `${name}/${s}`)
      const argv = ['logs', '-n', name, ...apps, ...(o.follow === true ? ['-f'] : []), ...(o.tail !== undefined ? ['--tail', o.tail] : [])]
      const logs = await import('./logs.ts')
      if (!program.commands.some(c => c.name() === 'logs')) logs.register(program)
      await program.parseAsync(argv, { from: 'user' })
    })
}

/** `shop-web` → `shop-web:a77bd5b56fcb`, `team/web:2` → `team/web:2-a77bd5b56fcb`. */
function nameOfBuild(image: string, id: string): string {
  const hash = id.replace('sha256:', '').slice(0, 12)
  return image.slice(image.lastIndexOf('/') + 1).includes(':') ? `${image}-${hash}` : `${image}:${hash}`
}

/** The file's path, or a UserError saying where it was looked for. */
function pathOf(o: Common): string {
  if (o.file !== undefined) {
    if (!existsSync(o.file)) throw new UserError(`there is no file ${o.file}`)
    return resolve(o.file)
  }
  const found = FILES.find(f => existsSync(f))
  if (found === undefined) throw new UserError(`none of ${FILES.join(', ')} is here; name one with -f`)
  return resolve(found)
}

function load(o: Common): Project {
  const path = pathOf(o)
  try {
    return readProject({
      path, text: readFileSync(path, 'utf8'), projectName: o.projectName, env: process.env,
      readFile: file => existsSync(file) ? readFileSync(file, 'utf8') : undefined,
    })
  } catch (e) {
    throw e instanceof ComposeError ? new UserError(e.message) : e
  }
}

function projectOf(o: Common): string { return o.projectName ?? load(o).name }

/** Bind mounts name folders of this machine: they mean the same on a node only if the node is made of this machine. */
async function bindsReachNodes(client: RemoteClient, project: Project): Promise<void> {
  const binds = Object.values(project.services).flatMap(s => s.volumes ?? []).filter(v => v.type === 'bind')
  if (binds.length === 0) return
  const { items } = await client.list(machines)
  const far = items.filter(m => m.spec.roles?.includes('node') === true && !['local', 'namespace'].includes(m.spec.driver ?? ''))
  if (far.length > 0) {
    throw new UserError(`${binds[0]!.source} is a folder of this machine, and ${far[0]!.metadata.name} is another one: build the files into the image, or use a named volume`)
  }
  for (const b of binds) if (!existsSync(b.source!)) await note(`${b.source} is not there; the node makes an empty folder (${join(dirname(b.source!), '…')})`)
}

async function ensureNamespace(client: RemoteClient, name: string): Promise<void> {
  const existing = await client.get(namespaces, { name }).catch((e: unknown) => { if (isReason(e, 'NotFound')) return undefined; throw e })
  if (existing === undefined) {
    await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { 'gantry.dev/compose': name } } })
  } else if (existing.status?.phase === 'Terminating') throw new UserError(`the project "${name}" is just being removed; try again in a moment`)
}

/** Resolves when every service has its instances; the status line tells which are missing. */
async function running(client: RemoteClient, project: ComposeProject, timeoutMs: number): Promise<void> {
  const informer = client.informer(composeProjects, { namespace: project.metadata.namespace! })
  const status = new StatusLine()
  let timer: NodeJS.Timeout | undefined
  let last = ''
  try {
    await new Promise<void>((done, reject) => {
      timer = setTimeout(() => reject(new UserError(`after ${timeoutMs / 1000} s not running: ${last}. See "gantry events" and "gantry compose ps -p ${project.metadata.name}"`)), timeoutMs)
      informer.on((type, p) => {
        if (type === 'DELETED') return reject(new UserError('the project was removed meanwhile'))
        if (p.status?.observedGeneration !== p.metadata.generation) return
        const missing = Object.entries(p.status?.services ?? {}).filter(([, s]) => s.ready < s.desired)
        last = missing.map(([name, s]) => `${name} ${s.ready}/${s.desired}`).join(', ')
        if (missing.length === 0) return done()
        status.set(`waiting for ${last}`)
      })
    })
  } finally {
    clearTimeout(timer)
    status.done()
    informer.stop()
  }
}

async function goneOf(client: RemoteClient, name: string): Promise<void> {
  const informer = client.informer(namespaces, { fieldSelector: `metadata.name=${name}` })
  try {
    await new Promise<void>((done, reject) => {
      const timer = setTimeout(() => reject(new UserError(`the project "${name}" is still being removed; see "gantry get namespaces"`)), 60_000)
      informer.on(type => {
        if (type !== 'DELETED') return
        clearTimeout(timer)
        done()
      })
    })
  } finally {
    informer.stop()
  }
}
