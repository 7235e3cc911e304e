/**
 * The types behind the kinds, read from the compact tables in `tables/`. One block is one message:
 *
 *   Name = apps/v1: 1 field type flags; 2 other []type flags; 3 < Inlined
 *
 * `= apiVersion` marks a kind's top level. A field is its protobuf number, its JSON name and its type: a scalar or another
 * message, `[]` for a list, `{}` for a map with string keys, `*` where Go has a pointer (zero then means "set"), `!` where
 * JSON always carries it. `<` puts the fields of a message into this one's JSON. Flags: `merge(key)`, `merge`, `retainKeys`
 * (strategic merge patch), `map(keys)`, `set`, `atomic` (server-side apply), `default=JSON` (completes a map's key).
 * A line `@ group` opens the group whose messages may use its names unqualified; core and meta are open to all.
 */
import { clusterTypes } from './tables/cluster.ts'
import { gantryTypes } from './tables/gantry.ts'
import { groupTypes } from './tables/groups.ts'
import { metaTypes } from './tables/meta.ts'
import { podTypes } from './tables/pod.ts'
import { volumeTypes } from './tables/volumes.ts'

const SCALARS = [
  'string', 'bool', 'int32', 'int64', 'double', 'bytes', 'Quantity', 'Time', 'MicroTime', 'Duration', 'IntOrString',
  'RawExtension', 'FieldsV1', 'ExtraValue',
] as const
/** `RawExtension` is any JSON; `ExtraValue` a list of strings that protobuf wraps in a message. */
export type Scalar = typeof SCALARS[number]

export interface Field {
  number: number
  name: string
  /** The field in a set of managed fields: `f:NAME`. */
  setKey: string
  shape: 'one' | 'list' | 'map'
  scalar: Scalar | undefined
  message: Message | undefined
  pointer: boolean
  required: boolean
  /** The fields of `message` appear in the parent's JSON; only protobuf nests them. */
  inline: boolean
  /** Strategic merge patch: lists are merged by key, or as sets when `mergeKey` is undefined. */
  merge: { mergeKey: string | undefined } | undefined
  retainKeys: boolean
  /** Server-side apply: how a list's items, or a map's or message's fields, are owned. Undefined: granular, lists atomic. */
  ownership: 'map' | 'set' | 'atomic' | undefined
  mapKeys: string[]
  default: unknown
}

export interface Message {
  name: string
  /** The group it was declared in, e.g. `core`, `meta`, `apps`. */
  section: string
  /** Set for the top level of a kind. */
  apiVersion: string | undefined
  /** As in JSON: inlined messages' fields stand beside the others. */
  fields: Map<string, Field>
  /** As in protobuf, by number. */
  wire: (Field | undefined)[]
}

const messages = new Map<string, Message>()
const kinds = new Map<string, Message>()

/** Adds a table of types (see the top of this file). Throws on a name it does not know: a table is code, not input. */
export function addTypes(table: string): void {
  const blocks: { message: Message; body: string }[] = []
  let section = ''
  for (const line of table.split('\n')) {
    if (line === '') continue
    if (line.startsWith('@ ')) section = line.slice(2)
    else if (line.startsWith('  ')) (blocks.at(-1) as { body: string }).body += ` ${line.trim()}`
    else {
      const m = /^(\w+)(?: = (\S+))?:(.*)$/.exec(line)
      if (!m) throw new Error(`types: cannot read ${JSON.stringify(line)}`)
      const message: Message = { name: m[1] as string, section, apiVersion: m[2], fields: new Map(), wire: [] }
      messages.set(`${section}.${message.name}`, message)
      if (message.apiVersion !== undefined) kinds.set(`${message.apiVersion}/${message.name}`, message)
      blocks.push({ message, body: m[3] as string })
    }
  }
  for (const { message, body } of blocks) {
    for (const text of body.split(';')) {
      if (text.trim() === '') continue
      const field = readField(text.trim(), message)
      message.wire[field.number] = field
    }
  }
  for (const { message } of blocks) {
    for (const field of message.wire) if (field) addJson(message, field)
  }
}

function addJson(message: Message, field: Field): void {
  if (!field.inline) message.fields.set(field.name, field)
  else for (const inner of (field.message as Message).wire) if (inner) addJson(message, inner)
}

function readField(text: string, parent: Message): Field {
  const [number = '', name = '', type = '', ...flags] = text.match(/\w+\([^)]*\)|[^\s(]+(?:\([^)]*\))?/g) ?? []
  const m = /^(\[\]|\{\})?(\*)?([\w.]+)(!)?$/.exec(type)
  if (!m) throw new Error(`types: ${parent.name}: cannot read ${JSON.stringify(text)}`)
  const scalar = SCALARS.find(s => s === m[3])
  const field: Field = {
    number: Number(number), name, setKey: `f:${name}`, shape: m[1] === '[]' ? 'list' : m[1] === '{}' ? 'map' : 'one',
    scalar, message: scalar ? undefined : lookUp(m[3] as string, parent),
    pointer: m[2] === '*', required: m[4] === '!', inline: name === '<',
    merge: undefined, retainKeys: false, ownership: undefined, mapKeys: [], default: undefined,
  }
  for (const flag of flags) {
    const [, word = '', argument] = /^([\w,]+)(?:\((.*)\)|=(.*))?$/.exec(flag) ?? []
    if (word === 'merge' || word === 'merge,retainKeys') field.merge = { mergeKey: argument }
    if (word === 'retainKeys' || word === 'merge,retainKeys') field.retainKeys = true
    if (word === 'map' || word === 'set' || word === 'atomic') field.ownership = word
    if (word === 'map') field.mapKeys = (argument as string).split(' ')
    if (word === 'default') field.default = JSON.parse(flag.slice('default='.length))
  }
  return field
}

function lookUp(name: string, parent: Message): Message {
  const found = name.includes('.')
    ? messages.get(name)
    : messages.get(`${parent.section}.${name}`) ?? messages.get(`core.${name}`) ?? messages.get(`meta.${name}`)
  if (!found) throw new Error(`types: ${parent.name} uses unknown type ${name}`)
  return found
}

addTypes([metaTypes, volumeTypes, podTypes, clusterTypes, groupTypes, gantryTypes].join('\n'))

/** The type of a kind's objects; undefined for a kind whose dialect has registered none (its objects are then free-form). */
export function typeOf(apiVersion: string, kind: string): Message | undefined { return kinds.get(`${apiVersion}/${kind}`) }

/** Every registered message of a kind's top level. */
export function kindTypes(): Iterable<Message> { return kinds.values() }
