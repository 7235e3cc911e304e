/** `gantry image`: images of the cluster. One that a node has, every node has: they take it from each other. */
import type { Command } from 'commander'
import { createReadStream, createWriteStream, existsSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { RemoteClient } from '../../client/client.ts'
import { nodes as nodeKind } from '../../core/kinds.ts'
import { bootstrapDebian } from '../../engine/images/bootstrap.ts'
import { collect, pairs } from '../args.ts'
import { withSession } from '../context.ts'
import { follow, nodePath, readyNode } from '../nodework.ts'
import { json, line, size, StatusLine, table, UserError } from '../output.ts'

interface ImportOptions { cmd?: string[]; env: string[]; node?: string; output?: string }
interface PullOptions { node?: string; insecure?: boolean; output?: string }
interface BootstrapOptions { mirror?: string; node?: string; ifMissing?: boolean; output?: string }

export function register(program: Command): void {
  const image = program.command('image').description('list, move and make images')

  image.command('ls')
    .description('list images with the nodes that have them')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry image ls')
    .action((o: { output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const rows = await images(client)
      if (o.output === 'json') return json(rows)
      await table(['IMAGE', 'SIZE', 'NODES'], rows.map(r => [r.name, size(r.sizeBytes), r.nodes.join(' ')]))
    }))

  image.command('pull <name>')
    .description('take an image from its registry; any node can then take it from this one')
    .option('--node <name>', 'node that pulls (default: the first that is ready)')
    .option('--insecure', 'use plain HTTP')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry image pull redis:7')
    .action((name: string, o: PullOptions, command: Command) => withSession(command, async ({ client }) => {
      const node = await readyNode(client, o.node)
      await follow(await client.requestOk('POST', nodePath(node, 'images/pull', { reference: name, insecure: o.insecure === true ? 'true' : undefined })), { quiet: o.output === 'json' })
      await done(o, { image: name, node }, `${name} is on ${node}`)
    }))

  image.command('push <name>')
    .description('send an image to its registry')
    .option('--insecure', 'use plain HTTP')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry image push registry.example.org/team/web:2')
    .action((name: string, o: { insecure?: boolean; output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const node = await readyNode(client, await holderOf(client, name))
      await follow(await client.requestOk('POST', nodePath(node, 'images/push', { reference: name, insecure: o.insecure === true ? 'true' : undefined })), { quiet: o.output === 'json' })
      await done(o, { image: name, pushed: true }, `${name} pushed`)
    }))

  image.command('load [archive]')
    .description('load images from a "docker save" or OCI archive, or from standard input')
    .option('--node <name>', 'node that keeps them (default: the first that is ready)')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  docker save web:1 | gantry image load')
    .action((archive: string | undefined, o: { node?: string; output?: string }, command: Command) => withSession(command, async ({ client }) => {
      if (archive !== undefined && !existsSync(archive)) throw new UserError(`there is no file ${archive}`)
      const node = await readyNode(client, o.node)
      const body = archive === undefined ? process.stdin : createReadStream(archive)
      const last = await follow(await client.requestOk('POST', nodePath(node, 'images/load'), { body }), { quiet: o.output === 'json' })
      const names = last.names ?? []
      await done(o, { node, names }, names.map(n => `${n} loaded on ${node}`).join('\n'))
    }))

  image.command('import <archive> <name>')
    .description('make an image of one layer out of a root file system: a tar archive, or - for standard input')
    .option('--cmd <word...>', 'command its containers run')
    .option('-e, --env <NAME=value>', 'environment variable of its containers; may be repeated', collect, [])
    .option('--node <name>', 'node that keeps it (default: the first that is ready)')
    .addHelpText('after', '\nExample:\n  tar -C rootfs -c . | gantry image import - team/base:1')
    .action((archive: string, name: string, o: ImportOptions, command: Command) => withSession(command, async ({ client }) => {
      if (archive !== '-' && !existsSync(archive)) throw new UserError(`there is no file ${archive}`)
      const node = await readyNode(client, o.node)
      const config = { ...(o.cmd !== undefined && { cmd: o.cmd }), env: Object.entries(pairs('--env', o.env)).map(([k, v]) => `${k}=${v}`) }
      const body = archive === '-' ? process.stdin : createReadStream(archive)
      await follow(await client.requestOk('POST', nodePath(node, 'images/import', { reference: name, config: JSON.stringify(config) }), { body }))
      await line(`${name} imported on ${node}`)
    }))

  image.command('save <name...>')
    .description('write images as an archive that "docker load" reads')
    .option('-f, --file <path>', 'file to write (default: standard output)')
    .addHelpText('after', '\nExample:\n  gantry image save mstine/lattice-app -f app.tar')
    .action((names: string[], o: { file?: string }, command: Command) => withSession(command, async ({ client }) => {
      if (o.file === undefined && process.stdout.isTTY) throw new UserError('an archive does not belong on a terminal: name a file with -f', 2)
      const node = await readyNode(client, await holderOf(client, names[0]!))
      const body = await client.requestOk('GET', nodePath(node, 'images/save', { reference: names }))
      await pipeline(body, o.file === undefined ? process.stdout : createWriteStream(o.file, { mode: 0o600 }))
    }))

  image.command('rm <name>')
    .description('remove an image from every node')
    .option('--force', 'also if containers use it')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry image rm web:1')
    .action((name: string, o: { force?: boolean; output?: string }, command: Command) => withSession(command, async ({ client }) => {
      const holders = (await images(client)).find(r => matches(r.name, name))?.nodes ?? []
      if (holders.length === 0) throw new UserError(`no node has an image "${name}"; "gantry image ls" lists them`)
      for (const node of holders) {
        const force = o.force === true ? 'true' : undefined
        await client.requestOk('DELETE', nodePath(node, 'images', { reference: name, force })).then(b => b.resume())
        if (o.output !== 'json') await line(`${name} removed from ${node}`)
      }
      if (o.output === 'json') await json({ image: name, removedFrom: holders })
    }))

  image.command('bootstrap <name>')
    .description('make a Debian base image out of packages, where no registry can be reached')
    .option('--mirror <url>', 'Debian mirror (default: the one this machine uses)')
    .option('--node <name>', 'node that keeps it (default: the first that is ready)')
    .option('--if-missing', 'do nothing if a node has it')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry image bootstrap debian:bookworm')
    .action((name: string, o: BootstrapOptions, command: Command) => withSession(command, async ({ client }) => {
      await bootstrap(client, name, o)
    }))
}

function done(o: { output?: string }, value: object, text: string): Promise<void> {
  return o.output === 'json' ? json(value) : line(text)
}

/** Makes `debian:SUITE` with mmdebstrap here and imports it on a node. */
export async function bootstrap(client: RemoteClient, name: string, o: BootstrapOptions): Promise<void> {
  const suite = /^(?:docker\.io\/library\/)?debian:([a-z]+)(?:-slim)?$/.exec(name)?.[1]
  if (suite === undefined) throw new UserError(`"${name}" cannot be made from packages; debian:bookworm and debian:trixie can`, 2)
  if (o.ifMissing === true && await holderOf(client, name) !== undefined) return done(o, { image: name, made: false }, `${name} is there already`)
  const node = await readyNode(client, o.node)
  const status = new StatusLine()
  await bootstrapDebian({
    suite, reference: name, ...(o.mirror !== undefined && { mirror: o.mirror }),
    onProgress: p => status.set(p.status),
    import: async (tar, reference, config) => {
      await follow(await client.requestOk('POST', nodePath(node, 'images/import', { reference, config: JSON.stringify(config) }), { body: tar }), { quiet: true })
    },
  })
  status.done()
  await done(o, { image: name, made: true, node }, `${name} made from Debian packages, on ${node}`)
}

/** Every image of the cluster by name, from what the nodes report. */
async function images(client: RemoteClient): Promise<{ name: string; sizeBytes: number; nodes: string[] }[]> {
  const byName = new Map<string, { name: string; sizeBytes: number; nodes: string[] }>()
  for (const n of (await client.list(nodeKind)).items) {
    for (const i of n.status?.images ?? []) {
      for (const name of i.names.filter(x => !x.includes('@'))) {
        const row = byName.get(name) ?? { name, sizeBytes: i.sizeBytes ?? 0, nodes: [] }
        row.nodes.push(n.metadata.name)
        byName.set(name, row)
      }
    }
  }
  return [...byName.values()].sort((a, b) => a.name.localeCompare(b.name))
}

async function holderOf(client: RemoteClient, name: string): Promise<string | undefined> {
  return (await images(client)).find(r => matches(r.name, name))?.nodes[0]
}

/** Whether a full reference is what a user means by a short one. */
function matches(full: string, name: string): boolean {
  const tagged = /:[^/]+$/.test(name) ? name : `${name}:latest`
  return full === tagged || full === `docker.io/${tagged}` || full === `docker.io/library/${tagged}`
}
