/**
 * Archives of docker before 1.10: no manifest, but a folder for each layer with its `json` (which names its parent) and `layer.tar`, and
 * `repositories`, which names the top ones. They become images as if built today.
 */
import { createHash } from 'node:crypto'
import { decompress } from '../archive/compression.ts'
import type { TarIndex, TarMember } from '../archive/tar-index.ts'
import { EngineError } from '../engine.ts'
import { parseDocument } from './content.ts'
import { documentOf, memberAt } from './load.ts'
import type { ConfigFile, History, RuntimeConfig } from './media-types.ts'

interface LayerJson {
  id?: string
  parent?: string
  created?: string
  author?: string
  comment?: string
  os?: string
  architecture?: string
  container_config?: RuntimeConfig
  config?: RuntimeConfig
}

export interface LegacyImage { config: ConfigFile; layers: TarMember[]; tags: string[] }

const MAX_DEPTH = 512
const ID = /^[0-9a-f]{64}$/

export async function readLegacy(archive: TarIndex, repositories: Buffer): Promise<LegacyImage[]> {
  const byTop = new Map<string, string[]>()
  for (const [repository, tags] of Object.entries(parseDocument<Record<string, unknown>>(repositories, 'repositories'))) {
    for (const [tag, id] of Object.entries(tags as Record<string, unknown>)) {
      if (typeof id !== 'string' || !ID.test(id)) throw new EngineError('invalid', `repositories of the archive names no layer for ${repository}:${tag}`)
      byTop.set(id, [...byTop.get(id) ?? [], `${repository}:${tag}`])
    }
  }
  const images: LegacyImage[] = []
  for (const [top, tags] of byTop) images.push({ ...await readChain(archive, top), tags })
  return images
}

async function readChain(archive: TarIndex, top: string): Promise<{ config: ConfigFile; layers: TarMember[] }> {
  const chain: { json: LayerJson; layer: TarMember }[] = []
  for (let id: string | undefined = top; id !== undefined && id !== '';) {
    if (!ID.test(id) || chain.length === MAX_DEPTH) throw new EngineError('invalid', `the archive's layers below ${top.slice(0, 12)} form no chain`)
    const json: LayerJson = parseDocument<LayerJson>(await documentOf(archive, archive.members.get(`${id}/json`), `${id}/json`), `${id}/json`)
    const layer = memberAt(archive, `${id}/layer.tar`)
    if (layer?.type !== 'file') throw new EngineError('invalid', `the archive lacks the layer ${id}/layer.tar`)
    chain.unshift({ json, layer })
    id = json.parent
  }
  const { json } = chain.at(-1)!
  const history: History[] = chain.map(c => ({
    ...(c.json.created === undefined ? {} : { created: c.json.created }), ...(c.json.author === undefined ? {} : { author: c.json.author }),
    ...(c.json.comment === undefined ? {} : { comment: c.json.comment }), created_by: (c.json.container_config?.Cmd ?? []).join(' '),
  }))
  const diffIds = await Promise.all(chain.map(c => diffId(archive, c.layer)))
  return {
    layers: chain.map(c => c.layer),
    config: {
      ...(json.created === undefined ? {} : { created: json.created }), ...(json.author === undefined ? {} : { author: json.author }),
      architecture: json.architecture ?? 'amd64', os: json.os ?? 'linux', config: json.config ?? {}, rootfs: { type: 'layers', diff_ids: diffIds }, history,
    },
  }
}

async function diffId(archive: TarIndex, layer: TarMember): Promise<string> {
  const { compression, stream } = await decompress(archive.read(layer))
  if (compression === 'none') {
    stream.destroy()
    return `sha256:${layer.sha256}`
  }
  const hash = createHash('sha256')
  for await (const chunk of stream as AsyncIterable<Buffer>) hash.update(chunk)
  return `sha256:${hash.digest('hex')}`
}
