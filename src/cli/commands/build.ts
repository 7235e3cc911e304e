/** `gantry build`: an image from a Dockerfile, on a node of the cluster; every node can run it then. */
import type { Command } from 'commander'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { RemoteClient } from '../../client/client.ts'
import { collect, pairs } from '../args.ts'
import { withSession } from '../context.ts'
import { folderTar } from '../context-tar.ts'
import { follow, nodePath, readyNode } from '../nodework.ts'
import { json, UserError } from '../output.ts'

interface Options {
  tag: string[]; file?: string; buildArg: string[]; target?: string; cache: boolean; label: string[]; node?: string; quiet?: boolean; output?: string
}

export function register(program: Command): void {
  program.command('build <folder>')
    .description('build an image from a folder with a Dockerfile')
    .option('-t, --tag <name>', 'name of the image; may be repeated', collect, [])
    .option('-f, --file <path>', 'Dockerfile within the folder (default: Dockerfile)')
    .option('--build-arg <NAME=value>', 'value of an ARG; may be repeated', collect, [])
    .option('--label <NAME=value>', 'label of the image; may be repeated', collect, [])
    .option('--target <stage>', 'stage to stop at')
    .option('--no-cache', 'run every step again')
    .option('--node <name>', 'node to build on (default: the first that is ready)')
    .option('-q, --quiet', 'no output but errors')
    .option('-o, --output <format>', 'json for programs')
    .addHelpText('after', '\nExample:\n  gantry build -t mstine/lattice-app examples/lattice-app')
    .action((folder: string, o: Options, command: Command) => withSession(command, async ({ client }) => {
      const id = await build(client, {
        folder, tags: o.tag, dockerfile: o.file, target: o.target, noCache: !o.cache, node: o.node,
        buildArgs: pairs('--build-arg', o.buildArg), labels: pairs('--label', o.label), quiet: o.quiet === true || o.output === 'json',
      })
      if (o.output === 'json') await json({ id, tags: o.tag })
    }))
}

export interface Build {
  folder: string; tags: string[]; dockerfile?: string | undefined; target?: string | undefined; noCache?: boolean; node?: string | undefined
  buildArgs?: Record<string, string>; labels?: Record<string, string>; quiet?: boolean
}

/** Builds on a node and resolves with the image's id. */
export async function build(client: RemoteClient, b: Build): Promise<string> {
  if (!existsSync(b.folder) || !statSync(b.folder).isDirectory()) throw new UserError(`there is no folder ${b.folder}`)
  const dockerfile = b.dockerfile ?? 'Dockerfile'
  if (!existsSync(join(b.folder, dockerfile))) throw new UserError(`there is no ${dockerfile} in ${b.folder}`)
  const node = await readyNode(client, b.node)
  const body = await client.requestOk('POST', nodePath(node, 'build', {
    t: b.tags, dockerfile, target: b.target, nocache: b.noCache === true ? 'true' : undefined,
    buildargs: b.buildArgs && JSON.stringify(b.buildArgs), labels: b.labels && JSON.stringify(b.labels),
  }), { body: folderTar(b.folder), headers: { 'content-type': 'application/x-tar' } })
  const last = await follow(body, { quiet: b.quiet === true })
  if (last.id === undefined) throw new UserError('the build ended without an image')
  return last.id
}
